//! A worker on a file of jobs, and both verifiers over its events.
//!
//! The rule it keeps: all checks use the command line and the files, as an auditor without trust in the worker does.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use erasure_worker::config::example;
use erasure_worker::sandbox::{Person, Sandbox};
use erasure_worker::seal::{Keyring, MasterKey};
use serde_json::{Value, json};
use testkit::people::{self, FIRST};
use testkit::rig::{Places, Rig};
use testkit::times;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::second;

pub struct Batch {
    pub rig: Rig<()>,
}

/// The program with these arguments, without this process's settings.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(testkit::program());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for name in testkit::inherited() {
        command.env_remove(name);
    }
    command
}

impl Batch {
    pub async fn start() -> Batch {
        let mut rig = Rig::without_broker(configuration).await;
        for system in ["cleeng", "loyalty", "easycms", "vitalsource"] {
            rig.set(&format!("systems.{system}.verify_interval"), "100ms");
        }
        let keys = rig.other_command(&["keys", "public"]).output().await.unwrap();
        std::fs::write(rig.path("jwks.json"), keys.stdout).unwrap();
        Batch { rig }
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.rig.path(name)
    }

    /// The stand-ins of the systems.
    pub fn sandbox(&self) -> &Sandbox {
        self.rig.sandbox()
    }

    /// The worker's keys, for forgeries.
    pub fn keyring(&self) -> Keyring {
        erasure_worker::app::keyring(&self.rig.config("state")).unwrap()
    }

    /// Jobs for persons in the stand-ins.
    pub fn jobs(&self, numbers: std::ops::Range<u64>) -> Vec<Value> {
        let range = FIRST + numbers.start..FIRST + numbers.end;
        self.sandbox().add_people(range).iter().map(job).collect()
    }

    fn spawn(&self, jobs: &[Value]) -> Child {
        let lines: Vec<_> = jobs.iter().map(Value::to_string).collect();
        std::fs::write(self.path("jobs.ndjson"), lines.join("\n") + "\n").unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("worker.log")).unwrap();
        let mut command = self.rig.other_command(&["batch"]);
        command.arg("--input").arg(self.path("jobs.ndjson")).arg("--events").arg(self.path("events.ndjson"));
        command.stderr(log).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Processes jobs. Each must end.
    pub async fn run(&self, jobs: &[Value]) {
        let before = self.final_events().len();
        let status = self.spawn(jobs).wait().await.unwrap();
        let log = || std::fs::read_to_string(self.path("worker.log")).unwrap_or_default();
        assert!(matches!(status.code(), Some(0 | 1)), "{status}\n{}", log());
        assert_eq!(self.final_events().len(), before + jobs.len(), "{}", log());
    }

    /// Processes jobs, with a SIGKILL after each of these numbers of ended jobs.
    pub async fn run_with_kills(&self, jobs: &[Value], kills: &[usize]) {
        for ended in kills {
            let mut child = self.spawn(jobs);
            while self.final_events().len() < *ended {
                assert!(child.try_wait().unwrap().is_none(), "the worker ended before the kill");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child.kill().await.unwrap();
        }
        self.spawn(jobs).wait().await.unwrap();
    }

    /// The complete lines of the events' file. A kill may leave an incomplete last line.
    pub fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("events.ndjson")).unwrap_or_default();
        text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).map(str::to_owned).collect()
    }

    /// The final events in chain order, as lines.
    pub fn final_events(&self) -> Vec<String> {
        let mut events: Vec<(u64, String)> = self
            .events()
            .into_iter()
            .filter_map(|line| {
                let event: Value = serde_json::from_str(&line).unwrap();
                let receipt = event["data"]["receipt"].as_str()?;
                Some((claims(receipt)["number"].as_u64().unwrap(), line))
            })
            .collect();
        events.sort();
        events.into_iter().map(|(_, line)| line).collect()
    }

    /// Runs both verifiers with the same arguments. They must agree. Returns our verifier's report.
    pub async fn verify(&self, arguments: &[&str]) -> Value {
        let keys = self.path("jwks.json");
        let keys = keys.to_str().unwrap();
        let ours = program(&["receipt", "verify", "--json", "--keys", keys]).args(arguments).output().await.unwrap();
        let theirs = second::verify(&["--keys", keys], arguments).await;
        let (ours, theirs) = (answer(&ours), answer(&theirs));
        assert_eq!(outline(&ours), outline(&theirs), "the two verifiers differ on {arguments:?}");
        ours
    }

    /// Runs both verifiers on these texts, each in a file.
    pub async fn verify_texts(&self, texts: &[String], arguments: &[&str]) -> Value {
        let dir = tempfile::tempdir_in(self.rig.folder.path()).unwrap();
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for (number, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("{number}.txt"));
            std::fs::write(&path, text).unwrap();
            all.push(path.to_str().unwrap().to_owned());
        }
        self.verify(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
    }
}

/// A verifier's report. Its exit code must agree.
fn answer(output: &Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = if report["valid"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{report:#}");
    report
}

/// The parts in which both verifiers must agree: all except places and texts.
fn outline(report: &Value) -> Value {
    let mut faults: Vec<Value> = report["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| json!([fault["kind"], fault["number"], fault["through"]]))
        .collect();
    faults.sort_by_key(Value::to_string);
    json!({
        "valid": report["valid"], "receipts": report["receipts"], "opened": report["opened"],
        "chains": report["chains"], "faults": faults,
    })
}

/// The faults of a report as kind and number.
pub fn faults(report: &Value) -> Vec<(String, Option<u64>)> {
    let each = report["faults"].as_array().unwrap().iter();
    let mut faults: Vec<_> =
        each.map(|fault| (fault["kind"].as_str().unwrap().to_owned(), fault["number"].as_u64())).collect();
    faults.sort();
    faults
}

/// A receipt's claims, without a check of its signature.
pub fn claims(receipt: &str) -> Value {
    Value::Object(erasure_worker::receipt::keys::claimed(receipt).unwrap())
}

/// The receipt in an event's line.
pub fn receipt(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    event["data"]["receipt"].as_str().unwrap().to_owned()
}

/// A job for a person. The jobs alternate between each system and all four. Some fail, some are previews.
pub fn job(person: &Person) -> Value {
    let (cleeng, loyalty) = (people::backend(person), people::program(person, "integration_id"));
    let shop = people::easycms(person);
    let mut locked = shop.clone();
    locked["customer_password"] = json!("not the password");
    let mut books = people::vitalsource(person);
    books["overwrite"] = json!(["email", "first_name"]);
    let (targets, mode) = match person.number % 7 {
        0 => (vec![cleeng], "erase"),
        1 => (vec![loyalty], "erase"),
        2 => (vec![shop], "erase"),
        3 => (vec![books], "erase"),
        4 => (vec![locked], "erase"),
        5 => (vec![cleeng, loyalty], "preview"),
        _ => (vec![cleeng, loyalty, shop, books], "erase"),
    };
    let mut job = people::job(&targets);
    job["job_id"] = json!(Uuid::new_v5(&Uuid::NAMESPACE_OID, person.email.as_bytes()));
    job["mode"] = json!(mode);
    job["due_at"] = json!(times::due_in_days(30));
    job["receipt_salt"] = json!(format!("salt of {}", person.number));
    job
}

fn configuration(places: &Places<'_>) -> String {
    std::fs::create_dir(places.folder.join("keys")).unwrap();
    std::fs::write(places.folder.join("keys/master.key"), MasterKey::generate().as_bytes()).unwrap();
    example::render(places.stand)
        .replace("requests_per_minute = 50 ", "requests_per_minute = 100000 ")
        .replace("initial_interval = \"500ms\"", "initial_interval = \"50ms\"")
        .replace("max_interval = \"15m\"", "max_interval = \"1s\"")
}

/// A job's time in the form of events, receipts and packs.
pub fn normalised(time: &Value) -> String {
    time.as_str().unwrap().replace('Z', ".000Z")
}

/// Writes lines to a file.
pub fn write_lines(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

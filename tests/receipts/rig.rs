//! A worker on a file of jobs, the stand-ins it calls, and both verifiers over what it wrote.
//!
//! The rule it keeps: everything is checked through the command line and the files, as somebody
//! would who does not trust the worker.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use erasure_worker::config::example;
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::sandbox::{Person, RunningSandbox, Sandbox};
use erasure_worker::seal::Keyring;
use serde_json::{Value, json};
use testkit::times;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::second;

/// The first person's number: long, so that no identifier is part of anything else by chance.
pub const FIRST: u64 = 7_301_500;

pub struct Rig {
    pub sandbox: RunningSandbox,
    pub folder: tempfile::TempDir,
}

/// A program over the wanted arguments, with nothing of this process's configuration.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_erasure-worker"));
    command.args(arguments).env_remove("ERASURE_CONFIG").stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Rig {
    pub async fn start() -> Rig {
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let folder = tempfile::Builder::new().prefix("receipts-").tempdir().unwrap();
        let text = example::render(sandbox.addr)
            .replace("requests_per_minute = 50 ", "requests_per_minute = 100000 ")
            .replace("initial_interval = \"500ms\"", "initial_interval = \"50ms\"")
            .replace("max_interval = \"15m\"", "max_interval = \"1s\"");
        std::fs::write(folder.path().join("worker.toml"), text).unwrap();
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        let key = erasure_worker::seal::MasterKey::generate();
        std::fs::write(folder.path().join("keys/master.key"), key.as_bytes()).unwrap();
        let rig = Rig { sandbox, folder };
        let keys = rig.worker(&["keys", "public"]).output().await.unwrap();
        std::fs::write(rig.path("jwks.json"), keys.stdout).unwrap();
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> Config {
        Config::load(Some(&self.path("worker.toml")), &Surroundings::default()).unwrap()
    }

    /// The worker's own keys, to forge with.
    pub fn keyring(&self) -> Keyring {
        erasure_worker::app::keyring(&self.config()).unwrap()
    }

    fn worker(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.arg("--config").arg(self.path("worker.toml"));
        for system in ["CLEENG", "LOYALTY", "EASYCMS", "VITALSOURCE"] {
            command.env(format!("ERASURE__SYSTEMS__{system}__VERIFY_INTERVAL"), "100ms");
        }
        command
    }

    /// The jobs of persons whom the stand-ins know.
    pub fn jobs(&self, numbers: std::ops::Range<u64>) -> Vec<Value> {
        let range = FIRST + numbers.start..FIRST + numbers.end;
        self.sandbox.sandbox().add_people(range).iter().map(job).collect()
    }

    fn start_batch(&self, jobs: &[Value]) -> Child {
        let lines: Vec<_> = jobs.iter().map(Value::to_string).collect();
        std::fs::write(self.path("jobs.ndjson"), lines.join("\n") + "\n").unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("worker.log")).unwrap();
        let mut command = self.worker(&["batch"]);
        command.arg("--input").arg(self.path("jobs.ndjson")).arg("--events").arg(self.path("events.ndjson"));
        command.stderr(log).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Works through jobs; each must end.
    pub async fn batch(&self, jobs: &[Value]) {
        let before = self.final_events().len();
        let status = self.start_batch(jobs).wait().await.unwrap();
        let log = || std::fs::read_to_string(self.path("worker.log")).unwrap_or_default();
        assert!(matches!(status.code(), Some(0 | 1)), "{status}\n{}", log());
        assert_eq!(self.final_events().len(), before + jobs.len(), "{}", log());
    }

    /// Works through jobs, killed by SIGKILL each time so many of them have ended.
    pub async fn batch_with_kills(&self, jobs: &[Value], kills: &[usize]) {
        for ended in kills {
            let mut child = self.start_batch(jobs);
            while self.final_events().len() < *ended {
                assert!(child.try_wait().unwrap().is_none(), "the worker was done before it was to be killed");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child.kill().await.unwrap();
        }
        self.start_batch(jobs).wait().await.unwrap();
    }

    /// The lines of the events' file. One that a kill cut off is no line yet.
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

    /// Both verifiers over the same arguments. They must agree; the report of ours.
    pub async fn verify(&self, arguments: &[&str]) -> Value {
        let keys = self.path("jwks.json");
        let keys = keys.to_str().unwrap();
        let ours = program(&["receipt", "verify", "--json", "--keys", keys]).args(arguments).output().await.unwrap();
        let theirs = second::verify(&["--keys", keys], arguments).await;
        let (ours, theirs) = (answer(&ours), answer(&theirs));
        assert_eq!(outline(&ours), outline(&theirs), "the two verifiers differ on {arguments:?}");
        ours
    }

    /// Both verifiers over these texts, each a file.
    pub async fn verify_texts(&self, texts: &[String], arguments: &[&str]) -> Value {
        let dir = tempfile::tempdir_in(self.folder.path()).unwrap();
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for (number, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("{number}.txt"));
            std::fs::write(&path, text).unwrap();
            all.push(path.to_str().unwrap().to_owned());
        }
        self.verify(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
    }
}

/// A verifier's report; its exit code must say the same.
fn answer(output: &Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = if report["valid"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{report:#}");
    report
}

/// What both verifiers must say alike: all but places and words.
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

/// What a receipt says, unproven.
pub fn claims(receipt: &str) -> Value {
    Value::Object(erasure_worker::receipt::keys::claimed(receipt).unwrap())
}

/// The receipt of an event's line.
pub fn receipt(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    event["data"]["receipt"].as_str().unwrap().to_owned()
}

/// A job for a person: each system and all of them in turn; some fail, some only look.
pub fn job(person: &Person) -> Value {
    let cleeng = json!({
        "system": "cleeng", "flow": "backend", "customer_id": person.customer_id, "customer_email": person.email,
    });
    let loyalty = json!({
        "system": "loyalty", "method": "program_api", "member": { "integration_id": person.integration_id },
    });
    let shop = json!({ "system": "easycms", "email": person.email, "customer_password": person.customer_password });
    let locked = json!({ "system": "easycms", "email": person.email, "customer_password": "not the password" });
    let books = json!({
        "system": "vitalsource", "guid": person.guid, "reference": person.reference, "overwrite": ["email", "first_name"],
        "codes": person.codes.iter().map(|code| json!({ "code": code })).collect::<Vec<_>>(),
    });
    let (targets, mode) = match person.number % 7 {
        0 => (vec![cleeng], "erase"),
        1 => (vec![loyalty], "erase"),
        2 => (vec![shop], "erase"),
        3 => (vec![books], "erase"),
        4 => (vec![locked], "erase"),
        5 => (vec![cleeng, loyalty], "preview"),
        _ => (vec![cleeng, loyalty, shop, books], "erase"),
    };
    json!({
        "schema": "erasure.job/v1", "job_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, person.email.as_bytes()),
        "tenant": "acme", "environment": "sandbox", "mode": mode, "requested_at": times::a_week_ago(),
        "due_at": times::due_in_days(30), "regulation": "gdpr", "receipt_salt": format!("salt of {}", person.number),
        "confirmation": { "confirmed_at": times::a_week_ago(), "by": "subject" }, "targets": targets,
    })
}

/// A job's time, as events, receipts and packs repeat it.
pub fn told(time: &Value) -> String {
    time.as_str().unwrap().replace('Z', ".000Z")
}

/// Writes lines to a file.
pub fn write_lines(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

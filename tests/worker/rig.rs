//! A worker under test: the binary as a child process, with a sandbox, a client and names of its own.
//!
//! The rule it keeps: every test ends in [`Rig::end`], which checks what holds for every job
//! whatever the test was about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use erasure_worker::broker::topology::Topology;
use erasure_worker::sandbox::{Entry, Operation, Person, RunningSandbox, Sandbox};
use lapin::BasicProperties;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::amqp::{Client, Message};
use testkit::config::systems;
use testkit::rabbit::Rabbit;
use testkit::soon;
use tokio::process::{Child, Command};

use crate::{checks, people};

/// Whom the systems' harmless reads ask for.
pub const NOBODY: [&str; 4] = ["0", "erasure-worker~probe", "probe@example.com", "erasure-worker-probe"];

/// The first person's number: long, so that no identifier is part of anything else by chance.
const FIRST_PERSON: u64 = 7_301_500;

pub struct Rig {
    pub sandbox: RunningSandbox,
    pub client: Client,
    pub folder: tempfile::TempDir,
    prefix: String,
    settings: Vec<(String, String)>,
    worker: Option<Child>,
    planted: Mutex<Vec<String>>,
    next_person: AtomicU64,
    letters_are_sealed: bool,
}

impl Rig {
    /// Starts everything. `settings` are keys of the configuration, such as
    /// `("systems.loyalty.member_proof", "otp")`.
    pub async fn start(settings: &[(&str, &str)]) -> Rig {
        let mut rig = Rig::without_worker(settings).await;
        rig.start_worker();
        rig
    }

    /// Starts everything but the worker.
    pub async fn without_worker(settings: &[(&str, &str)]) -> Rig {
        let url = Rabbit::shared().url();
        let prefix = format!("w{}", uuid::Uuid::new_v4().simple());
        let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let folder = tempfile::Builder::new().prefix("worker-").tempdir().unwrap();
        std::fs::write(folder.path().join("worker.toml"), configuration(&sandbox, &url, &prefix)).unwrap();
        let sealed = !settings.contains(&("dead_letters.seal", "false"));
        let settings: Vec<_> = settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        let applied = command(folder.path(), &settings, &["topology", "apply"]).output().await.unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        Rig {
            client: Client::connect(&url, &prefix).await,
            sandbox,
            folder,
            prefix,
            settings,
            worker: None,
            planted: Mutex::default(),
            next_person: AtomicU64::new(FIRST_PERSON),
            letters_are_sealed: sealed,
        }
    }

    /// Sets a key of the configuration for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((variable(key), value.to_owned()));
    }

    /// The variables that the worker is started with.
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.settings.iter().cloned().collect()
    }

    pub fn start_worker(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let child = command(self.folder.path(), &self.settings, &["run"]).stderr(log).spawn().unwrap();
        self.worker = Some(child);
    }

    /// Runs another command of the binary to its end; its log goes to the worker's.
    pub async fn run(&self, arguments: &[&str]) -> std::process::ExitStatus {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = command(self.folder.path(), &self.settings, arguments);
        soon("the command's end", command.stderr(log).status()).await.unwrap()
    }

    /// Ends the worker as an operator does; it must end well.
    pub async fn stop_worker(&mut self) {
        self.signal(Signal::TERM);
        let mut worker = self.worker.take().expect("a running worker");
        let status = soon("the worker's end", worker.wait()).await.unwrap();
        assert!(status.success(), "the worker ended with {status}");
    }

    /// Ends the worker as a power cut does.
    pub async fn kill_worker(&mut self) {
        let mut worker = self.worker.take().expect("a running worker");
        worker.kill().await.unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = self.worker.as_ref().and_then(Child::id).expect("a running worker");
        kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap();
    }

    /// A person whom all four systems know, and whose identifiers must not appear anywhere else.
    pub fn person(&self) -> Person {
        let number = self.next_person.fetch_add(1, Ordering::Relaxed);
        let person = self.sandbox.sandbox().add_people(number..number + 1).remove(0);
        let Person { email, customer_id, database_id, member_id, integration_id, card_id, .. } = person.clone();
        let Person { access_token, current_password, customer_password, guid, reference, codes, .. } = person.clone();
        self.plant([email, customer_id, database_id, member_id, integration_id, card_id, access_token]);
        self.plant([current_password, customer_password, guid, reference]);
        self.plant([format!("First{number}"), format!("Last{number}"), format!("Affiliate{number}")]);
        self.plant(codes);
        person
    }

    /// Texts that must not appear in an event, a dead letter, a log line or the store.
    pub fn plant(&self, texts: impl IntoIterator<Item = String>) {
        self.planted.lock().unwrap().extend(texts);
    }

    /// Publishes a job as its publisher does.
    pub async fn submit(&self, job: &Value) {
        self.submit_bytes(job.to_string().as_bytes(), &people::id(job)).await;
    }

    /// Publishes a body with the correlation id that belongs to this job id.
    pub async fn submit_bytes(&self, body: &[u8], job_id: &str) {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_correlation_id(checks::correlation_of(job_id).as_str().into());
        self.client.publish("requests", "job", body, properties).await;
    }

    /// Publishes a cancellation.
    pub async fn cancel(&self, job: &Value) {
        let cancel = serde_json::json!({
            "schema": "erasure.cancel/v1", "tenant": job["tenant"], "job_id": job["job_id"],
        });
        self.client.publish("requests", "cancel", cancel.to_string().as_bytes(), BasicProperties::default()).await;
    }

    /// The job's next (or first) event of a kind: `completed`, `needs_input`…
    pub async fn event(&self, job: &Value, what: &str) -> Message {
        let (id, kind) = (people::id(job), format!("erasure.job.{what}.v1"));
        let seen = format!("{what} of {id}");
        self.client.events.first(&seen, |event| event.job_id() == id && event.json["type"] == *kind).await
    }

    /// The job's final event of a run; it must be of this kind.
    pub async fn ended(&self, job: &Value, what: &str, run: u64) -> Message {
        let id = people::id(job);
        let is_end = |event: &Message| event.job_id() == id && event.is_final() && event.data("run") == run;
        let event = self.client.events.first(&format!("the end of run {run} of {id}"), is_end).await;
        assert_eq!(event.data("outcome"), what, "{}", event.json);
        event
    }

    /// Submits a job and waits for its end, which must be of this kind.
    pub async fn runs_to(&self, job: &Value, what: &str) -> Message {
        self.submit(job).await;
        self.ended(job, what, 1).await
    }

    /// The job's dead letter of a run.
    pub async fn dead_letter(&self, job: &Value, run: u64) -> Message {
        let (id, run) = (people::id(job), run.to_string());
        let wanted = |letter: &Message| letter.job_id() == id && letter.header("x-erasure-run") == run;
        self.client.dead_letters.first(&format!("the dead letter of {id}"), wanted).await
    }

    /// What was called at a system for its jobs, in order: without the harmless reads of nobody.
    pub fn calls(&self, system: &str) -> Vec<Operation> {
        let entries = self.sandbox.sandbox().entries(0);
        let of_a_job = |entry: &&Entry| !entry.subject.as_deref().is_some_and(|subject| NOBODY.contains(&subject));
        let of_system = entries.iter().filter(|entry| entry.system == system);
        of_system.filter(of_a_job).map(|entry| entry.operation).collect()
    }

    /// How many calls were destructive, at all systems.
    pub fn destructive_calls(&self) -> usize {
        self.sandbox.sandbox().entries(0).iter().filter(|entry| entry.destructive).count()
    }

    /// What must be left of a person in a system, after everything was erased from it that was asked.
    pub fn remains(&self, person: &Person, system: &str, expected: &[&str]) {
        let mut remains = self.sandbox.sandbox().remains(person);
        remains.retain(|what| what.starts_with(system));
        assert_eq!(remains, expected);
    }

    /// Stops the worker and checks what holds for every job; removes what the test made.
    pub async fn end(mut self) {
        if self.worker.is_some() {
            self.stop_worker().await;
        }
        self.client.fence().await;
        let planted = self.planted.lock().unwrap().clone();
        checks::events(&self.client.events.all(), &self.prefix, &planted);
        checks::dead_letters(&self.client.dead_letters.all(), &planted, self.letters_are_sealed);
        checks::parked(&self.client.resumed.all(), &planted);
        checks::holds_none_of(&planted, "the log", &std::fs::read(self.log_file()).unwrap_or_default());
        checks::folder_holds_none_of(&planted, &self.folder.path().join("state"));
        checks::ledger(&self.sandbox.sandbox().summary());
        let topology = Topology::new(&self.prefix);
        let queues: Vec<_> = topology.queues.into_iter().map(|queue| queue.name).collect();
        let exchanges: Vec<_> = topology.exchanges.into_iter().map(|exchange| exchange.name).collect();
        self.client.remove(&queues, &exchanges).await;
    }

    /// What the test's names on the broker begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the worker has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
            let calls: Vec<_> = self.sandbox.sandbox().entries(0).iter().map(|entry| entry.operation).collect();
            let events: Vec<_> = self.client.events.all().iter().map(|event| event.json.to_string()).collect();
            let events = events.join("\n");
            let _ =
                write!(std::io::stderr(), "the worker's log:\n{log}\nthe calls: {calls:?}\nthe events:\n{events}\n");
        }
    }
}

/// `systems.loyalty.member_proof` as the variable that overrides it.
fn variable(key: &str) -> String {
    format!("ERASURE__{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The binary, ended by the kernel when the test's thread ends.
fn command(folder: &Path, settings: &[(String, String)], arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_erasure-worker")])
        .args(arguments)
        .arg("--config")
        .arg(folder.join("worker.toml"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("ERASURE_LOG", "debug")
        .envs(settings.iter().map(|(key, value)| (key, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

fn configuration(sandbox: &RunningSandbox, amqp_url: &str, prefix: &str) -> String {
    let master_key = hex::encode([uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat());
    let pace = "verify_interval = \"100ms\"\nhold_probe_interval = \"200ms\"\nrequests_per_minute = 600000";
    let systems = systems(sandbox.addr, pace)
        .replace("[systems.loyalty]", "[systems.loyalty]\npreserved = [\"offer_responses\"]");
    format!(
        r#"
[worker]
environment = "sandbox"
id = "worker-0"
state_dir = "state"
master_key = "{master_key}"
inline_wait_max = "2s"

[retry]
initial_interval = "20ms"

[amqp]
url = "{amqp_url}"
prefix = "{prefix}"

[ops]
listen = "127.0.0.1:0"

{systems}
"#
    )
}

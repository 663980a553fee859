//! One test's surroundings: names of its own on a broker, its own stand-ins, its own folder.
//!
//! The rule it keeps: nothing is shared with another test but the broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::sandbox::{RunningSandbox, Sandbox};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use secrecy::SecretString;
use serde_json::Value;

use crate::events::Events;
use crate::worker::Worker;

/// How long anything may take before a test gives up; none relies on it passing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// How long one attempt to connect may take.
const CONNECTING: Duration = Duration::from_secs(20);

const MASTER_KEY: &str = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";

/// Waits for `future`, or fails saying what it waited for.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Everything around the workers of one test.
pub struct Rig {
    pub url: String,
    pub prefix: String,
    pub stand: RunningSandbox,
    pub events: Events,
    pub folder: tempfile::TempDir,
    /// The worker's program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
}

impl Rig {
    /// Stand-ins, a configuration, the topology, and a queue that keeps every event.
    pub async fn start(url: String) -> Rig {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stand = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir().unwrap();
        let prefix = format!("c{}", uuid::Uuid::new_v4().simple());
        let config = folder.path().join("worker.toml");
        std::fs::write(&config, configuration(stand.addr, &url, &prefix, folder.path())).unwrap();
        let amqp = AmqpConfig { prefix: prefix.clone(), ..AmqpConfig::new(SecretString::from(url.clone())) };
        AmqpBroker::declare_topology(&amqp).await.unwrap();
        let events = Events::follow(&url, &prefix).await;
        let program = PathBuf::from(env!("CARGO_BIN_EXE_erasure-worker"));
        Rig { url, prefix, stand, events, folder, program, config }
    }

    /// What the stand-ins hold.
    pub fn sandbox(&self) -> &Sandbox {
        self.stand.sandbox()
    }

    /// The path of a state directory.
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The worker's command, for this configuration and a state directory, with settings on top.
    pub fn command(&self, state: &str, settings: &[(&str, &str)]) -> tokio::process::Command {
        self.wrapped(&[], state, settings)
    }

    /// As [`Rig::command`], started by another program.
    pub fn wrapped(&self, wrapper: &[&str], state: &str, settings: &[(&str, &str)]) -> tokio::process::Command {
        // The kernel ends it with this process, however this one ends.
        let mut command = tokio::process::Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(wrapper).arg(&self.program);
        command.arg("run").arg("--config").arg(&self.config);
        command.env("ERASURE__WORKER__STATE_DIR", self.state_dir(state)).env("ERASURE_LOG", "erasure_worker=debug");
        command.envs(settings.iter().copied());
        command
    }

    /// Starts a worker process.
    pub fn worker(&self, state: &str, settings: &[(&str, &str)]) -> Worker {
        Worker::spawn(self.command(state, settings), &self.folder.path().join(format!("{state}.log")))
    }

    /// The configuration as the worker reads it.
    pub fn config(&self, state: &str) -> Config {
        let mut surroundings = Surroundings::of_process();
        let state = self.state_dir(state).display().to_string();
        surroundings.variables.insert("ERASURE__WORKER__STATE_DIR".to_owned(), state);
        Config::load(Some(&self.config), &surroundings).unwrap()
    }

    /// A connection that knows nothing of the worker's layer; tried until the broker is there.
    pub async fn connect(&self) -> Connection {
        connect(&self.url).await
    }

    /// Publishes jobs with confirms, and again over a new connection what was not confirmed.
    pub async fn publish(&self, jobs: &[Value]) {
        self.send("job", jobs).await;
    }

    /// Sends a cancellation.
    pub async fn cancel(&self, job_id: &str) {
        let body = serde_json::json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": job_id });
        self.send("cancel", &[body]).await;
    }

    async fn send(&self, key: &str, bodies: &[Value]) {
        let mut sent = 0;
        while sent < bodies.len() {
            let connection = self.connect().await;
            let Ok(channel) = connection.create_channel().await else { continue };
            if channel.confirm_select(ConfirmSelectOptions::default()).await.is_err() {
                continue;
            }
            while sent < bodies.len() && self.send_one(&channel, key, &bodies[sent]).await {
                sent += 1;
            }
            let _ = connection.close(200, ShortString::from("")).await;
        }
    }

    async fn send_one(&self, channel: &Channel, key: &str, body: &Value) -> bool {
        let id = body["job_id"].as_str().unwrap_or_default();
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(ShortString::from(id));
        let exchange = ShortString::from(format!("{}.requests", self.prefix));
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let body = body.to_string();
        let published = channel.basic_publish(exchange, ShortString::from(key), options, body.as_bytes(), properties);
        match published.await {
            Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
            Err(_) => false,
        }
    }

    /// How many messages a queue holds ready.
    pub async fn depth(&self, queue: &str) -> u32 {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = ShortString::from(format!("{}.{queue}", self.prefix));
        let count = channel.queue_declare(name, passive, FieldTable::default()).await.unwrap().message_count();
        let _ = connection.close(200, ShortString::from("")).await;
        count
    }

    /// Waits until a queue holds exactly `count`: the broker counts a little later than it acts.
    pub async fn holds(&self, queue: &str, count: u32) {
        let (mut depth, mut since) = (self.depth(queue).await, Instant::now());
        while depth != count {
            assert!(since.elapsed() < PATIENCE, "{depth} messages stay in {queue}, not {count}: {}", self.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.depth(queue).await;
            if now != depth {
                (depth, since) = (now, Instant::now());
            }
        }
    }

    /// The end of what the workers have logged.
    fn last_words(&self) -> String {
        let logs = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let end = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{}:\n{}\n", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        logs.map(end).collect()
    }

    /// Nothing waits anywhere for a worker.
    pub async fn is_empty(&self) {
        for queue in ["jobs", "wait.5s", "wait.30s", "wait.3m", "wait.15m", "wait.1h"] {
            self.holds(queue, 0).await;
        }
    }

    /// The dead letters, taken out: properties and body.
    pub async fn dead_letters(&self) -> Vec<(BasicProperties, Vec<u8>)> {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let name = ShortString::from(format!("{}.dead-letters", self.prefix));
        let mut letters = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = channel.basic_get(name.clone(), options).await.unwrap() {
            letters.push((got.delivery.properties, got.delivery.data));
        }
        let _ = connection.close(200, ShortString::from("")).await;
        letters
    }

    /// No call was made that a careful worker would not have made.
    pub fn nothing_repeated(&self) {
        let summary = self.sandbox().summary();
        assert_eq!(summary.ambiguous_repeats, [], "ambiguous calls repeated");
        assert_eq!(summary.effective_repeats, [], "effective calls repeated");
        assert_eq!(summary.otp_repeats, [], "one-time passwords sent twice");
        assert!(summary.misuse.is_empty(), "{:?}", summary.misuse);
    }
}

/// Connects, trying until it works.
pub async fn connect(url: &str) -> Connection {
    soon("the broker", async {
        loop {
            // A broker on its way down may take a connection and say nothing more.
            let attempt = Connection::connect(url, ConnectionProperties::default());
            match tokio::time::timeout(CONNECTING, attempt).await {
                Ok(Ok(connection)) => return connection,
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await
}

/// Declares a queue that keeps all events, and binds it.
pub async fn keep_events(channel: &Channel, prefix: &str) -> ShortString {
    let name = ShortString::from(format!("{prefix}.kept"));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert(ShortString::from("x-queue-type"), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(name.clone(), options, arguments).await.unwrap();
    let exchange = ShortString::from(format!("{prefix}.events"));
    let all = ShortString::from("#");
    channel.queue_bind(name.clone(), exchange, all, QueueBindOptions::default(), FieldTable::default()).await.unwrap();
    name
}

fn configuration(stand: SocketAddr, url: &str, prefix: &str, folder: &Path) -> String {
    let common = "requests_per_minute = 600000\nmax_in_flight = 64\nverify_interval = \"100ms\"\n\
                  hold_probe_interval = \"1s\"\ntimeout = \"20s\"";
    let import = folder.join("import");
    format!(
        r#"
[worker]
environment = "sandbox"
id = "chaos"
concurrency = 64
state_dir = "state"
master_key = "{MASTER_KEY}"
inline_wait_max = "10s"
in_hand_max = "2m"
[retry]
initial_interval = "20ms"
max_interval = "400ms"
max_attempts = 20
[amqp]
url = "{url}"
prefix = "{prefix}"
[ops]
listen = "127.0.0.1:0"
[systems.cleeng]
kind = "cleeng"
core_url = "http://{stand}/cleeng/core"
rpc_url = "http://{stand}/cleeng/rpc"
mediastore_url = "http://{stand}/cleeng/mediastore"
publisher_token = "publisher-token"
{common}
[systems.core]
kind = "cleeng"
core_url = "http://{stand}/cleeng@core/core"
rpc_url = "http://{stand}/cleeng@core/rpc"
mediastore_url = "http://{stand}/cleeng@core/mediastore"
publisher_token = "publisher-token"
termination = "core"
{common}
[systems.loyalty]
kind = "zeta_loyalty"
base_url = "http://{stand}/loyalty"
program_token = "program-token"
{common}
[systems.loyalty.import]
dir = "{import}"
key = "integration_id"
[systems.codes]
kind = "zeta_loyalty"
base_url = "http://{stand}/loyalty@codes"
program_token = "program-token"
member_proof = "otp"
{common}
[systems.tokens]
kind = "zeta_loyalty"
base_url = "http://{stand}/loyalty@tokens"
program_token = "program-token"
member_proof = "token"
{common}
[systems.easycms]
kind = "easycms"
base_url = "http://{stand}/easycms"
authorization = "easycms-token"
username = "shop"
password = "easycms-password"
account = "1"
{common}
[systems.vitalsource]
kind = "vitalsource"
base_url = "http://{stand}/vitalsource"
api_key = "VITALSOURCEKEY"
abandon_url = "http://{stand}/requester/abandon"
{common}
"#,
        import = import.display(),
    )
}

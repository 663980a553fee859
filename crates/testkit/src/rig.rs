//! One test's surroundings: stand-ins of the systems, a folder with a worker's configuration, and names of its own on
//! a broker.
//!
//! The rule it keeps: tests share nothing but the broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::sandbox::{Person, RunningSandbox, Sandbox};
use lapin::message::Delivery;
use lapin::{BasicProperties, Channel, Connection};
use secrecy::SecretString;
use serde_json::Value;
use tokio::process::Command;

use crate::config::{head, system};
use crate::events::Events;
use crate::worker::Worker;
use crate::{PATIENCE, amqp, connectors, people};

/// The queues in which jobs wait for a worker.
pub const WAITING: [&str; 6] = ["jobs", "wait.5s", "wait.30s", "wait.3m", "wait.15m", "wait.1h"];

/// The places that a configuration names.
pub struct Places<'a> {
    /// The address of the stand-ins.
    pub stand: SocketAddr,
    /// The broker's URL; empty without a broker.
    pub url: &'a str,
    /// The start of every name on the broker.
    pub prefix: &'a str,
    pub folder: &'a Path,
}

/// Everything around the workers of one test.
pub struct Rig<E = Events> {
    pub url: String,
    pub prefix: String,
    pub stand: RunningSandbox,
    /// The publisher's view of the events.
    pub events: E,
    pub folder: tempfile::TempDir,
    /// The worker's program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Variables that override the configuration.
    variables: Vec<(String, String)>,
    next_person: AtomicU64,
}

impl Rig {
    /// A rig for many jobs at once and workers that are killed. A queue keeps every event.
    pub async fn start(url: String) -> Rig {
        Rig::with_events(url, Events::follow).await
    }
}

impl<E> Rig<E> {
    /// As [`Rig::start`], with another reader of the events. It gets the broker's URL and the prefix.
    pub async fn with_events<F: Future<Output = E>>(url: String, follow: impl FnOnce(String, String) -> F) -> Rig<E> {
        let Rig { prefix, stand, folder, program, config, variables, next_person, .. } =
            Rig::on(&url, for_many_jobs).await;
        connectors::add(stand.sandbox());
        let events = follow(url.clone(), prefix.clone()).await;
        Rig { url, prefix, stand, events, folder, program, config, variables, next_person }
    }
}

impl Rig<()> {
    /// Starts stand-ins and declares the topology, for this configuration. No events are read.
    pub async fn on(url: &str, configuration: impl FnOnce(&Places<'_>) -> String) -> Rig<()> {
        let rig = Rig::set_up(url, configuration).await;
        let url = SecretString::from(url.to_owned());
        let amqp = AmqpConfig { prefix: rig.prefix.clone(), ..AmqpConfig::new(url) };
        AmqpBroker::declare_topology(&amqp).await.unwrap();
        rig
    }

    /// Starts stand-ins for this configuration. The jobs are in files.
    pub async fn without_broker(configuration: impl FnOnce(&Places<'_>) -> String) -> Rig<()> {
        Rig::set_up("", configuration).await
    }

    async fn set_up(url: &str, configuration: impl FnOnce(&Places<'_>) -> String) -> Rig<()> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stand = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let folder = tempfile::Builder::new().prefix("rig-").tempdir().unwrap();
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let config = folder.path().join("worker.toml");
        let places = Places { stand: stand.addr, url, prefix: &prefix, folder: folder.path() };
        std::fs::write(&config, configuration(&places)).unwrap();
        Rig {
            url: url.to_owned(),
            prefix,
            stand,
            events: (),
            folder,
            program: crate::program(),
            config,
            variables: Vec::new(),
            next_person: AtomicU64::new(people::FIRST),
        }
    }
}

impl<E> Rig<E> {
    /// The stand-ins of the systems.
    pub fn sandbox(&self) -> &Sandbox {
        self.stand.sandbox()
    }

    /// A new person with data in all four systems. The numbers begin at [`people::FIRST`].
    pub fn person(&self) -> Person {
        self.people(1).remove(0)
    }

    /// This many new persons.
    pub fn people(&self, count: u64) -> Vec<Person> {
        let first = self.next_person.fetch_add(count, Ordering::Relaxed);
        self.sandbox().add_people(first..first + count)
    }

    /// The person's data that a system still has.
    pub fn left(&self, person: &Person, system: &str) -> Vec<&'static str> {
        let mut left = self.sandbox().remains(person);
        left.retain(|what| what.starts_with(system));
        left
    }

    /// The number of destructive calls to all systems.
    pub fn destructive_calls(&self) -> usize {
        self.sandbox().entries(0).iter().filter(|call| call.destructive).count()
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of a state directory.
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// Sets a key of the configuration, such as `systems.loyalty.member_proof`, for later starts.
    pub fn set(&mut self, key: &str, value: &str) {
        let variable = format!("ERASURE__{}", key.replace('.', "__").to_ascii_uppercase());
        self.variables.push((variable, value.to_owned()));
    }

    /// The worker's command, for this configuration and a state directory, with additional variables.
    pub fn command(&self, state: &str, settings: &[(&str, &str)]) -> Command {
        self.wrapped(&[], state, settings)
    }

    /// As [`Rig::command`], started by another program.
    pub fn wrapped(&self, wrapper: &[&str], state: &str, settings: &[(&str, &str)]) -> Command {
        let mut command = self.launched(wrapper, &["run"], state);
        command.env("ERASURE_LOG", "erasure_worker=debug").envs(settings.iter().copied());
        command
    }

    /// Another command of the worker's program, with these arguments.
    pub fn other_command(&self, arguments: &[&str]) -> Command {
        self.launched(&[], arguments, "state")
    }

    fn launched(&self, wrapper: &[&str], arguments: &[&str], state: &str) -> Command {
        // The kernel ends the worker with this process, also after a crash of the test.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(wrapper).arg(&self.program);
        command.args(arguments).arg("--config").arg(&self.config);
        for name in crate::inherited() {
            command.env_remove(name);
        }
        command.env("ERASURE__WORKER__STATE_DIR", self.state_dir(state)).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts a worker process.
    pub fn worker(&self, state: &str, settings: &[(&str, &str)]) -> Worker {
        Worker::spawn(self.command(state, settings), &self.path(&format!("{state}.log")))
    }

    /// The configuration as the worker reads it.
    pub fn config(&self, state: &str) -> Config {
        let mut surroundings = Surroundings::of_process();
        for name in crate::inherited() {
            surroundings.variables.remove(&name);
        }
        let state = self.state_dir(state).display().to_string();
        surroundings.variables.insert("ERASURE__WORKER__STATE_DIR".to_owned(), state);
        surroundings.variables.extend(self.variables.iter().cloned());
        Config::load(Some(&self.config), &surroundings).unwrap()
    }

    /// A plain connection, without the worker's broker code. Tries until the broker accepts it.
    pub async fn connect(&self) -> Connection {
        amqp::connect(&self.url).await
    }

    /// Keeps every event from now on in a queue of this name.
    pub async fn keep_events(&self, queue: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        amqp::keep(&channel, &format!("{}.events", self.prefix), &format!("{}.{queue}", self.prefix)).await;
        amqp::close(connection).await;
    }

    /// Publishes jobs with confirms. An unconfirmed job is published again over a new connection.
    pub async fn publish(&self, jobs: &[Value]) {
        self.send("job", jobs).await;
    }

    /// Publishes a cancellation.
    pub async fn cancel(&self, job_id: &str) {
        let body = serde_json::json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": job_id });
        self.send("cancel", &[body]).await;
    }

    async fn send(&self, key: &str, bodies: &[Value]) {
        let mut sent = 0;
        while sent < bodies.len() {
            let connection = self.connect().await;
            let Ok(channel) = amqp::confirming(&connection).await else { continue };
            while sent < bodies.len() && self.send_one(&channel, key, &bodies[sent]).await {
                sent += 1;
            }
            amqp::close(connection).await;
        }
    }

    async fn send_one(&self, channel: &Channel, key: &str, body: &Value) -> bool {
        let id = body["job_id"].as_str().unwrap_or_default();
        let properties = BasicProperties::default().with_message_id(id.into());
        let exchange = format!("{}.requests", self.prefix);
        matches!(amqp::publish(channel, &exchange, key, body.to_string().as_bytes(), properties).await, Ok(true))
    }

    /// The number of ready messages of a queue.
    pub async fn depth(&self, queue: &str) -> u32 {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let count = amqp::depth(&channel, &format!("{}.{queue}", self.prefix)).await;
        amqp::close(connection).await;
        count
    }

    /// Waits until a queue has exactly `count` ready messages. The broker's count is slightly late.
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

    /// The end of the workers' logs.
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

    /// Waits until no job is in any queue.
    pub async fn is_empty(&self) {
        for queue in WAITING {
            self.holds(queue, 0).await;
        }
    }

    /// True if no message waits for a worker. For use without a worker: the count has no message in hand. It is read
    /// several times, because the broker's count is slightly late.
    pub async fn stays_empty(&self) -> bool {
        for _ in 0..3 {
            for queue in WAITING {
                if self.depth(queue).await != 0 {
                    return false;
                }
            }
        }
        true
    }

    /// Takes all dead letters: properties and body.
    pub async fn dead_letters(&self) -> Vec<(BasicProperties, Vec<u8>)> {
        let letters = self.take_all("dead-letters").await.into_iter();
        letters.map(|letter| (letter.properties, letter.data)).collect()
    }

    /// Takes all messages of a queue.
    pub async fn take_all(&self, queue: &str) -> Vec<Delivery> {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let taken = amqp::take_all(&channel, &format!("{}.{queue}", self.prefix)).await;
        amqp::close(connection).await;
        taken
    }

    /// Takes all messages of the queue of jobs. For use without a worker.
    pub async fn take_jobs(&self) -> Vec<Delivery> {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let taken = amqp::consume_all(&channel, &format!("{}.jobs", self.prefix)).await;
        amqp::close(connection).await;
        taken
    }

    /// No ambiguous or effective call was repeated, and no interface was misused.
    pub fn nothing_repeated(&self) {
        let summary = self.sandbox().summary();
        assert_eq!(summary.ambiguous_repeats, [], "ambiguous calls repeated");
        assert_eq!(summary.effective_repeats, [], "effective calls repeated");
        assert_eq!(summary.otp_repeats, [], "one-time passwords sent twice");
        assert!(summary.misuse.is_empty(), "{:?}", summary.misuse);
        assert_eq!(connectors::repeated(&self.sandbox().entries(0)), [""; 0], "acts repeated");
    }
}

fn for_many_jobs(places: &Places<'_>) -> String {
    let Places { stand, folder, .. } = places;
    let pace = "requests_per_minute = 600000\nmax_in_flight = 64\nverify_interval = \"100ms\"\n\
                hold_probe_interval = \"1s\"\ntimeout = \"20s\"";
    let common = format!(
        r#"
[retry]
initial_interval = "20ms"
max_interval = "400ms"
max_attempts = 20
[ops]
listen = "127.0.0.1:0"
[systems.loyalty.import]
dir = "{}"
key = "integration_id"
"#,
        folder.join("import").display(),
    );
    let system = |name, path, more: &str| system(name, path, stand, &format!("{pace}\n{more}"));
    [
        head(places, "concurrency = 64\ninline_wait_max = \"10s\"\nin_hand_max = \"2m\""),
        common,
        system("cleeng", "cleeng", ""),
        system("core", "cleeng@core", "termination = \"core\""),
        system("loyalty", "loyalty", ""),
        system("codes", "loyalty@codes", "member_proof = \"otp\""),
        system("tokens", "loyalty@tokens", "member_proof = \"token\""),
        system("easycms", "easycms", ""),
        system("vitalsource", "vitalsource", &format!("abandon_url = \"http://{stand}/requester/abandon\"")),
        connectors::systems(stand, folder, pace),
    ]
    .concat()
}

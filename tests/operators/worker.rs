//! A worker with its ops API, in the test's own process, on a broker, a store and systems that are
//! all real parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use erasure_worker::app::{self, OpenedStore};
use erasure_worker::broker::{Broker, Destination, Properties, Publication};
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::engine::Engine;
use erasure_worker::job::JobKey;
use erasure_worker::ops::{Ops, OpsSettings, serve};
use erasure_worker::sandbox::{Person, RunningSandbox, Sandbox};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::config::system;
use testkit::rabbit::Rabbit;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const TENANT: &str = "acme";

pub struct Rig {
    pub sandbox: RunningSandbox,
    pub engine: Arc<Engine>,
    pub addr: SocketAddr,
    pub folder: tempfile::TempDir,
    pub config: Config,
    broker: Arc<dyn Broker>,
    ran: JoinHandle<()>,
    stop: CancellationToken,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::start_with(None, |_| {}).await
    }

    /// Starts a worker that lets so many jobs of the tenant through in an hour.
    pub async fn start_guarded(max_jobs_per_hour: u32) -> Rig {
        let more = format!("\n[tenants.{TENANT}]\nmax_jobs_per_hour = {max_jobs_per_hour}\n");
        Rig::start_as(Rabbit::shared(), None, &more, |_| {}).await
    }

    /// Starts a worker; `fill` may put into the store what an earlier one would have left.
    pub async fn start_with(token: Option<&str>, fill: impl FnOnce(&OpenedStore)) -> Rig {
        Rig::start_as(Rabbit::shared(), token, "", fill).await
    }

    /// Starts a worker on a broker of the test's own.
    pub async fn start_on(rabbit: &Rabbit) -> Rig {
        Rig::start_as(rabbit, None, "", |_| {}).await
    }

    async fn start_as(rabbit: &Rabbit, token: Option<&str>, more: &str, fill: impl FnOnce(&OpenedStore)) -> Rig {
        app::install_tls();
        let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let folder = tempfile::Builder::new().prefix("console-").tempdir().unwrap();
        let file = folder.path().join("worker.toml");
        let prefix = format!("c{}", Uuid::new_v4().simple());
        let configuration = configuration(&sandbox, &rabbit.url(), &prefix, folder.path());
        std::fs::write(&file, configuration + more).unwrap();
        let config = Config::load(Some(&file), &Surroundings::default()).unwrap();
        let opened = app::store(&config).await.unwrap();
        fill(&opened);
        let broker: Arc<dyn Broker> = app::broker(&config, true).await.unwrap();
        let worker = app::Worker::with_store(&config, Arc::clone(&broker), opened).unwrap();
        let engine = Arc::clone(&worker.engine);
        let stop = CancellationToken::new();
        let token = token.map(SecretString::from);
        let settings = OpsSettings::new("127.0.0.1:0".parse().unwrap(), token);
        let ops = Ops { engine: Arc::clone(&engine), settings, imports: Default::default() };
        let (addr, _) = serve(ops, stop.clone()).await.unwrap();
        let ran = tokio::spawn(async move { worker.run(CancellationToken::new()).await.unwrap() });
        Rig { sandbox, engine, addr, config, broker, folder, ran, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// People whom the shop knows.
    pub fn people(&self, count: u64) -> Vec<Person> {
        self.sandbox.sandbox().add_people(7_301_500..7_301_500 + count)
    }

    /// Orders the erasure of a person from the shop.
    pub async fn submit(&self, person: &Person, due_in_days: i64) -> JobKey {
        let job = self.order(person, due_in_days);
        self.publish(&job).await;
        JobKey { tenant: TENANT.to_owned(), job_id: job["job_id"].as_str().unwrap().parse().unwrap() }
    }

    /// A job for a person's erasure from the shop.
    pub fn order(&self, person: &Person, due_in_days: i64) -> Value {
        let now = jiff::Timestamp::now();
        json!({
            "schema": "erasure.job/v1", "job_id": Uuid::new_v4(), "tenant": TENANT, "environment": "sandbox",
            "requested_at": now.to_string(), "regulation": "gdpr",
            "due_at": (now + jiff::SignedDuration::from_hours(24 * due_in_days)).to_string(),
            "targets": [{ "system": "easycms", "email": person.email, "customer_password": person.customer_password }],
        })
    }

    pub async fn publish(&self, job: &Value) {
        let body = job.to_string().into_bytes().into();
        let publication = Publication { to: Destination::Requests, properties: Properties::default(), body };
        self.broker.publish(publication).await.unwrap();
    }

    pub async fn end(self) {
        self.engine.drain();
        tokio::time::timeout(Duration::from_secs(60), self.ran).await.expect("it drains").unwrap();
        self.stop.cancel();
        self.broker.close().await;
        drop(self.folder);
    }
}

fn configuration(sandbox: &RunningSandbox, amqp_url: &str, prefix: &str, folder: &std::path::Path) -> String {
    let master_key = hex::encode([Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
    let pace = "verify_interval = \"50ms\"\nrequests_per_minute = 6000";
    let system = |name, more: &str| system(name, name, sandbox.addr, more);
    let systems = [
        system("easycms", &format!("hold_probe_interval = \"1h\"\n{pace}")),
        system("vitalsource", pace),
        system("cleeng", "verify_interval = \"50ms\""),
        system("loyalty", "verify_interval = \"50ms\""),
    ]
    .concat();
    format!(
        r#"
[worker]
environment = "sandbox"
id = "worker-0"
state_dir = "{}/state"
master_key = "{master_key}"

[retry]
initial_interval = "10ms"
max_attempts = 2

[amqp]
url = "{amqp_url}"
prefix = "{prefix}"

{systems}
"#,
        folder.display()
    )
}

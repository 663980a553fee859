//! A worker with its ops API in the test's own process. Its broker, its store and the systems' interfaces are real.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::app::{self, OpenedStore};
use erasure_worker::broker::{Broker, Destination, Properties, Publication};
use erasure_worker::config::Config;
use erasure_worker::engine::Engine;
use erasure_worker::job::JobKey;
use erasure_worker::sandbox::{Person, Sandbox};
use serde_json::{Value, json};
use testkit::config::{head, system};
use testkit::inside::Desk;
use testkit::people;
use testkit::rabbit::Rabbit;
use testkit::rig::{Places, Rig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TENANT: &str = "acme";

pub struct Worker {
    pub rig: Rig<()>,
    pub config: Config,
    pub engine: Arc<Engine>,
    desk: Desk,
    broker: Arc<dyn Broker>,
    ran: JoinHandle<()>,
}

impl Worker {
    pub async fn start() -> Worker {
        Worker::start_with(None, |_| {}).await
    }

    /// Starts a worker with this ceiling for the tenant.
    pub async fn start_guarded(max_jobs_per_hour: u32) -> Worker {
        let more = format!("\n[tenants.{TENANT}]\nmax_jobs_per_hour = {max_jobs_per_hour}\n");
        Worker::start_with_more(|_| more).await
    }

    /// Starts a worker with further sections of its configuration.
    pub async fn start_with_more(more: impl FnOnce(&Places<'_>) -> String) -> Worker {
        Worker::start_as(Rabbit::shared(), None, more, |_| {}).await
    }

    /// Starts a worker. `fill` may add rows of an earlier worker to its store.
    pub async fn start_with(token: Option<&str>, fill: impl FnOnce(&OpenedStore)) -> Worker {
        Worker::start_as(Rabbit::shared(), token, |_| String::new(), fill).await
    }

    /// Starts a worker on the test's own broker.
    pub async fn start_on(rabbit: &Rabbit) -> Worker {
        Worker::start_as(rabbit, None, |_| String::new(), |_| {}).await
    }

    async fn start_as(
        rabbit: &Rabbit,
        token: Option<&str>,
        more: impl FnOnce(&Places<'_>) -> String,
        fill: impl FnOnce(&OpenedStore),
    ) -> Worker {
        let rig = Rig::on(&rabbit.url(), |places| configuration(places) + more(places).as_str()).await;
        let config = rig.config("state");
        let opened = app::store(&config).await.unwrap();
        fill(&opened);
        let broker: Arc<dyn Broker> = app::broker(&config, true).await.unwrap();
        let worker = app::Worker::with_store(&config, Arc::clone(&broker), opened).unwrap();
        let engine = Arc::clone(&worker.engine);
        let desk = Desk::open(&engine, token).await;
        let ran = tokio::spawn(async move { worker.run(CancellationToken::new()).await.unwrap() });
        Worker { rig, config, engine, desk, broker, ran }
    }

    pub fn url(&self) -> String {
        format!("{}/", self.desk.url())
    }

    /// The stand-ins of the systems.
    pub fn sandbox(&self) -> &Sandbox {
        self.rig.sandbox()
    }

    /// Publishes a job for a person's erasure from the shop.
    pub async fn submit(&self, person: &Person, due_in_days: i64) -> JobKey {
        let job = order(person, due_in_days);
        self.publish(&job).await;
        key(&job)
    }

    pub async fn publish(&self, job: &Value) {
        let body = job.to_string().into_bytes().into();
        let publication = Publication { to: Destination::Requests, properties: Properties::default(), body };
        self.broker.publish(publication).await.unwrap();
    }

    pub async fn end(self) {
        self.engine.drain();
        tokio::time::timeout(Duration::from_secs(60), self.ran).await.expect("it drains").unwrap();
        drop(self.desk);
        self.broker.close().await;
    }
}

/// A job for a person's erasure from the shop.
pub fn order(person: &Person, due_in_days: i64) -> Value {
    let mut job = people::unconfirmed(&[people::easycms(person)]);
    let due = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * due_in_days);
    job["due_at"] = json!(due.to_string());
    job
}

/// The job's name for operators.
pub fn key(job: &Value) -> JobKey {
    JobKey { tenant: TENANT.to_owned(), job_id: people::id(job).parse().unwrap() }
}

fn configuration(places: &Places<'_>) -> String {
    let pace = "verify_interval = \"50ms\"\nrequests_per_minute = 6000";
    let system = |name, more: &str| system(name, name, places.stand, more);
    [
        head(places, ""),
        "[retry]\ninitial_interval = \"10ms\"\nmax_attempts = 2\n".to_owned(),
        system("easycms", &format!("hold_probe_interval = \"1h\"\n{pace}")),
        system("vitalsource", pace),
        system("cleeng", "verify_interval = \"50ms\""),
        system("loyalty", "verify_interval = \"50ms\""),
    ]
    .concat()
}

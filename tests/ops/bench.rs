//! A worker in the test's process: engine, store, broker, systems, and the ops API on a free port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use erasure_worker::broker::Properties;
use erasure_worker::engine::{Engine, Gate, GateSettings, Parts, Policy, Rates, RetryPolicy, Settings};
use erasure_worker::job::flow::Limits;
use erasure_worker::job::{Accepts, At, JobKey, Kind, Rules, StepName};
use erasure_worker::ops::{ImportDesk, Ops, OpsSettings, serve};
use erasure_worker::seal::{Keyring, MasterKey};
use erasure_worker::store::{MemoryStore, Store};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::people;
use testkit::post::Post;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shop::Shop;

pub const KEY: &str = "8f0e6c2b5d4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0";

pub struct Bench {
    pub addr: SocketAddr,
    pub broker: Arc<Post>,
    pub shop: Arc<Shop>,
    pub engine: Arc<Engine>,
    pub stop: CancellationToken,
    pub server: Option<JoinHandle<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.engine.drain();
        self.stop.cancel();
    }
}

/// The parts of a bench.
pub struct Setup {
    pub store: Arc<dyn Store>,
    pub token: Option<SecretString>,
    pub imports: BTreeMap<String, Arc<dyn ImportDesk>>,
    pub change: fn(&mut OpsSettings),
    pub policy: Policy,
    pub runs: bool,
    pub engine: fn(&mut Settings),
    pub gate: fn(&mut GateSettings),
    pub broker: Arc<Post>,
}

impl Default for Setup {
    fn default() -> Self {
        let store = Arc::new(MemoryStore::new());
        let policy = Policy::default();
        let (change, engine, gate) = (|_: &mut _| {}, |_: &mut _| {}, |_: &mut _| {});
        Setup {
            store,
            token: None,
            imports: BTreeMap::new(),
            change,
            policy,
            runs: true,
            engine,
            gate,
            broker: Post::new(),
        }
    }
}

pub fn settings() -> Settings {
    Settings {
        worker_id: "worker-0".to_owned(),
        inline_wait_max: Duration::from_millis(20),
        in_hand_max: Duration::from_secs(600),
        drain_timeout: Duration::from_secs(1),
        retain_finished: Duration::from_secs(86_400),
        retain_failed: Duration::from_secs(86_400),
        retry: RetryPolicy {
            initial_interval: Duration::from_millis(1),
            multiplier: 2.0,
            max_interval: Duration::from_millis(2),
        },
        limits: Limits {
            max_attempts: 3,
            max_elapsed: Duration::from_secs(60),
            max_interval: Duration::from_secs(60),
            input_max: Duration::from_secs(86_400),
            pending_max: Duration::from_secs(86_400),
            approval_max: Duration::from_secs(86_400),
        },
        at_risk_before: Duration::from_secs(7 * 86_400),
        seal_dead_letters: true,
    }
}

fn gate(shop: &Arc<Shop>, rules: &Rules, change: fn(&mut GateSettings)) -> Arc<Gate> {
    let mut settings = GateSettings {
        rates: Rates::default(),
        max_in_flight: 8,
        timeout: Duration::from_secs(30),
        hold_probe_interval: Duration::from_millis(5),
        breaker_pause: Duration::from_millis(1),
        most_in_hand: 8,
        fingerprint: secrecy::SecretString::from("shop"),
    };
    change(&mut settings);
    Arc::new(Gate::new(Arc::clone(shop) as _, rules.clone(), settings))
}

pub async fn bench() -> Bench {
    bench_with(Setup::default()).await
}

pub async fn bench_with(setup: Setup) -> Bench {
    let broker = setup.broker;
    let (shop, library) = (Shop::new("shop", Kind::EasyCms), Shop::new("library", Kind::VitalSource));
    let rules: BTreeMap<String, Rules> =
        [("shop".to_owned(), Rules::new(Kind::EasyCms)), ("library".to_owned(), Rules::new(Kind::VitalSource))].into();
    let gates = [&shop, &library].map(|shop| (shop.name.to_owned(), gate(shop, &rules[shop.name], setup.gate)));
    let mut for_engine = settings();
    (setup.engine)(&mut for_engine);
    let parts = Parts {
        settings: for_engine,
        accepts: Accepts { environment: "sandbox".to_owned(), systems: rules, regulations: BTreeMap::new() },
        gates: gates.into(),
        broker: Arc::clone(&broker) as _,
        store: setup.store,
        keyring: Arc::new(Keyring::new(MasterKey::parse(KEY).unwrap(), Vec::new()).unwrap()),
        now: Arc::new(|| At::from(jiff::Timestamp::now())),
        chance: Arc::new(|| 0.5),
    };
    let engine = Engine::with_policy(parts, setup.policy);
    let mut settings = OpsSettings::new(SocketAddr::from(([127, 0, 0, 1], 0)), setup.token);
    settings.survey_max_age = Duration::ZERO;
    (setup.change)(&mut settings);
    let stop = CancellationToken::new();
    let ops = Ops { engine: Arc::clone(&engine), settings, imports: setup.imports };
    let (addr, server) = serve(ops, stop.clone()).await.unwrap();
    if setup.runs {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let _ = engine.run().await;
        });
    }
    Bench { addr, broker, shop, engine, stop, server: Some(server) }
}

pub fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// A job for the shop. The first word of the e-mail address is the shop's behaviour.
pub fn shop_job(job_id: &str, word: &str) -> Value {
    let email = format!("{word}@example.com");
    let mut job = people::unconfirmed(&[json!({ "system": "shop", "email": email, "customer_password": "planted" })]);
    job["job_id"] = json!(job_id);
    job["requested_at"] = json!("2026-01-02T03:04:05Z");
    job["due_at"] = json!("2026-02-02T03:04:05Z");
    job
}

impl Bench {
    pub fn send(&self, job: &Value) {
        self.broker.send(Properties::default(), job.to_string());
    }

    /// Publishes a job for the shop and waits for this event.
    pub async fn job(&self, number: u128, word: &str, what: &str) -> String {
        let job_id = id(number);
        self.others_do_well();
        self.send(&shop_job(&job_id, word));
        self.broker.event(&job_id, what).await;
        job_id
    }

    /// The step succeeds for other persons, so that a refusal counts for its person alone.
    pub fn others_do_well(&self) {
        let other = JobKey { tenant: "acme".to_owned(), job_id: Uuid::from_u128(u128::MAX) };
        self.engine.gates()["shop"].step_ended(&other, StepName::DeleteAccount, None);
    }

    /// Repeats the request until the answer meets the condition: some state is written just after its event.
    pub async fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let answer = crate::http::get(self.addr, path).await.json();
                if fits(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        // Ends the test if a promise is broken for good.
        let asked = tokio::time::timeout(testkit::PATIENCE, asked).await;
        asked.unwrap_or_else(|_| panic!("{path} never fits"))
    }
}

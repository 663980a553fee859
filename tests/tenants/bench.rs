//! An engine in the test's process, with the test's broker, store and clock. Its systems are the stand-ins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use erasure_worker::broker::{Broker, HeaderValue, Properties};
use erasure_worker::engine::Engine;
use erasure_worker::job::At;
use erasure_worker::sandbox::{Account, Person};
use erasure_worker::seal::Keyring;
use erasure_worker::store::{MemoryStore, Store};
use serde_json::{Value, json};
use testkit::config::system;
use testkit::inside::Inside;
use testkit::people;
pub use testkit::people::id;
use testkit::post::Post;
use testkit::rig::Rig;

/// 2026-11-22T10:00:00Z, in seconds.
pub const NOON: i64 = 1_795_341_600;
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub const NEXT_KEY: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f";

/// The worker's clock. Only the test moves it.
struct Clock {
    millis: i64,
    running_since: Option<Instant>,
}

impl Clock {
    fn now(&self) -> i64 {
        let elapsed = self.running_since.map(|since| i64::try_from(since.elapsed().as_millis()).unwrap());
        self.millis + elapsed.unwrap_or(0)
    }
}

type Shared = Arc<Mutex<Clock>>;

/// The parts that outlive a worker: the broker, the systems, the clock, and the store unless it is lost.
pub struct Bench {
    pub rig: Rig<()>,
    pub post: Arc<Post>,
    pub engine: Arc<Engine>,
    pub keyring: Arc<Keyring>,
    pub store: Arc<MemoryStore>,
    clock: Shared,
    worker: Inside,
}

/// A configuration for these stand-ins, with additional lines in `[worker]` and at the end.
pub fn text(stand: SocketAddr, worker: &str, more: &str) -> String {
    let system = |name, path, more| system(name, path, stand, more);
    let systems = [
        system("shop", "easycms", "verify_interval = \"20ms\""),
        system("loyalty", "loyalty", "verify_interval = \"20ms\""),
        system("cleeng", "cleeng", "require_confirmation = \"never\"\nverify_interval = \"20ms\""),
    ]
    .concat();
    format!(
        r#"
[worker]
environment = "sandbox"
id = "worker-0"
state_dir = "state"
{worker}

[retry]
initial_interval = "5ms"

{systems}
{more}
"#
    )
}

impl Bench {
    /// A worker with the usual key and these additional lines.
    pub async fn with(more: &str) -> Bench {
        Bench::with_settings(more, &[]).await
    }

    /// The same, with overrides such as `("systems.shop.max_jobs_per_hour", "3")`.
    pub async fn with_settings(more: &str, settings: &[(&str, &str)]) -> Bench {
        let key = format!("master_key = \"{KEY}\"");
        let mut rig = Rig::without_broker(|places| text(places.stand, &key, more)).await;
        settings.iter().for_each(|(key, value)| rig.set(key, value));
        let clock = Arc::new(Mutex::new(Clock { millis: NOON * 1000, running_since: None }));
        Bench::assemble(rig, Post::new(), Arc::new(MemoryStore::new()), clock)
    }

    fn assemble(rig: Rig<()>, post: Arc<Post>, store: Arc<MemoryStore>, clock: Shared) -> Bench {
        let (broker, rows, time) = (Arc::clone(&post), Arc::clone(&store), Arc::clone(&clock));
        let now = move || At(time.lock().unwrap().now());
        let worker = Inside::start(&rig.config("state"), broker as Arc<dyn Broker>, rows as Arc<dyn Store>, now);
        let (engine, keyring) = (Arc::clone(&worker.engine), Arc::clone(&worker.keyring));
        Bench { rig, post, engine, keyring, store, clock, worker }
    }

    /// Stops the worker and starts another on the same broker and store, with these lines in
    /// `[worker]` and at the end of its configuration.
    pub async fn restarted(self, worker: &str, more: &str) -> Bench {
        let store = Arc::clone(&self.store);
        self.on(store, worker, more).await
    }

    /// The same after a power cut.
    pub async fn crashed(self, worker: &str, more: &str) -> Bench {
        let store = Arc::new(self.store.crash());
        self.on(store, worker, more).await
    }

    /// The same on another machine, with an empty store.
    pub async fn moved(self, worker: &str, more: &str) -> Bench {
        self.on(Arc::new(MemoryStore::new()), worker, more).await
    }

    async fn on(self, store: Arc<MemoryStore>, worker: &str, more: &str) -> Bench {
        // A worker without its store does not end successfully, and some tests want that.
        let _ = self.worker.end().await;
        std::fs::write(&self.rig.config, text(self.rig.stand.addr, worker, more)).unwrap();
        Bench::assemble(self.rig, self.post.again(), store, self.clock)
    }

    /// From here on time passes, so that pauses between attempts end.
    pub fn let_time_pass(&self) {
        self.clock.lock().unwrap().running_since.get_or_insert_with(Instant::now);
    }

    /// Ends the worker and the stand-ins.
    pub async fn end(self) {
        self.worker.end().await.unwrap();
        self.rig.stand.stop().await;
    }

    pub fn pass(&self, time: Duration) {
        self.clock.lock().unwrap().millis += i64::try_from(time.as_millis()).unwrap();
    }

    /// Sets the clock back.
    pub fn set_back(&self, time: Duration) {
        self.clock.lock().unwrap().millis -= i64::try_from(time.as_millis()).unwrap();
    }

    /// Sets the clock to this machine's.
    pub fn set_to_now(&self) {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let millis = i64::try_from(since.as_millis()).unwrap();
        *self.clock.lock().unwrap() = Clock { millis, running_since: Some(Instant::now()) };
    }

    /// Seconds since 1970 by the worker's clock.
    pub fn now(&self) -> i64 {
        self.clock.lock().unwrap().now() / 1000
    }

    pub fn person(&self, number: u64) -> Person {
        self.rig.sandbox().add_people(number..number + 1).remove(0)
    }

    pub fn calls(&self) -> usize {
        self.rig.sandbox().entries(0).len()
    }

    /// Whether the shop still has data of the person.
    pub fn is_in_shop(&self, person: &Person) -> bool {
        !self.rig.left(person, "easycms").is_empty()
    }

    /// Sets the person's password at the shop. With a password other than the job's that job fails. It has no
    /// effect on other persons.
    pub fn set_shop_password(&self, person: &Person, password: &str) {
        let (email, customer_password) = (person.email.clone(), password.to_owned());
        let account = Account { email, customer_password, erased: false };
        self.rig.sandbox().world(|world| world.easycms("easycms").add(account));
    }

    pub fn send(&self, job: &Value) {
        self.post.deliver(Properties::default(), job.to_string(), false);
    }

    /// The count of a word in a family of metrics.
    pub fn counted(&self, family: &str, word: &str) -> u64 {
        let all = self.engine.figures().labelled();
        all.iter().filter(|(named, _, of, _)| *named == family && *of == word).map(|(.., count)| count).sum()
    }
}

/// A job for the shop.
pub fn shop_job(tenant: &str, person: &Person) -> Value {
    let mut target = people::easycms(person);
    target["system"] = json!("shop");
    job(tenant, json!([target]))
}

/// A job with these targets and its own id. It names no regulation, so that it is never due.
pub fn job(tenant: &str, targets: Value) -> Value {
    let mut job = people::unconfirmed(targets.as_array().unwrap());
    job["tenant"] = json!(tenant);
    job["requested_at"] = json!("2026-11-20T09:00:00Z");
    job.as_object_mut().unwrap().remove("regulation");
    job
}

/// Properties with a signature and the broker's `user_id`.
pub fn sent(signature: Option<&str>, user: Option<&str>) -> Properties {
    let mut properties = Properties { user_id: user.map(str::to_owned), ..Properties::default() };
    if let Some(signature) = signature {
        properties.headers.insert("x-signature".to_owned(), HeaderValue::Text(signature.to_owned()));
    }
    properties
}

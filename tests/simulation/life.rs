//! One life of a worker, from its start to its stop or death. A dead worker's tasks wait for ever: they no longer reach
//! the broker, the store or a system.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use erasure_worker::app;
use erasure_worker::config::Config;
use erasure_worker::engine::rows;
use erasure_worker::engine::{Engine, Parts};
use erasure_worker::job::At;
use erasure_worker::sandbox::Sandbox;
use erasure_worker::store::{Batch, MemoryStore, Pair, Store, StoreError, StoreStats, Table, Ticket};
use erasure_worker::systems::http::Carry;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, Wire};

/// A clock that can be set wrong.
#[derive(Clone)]
pub struct Clock {
    began: Instant,
    epoch_ms: i64,
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    pub fn new() -> Clock {
        let epoch_ms = jiff::Timestamp::now().as_millisecond();
        Clock { began: Instant::now(), epoch_ms, offset_ms: Arc::default() }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn of(&self, at: Instant) -> Duration {
        at - self.began
    }

    pub fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    fn now(&self) -> At {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        At(self.epoch_ms + elapsed + self.offset_ms.load(Ordering::Relaxed))
    }
}

/// The behaviour of a system during an outage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Away {
    /// No connection, for this reason.
    Unreachable(&'static str),
    /// The connection breaks; the work is not done.
    Cut,
    /// The work is done, then the connection breaks.
    CutAfter,
    /// No answer ever comes.
    Silence,
    /// Something else answers: status, content type, body, and perhaps a header: a redirect or a wait.
    Answer(u16, &'static str, &'static str, Option<(&'static str, &'static str)>),
}

/// The present outage: the first path segment of the system, and its behaviour.
#[derive(Clone, Default)]
pub struct Weather(Arc<Mutex<Option<(&'static str, Away)>>>);

impl Weather {
    /// Begins an outage of this system, or ends the present one.
    pub fn set(&self, away: Option<(&'static str, Away)>) {
        *self.0.lock().unwrap() = away;
    }

    fn over(&self, path: &str) -> Option<Away> {
        let system = path.trim_start_matches('/').split('/').next();
        self.0.lock().unwrap().filter(|(name, _)| system == Some(name)).map(|(_, away)| away)
    }
}

/// A call that reached a stand-in.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Its number in the ledger.
    pub seq: u64,
    /// The time of the call.
    pub at: Instant,
    /// The beginning of the call's step: a step may make several requests, one right after the other.
    pub began: Instant,
    /// The number of the life that made the call.
    pub life: u64,
}

/// Calls the stand-ins while the worker lives.
struct Caller {
    sandbox: Sandbox,
    life: u64,
    reached: Arc<Mutex<Vec<Reached>>>,
    /// By system and time of an answer: the beginning of the answered step.
    answered: Mutex<HashMap<(String, Instant), Instant>>,
    weather: Weather,
    dead: CancellationToken,
    random: Mutex<StdRng>,
}

impl Caller {
    /// The beginning of the step of a request that begins now.
    fn began(&self, system: &str) -> Instant {
        let now = Instant::now();
        self.answered.lock().unwrap().get(&(system.to_owned(), now)).copied().unwrap_or(now)
    }

    async fn travel(&self) {
        let pause = Duration::from_millis(self.random.lock().unwrap().random_range(0..6));
        tokio::time::sleep(pause).await;
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends the request to the stand-in. The ledger has the call after the first poll.
    async fn send(&self, request: http::Request<reqwest::Body>, began: Instant) -> Option<axum::response::Response> {
        let mut answer = std::pin::pin!(self.sandbox.carry(request.map(axum::body::Body::new)));
        let first = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        {
            let mut reached = self.reached.lock().unwrap();
            let before = reached.last().map_or(0, |last| last.seq);
            let (at, life) = (Instant::now(), self.life);
            let new = self.sandbox.entries(before);
            reached.extend(new.iter().map(|entry| Reached { seq: entry.seq, at, began, life }));
        }
        match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => answer.await,
        }
    }
}

#[async_trait]
impl Carry for Caller {
    fn unreachable(&self, url: &reqwest::Url) -> Option<&'static str> {
        match self.weather.over(url.path()) {
            Some(Away::Unreachable(note)) => Some(note),
            _ => None,
        }
    }

    async fn carry(&self, request: http::Request<reqwest::Body>) -> Option<http::Response<Bytes>> {
        let system = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
        let began = self.began(&system);
        self.travel().await;
        match self.weather.over(request.uri().path()) {
            None => {}
            Some(Away::Unreachable(_) | Away::Cut) => return None,
            Some(Away::CutAfter) => {
                self.send(request, began).await;
                return None;
            }
            Some(Away::Silence) => std::future::pending().await,
            Some(Away::Answer(status, content_type, body, header)) => {
                let mut response = http::Response::builder().status(status).header("content-type", content_type);
                if let Some((name, value)) = header {
                    response = response.header(name, value);
                }
                return response.body(Bytes::from_static(body.as_bytes())).ok();
            }
        }
        let answer = self.send(request, began).await;
        self.travel().await;
        self.answered.lock().unwrap().insert((system, Instant::now()), began);
        let (head, body) = answer?.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        Some(http::Response::from_parts(head, body))
    }
}

/// A disk that syncs some time after a write.
struct Disk {
    store: Arc<MemoryStore>,
    written: Arc<Notify>,
}

impl Store for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(table, prefix, after, limit)
    }

    fn submit(&self, batch: Batch) -> Ticket {
        for write in &batch.writes {
            let is_of_a_kind = rows::ALL.iter().any(|row| row.is_of(write.table, &write.key));
            assert!(is_of_a_kind, "a row of {:?} that is missing from the list of rows", write.table);
        }
        self.written.notify_one();
        self.store.submit(batch)
    }

    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket {
        self.store.note(key, value)
    }

    fn notes(&self) -> Result<Vec<Pair>, StoreError> {
        self.store.notes()
    }

    fn check(&self) -> Ticket {
        self.written.notify_one();
        self.store.check()
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

/// The things that all lives share.
#[derive(Clone)]
pub struct Surroundings {
    pub config: Arc<Config>,
    pub hub: Hub,
    pub sandbox: Sandbox,
    pub clock: Clock,
    /// The life and the time of each call.
    pub reached: Arc<Mutex<Vec<Reached>>>,
}

impl Surroundings {
    pub fn new(config: Config, hub: Hub, sandbox: Sandbox) -> Surroundings {
        Surroundings { config: Arc::new(config), hub, sandbox, clock: Clock::new(), reached: Arc::default() }
    }
}

/// A living worker.
pub struct Life {
    /// The worker's number. Each worker has its own disk.
    pub worker: usize,
    pub link: Arc<Wire>,
    pub engine: Arc<Engine>,
    store: Arc<MemoryStore>,
    pub dead: CancellationToken,
    pub work: JoinHandle<()>,
}

impl Life {
    /// Starts a worker with an earlier life's disk.
    pub fn begin(around: &Surroundings, disk: MemoryStore, seed: u64) -> Life {
        Life::begin_in(around, disk, seed, Weather::default())
    }

    /// As [`Life::begin`], with outages.
    pub fn begin_in(around: &Surroundings, disk: MemoryStore, seed: u64, weather: Weather) -> Life {
        let dead = CancellationToken::new();
        let store = Arc::new(disk);
        store.hold();
        let written = Arc::new(Notify::new());
        let keyring = Arc::new(app::keyring(&around.config).unwrap());
        let link = around.hub.connect(around.config.worker.concurrency as usize);
        let caller = Caller {
            sandbox: around.sandbox.clone(),
            life: link.life,
            reached: Arc::clone(&around.reached),
            answered: Mutex::default(),
            weather,
            dead: dead.clone(),
            random: Mutex::new(StdRng::seed_from_u64(seed ^ 1)),
        };
        let wire = erasure_worker::systems::http::Wire::InProcess(Arc::new(caller));
        let systems = app::systems_over(&wire, &around.config, &keyring).unwrap();
        let clock = around.clock.clone();
        let chance = Mutex::new(StdRng::seed_from_u64(seed ^ 2));
        let engine = Engine::new(Parts {
            settings: app::settings(&around.config),
            accepts: app::accepts(&around.config),
            gates: systems.gates,
            broker: Arc::clone(&link) as _,
            store: Arc::new(Disk { store: Arc::clone(&store), written: Arc::clone(&written) }),
            keyring,
            now: Arc::new(move || clock.now()),
            chance: Arc::new(move || chance.lock().unwrap().random()),
        });
        tokio::spawn(syncs(Arc::clone(&store), written, dead.clone(), seed ^ 3));
        let running = Arc::clone(&engine);
        let work = tokio::spawn(async move {
            let _ = running.run().await;
        });
        Life { worker: 0, link, engine, store, dead, work }
    }

    /// The disk is full for this time.
    pub async fn fill_disk(store: Arc<MemoryStore>, time: Duration) {
        let full = || StoreError::Full { path: "simulated".to_owned(), free: 0, needed: 1 };
        store.fail_with(Some(full()));
        store.settle(|_| Err(full()));
        tokio::time::sleep(time).await;
        store.fail_with(None);
    }

    pub fn store(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.store)
    }

    /// Kills the worker. Only synced data survives.
    pub fn kill(self) -> MemoryStore {
        self.dead.cancel();
        self.link.die();
        self.work.abort();
        self.store.crash()
    }

    /// Drains the worker and waits for its stop.
    pub async fn drain(mut self) -> MemoryStore {
        self.engine.drain();
        let _ = (&mut self.work).await;
        self.store.sync(usize::MAX);
        self.kill()
    }

    /// True if the worker stopped by itself.
    pub fn is_over(&self) -> bool {
        self.work.is_finished()
    }
}

/// Syncs writes a little later, and sometimes only the oldest of them.
async fn syncs(store: Arc<MemoryStore>, written: Arc<Notify>, dead: CancellationToken, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while dead.run_until_cancelled(written.notified()).await.is_some() {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..5))).await;
        if dead.is_cancelled() {
            return;
        }
        if random.random_bool(0.2) && store.sync(1) > 1 {
            written.notify_one();
        } else {
            store.sync(usize::MAX);
        }
    }
}

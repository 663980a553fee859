//! An engine whose store, broker and clock the test controls.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::envelope::{Origin, Unsealed};
use super::journal::Journal;
use super::opening::Opened;
use super::{Engine, Parts, RetryPolicy, Settings};
use crate::broker::{
    Broker, Control, DeadLetter, Delivery, Destination, Link, Place, Properties, Publication, PublishError, Verdict,
};
use crate::job::flow::Limits;
use crate::job::{Accepts, At, Job, JobKey, Kind, Rules, draft};
use crate::seal::{Keyring, MasterKey};
use crate::store::{MemoryStore, Store, StoreError};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const RETAIN_FAILED: Duration = Duration::from_secs(30 * 86_400);
pub(crate) const RETAIN_FINISHED: Duration = Duration::from_secs(800 * 86_400);
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A broker that refuses publishes as long as the test wants, with the test's jobs and control stream.
pub(crate) struct Post {
    pub(crate) refuses: AtomicBool,
    pub(crate) published: Mutex<Vec<Publication>>,
    jobs: tokio::sync::Mutex<mpsc::UnboundedReceiver<Delivery>>,
    /// Delivers to the engine.
    pub(crate) deliver: mpsc::UnboundedSender<Delivery>,
    /// The bodies in the control stream; `None` if there is no stream.
    control: Mutex<Option<Vec<Bytes>>>,
    written: Notify,
    /// The number of those that can be read now.
    readable: watch::Sender<usize>,
    paused: AtomicBool,
    stopped: CancellationToken,
    link: watch::Sender<Link>,
}

impl Post {
    /// True while intake is stopped.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Adds an empty control stream.
    pub(crate) fn begin_control(&self) {
        *self.control.lock().unwrap() = Some(Vec::new());
    }

    /// Adds one message to the control stream.
    pub(crate) fn decide(&self, body: Bytes) {
        self.control.lock().unwrap().as_mut().unwrap().push(body);
        self.written.notify_one();
    }

    /// The reader gets the present messages of the control stream, and no later ones.
    pub(crate) fn let_read(&self) {
        self.readable.send_replace(self.control.lock().unwrap().as_ref().unwrap().len());
    }

    /// The reader gets everything.
    pub(crate) fn let_read_on(&self) {
        self.readable.send_replace(usize::MAX);
    }
}

#[async_trait]
impl Broker for Post {
    async fn next(&self) -> Option<Delivery> {
        let mut jobs = self.jobs.lock().await;
        tokio::select! {
            biased;
            () = self.stopped.cancelled() => None,
            job = jobs.recv() => job,
        }
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        let offset = after.map_or(0, |place| place.offset() + 1);
        let index = usize::try_from(offset).unwrap();
        let mut readable = self.readable.subscribe();
        loop {
            let next = self.control.lock().unwrap().as_ref()?.get(index).cloned();
            if let Some(body) = next.filter(|_| index < *readable.borrow()) {
                return Some(Control { offset, properties: Properties::default(), body });
            }
            tokio::select! {
                () = self.written.notified() => {}
                changed = readable.changed() => changed.ok()?,
            }
        }
    }

    fn has_control(&self) -> bool {
        self.control.lock().unwrap().is_some()
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(PublishError::Refused);
        }
        if publication.to == Destination::Control && self.has_control() {
            self.decide(publication.body);
            return Ok(());
        }
        self.published.lock().unwrap().push(publication);
        Ok(())
    }

    async fn pause_intake(&self) {
        self.paused.store(true, Ordering::SeqCst);
    }

    async fn resume_intake(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    async fn stop_intake(&self) {
        self.stopped.cancel();
    }

    async fn dead_letters(
        &self,
        _limit: usize,
        _decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        Ok(0)
    }

    async fn depth(&self, _queue: &str) -> Option<u64> {
        None
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}

/// The parts of an engine with one system and without waits, for a test to change.
pub(crate) fn parts(broker: Arc<dyn Broker>, store: &Arc<MemoryStore>, clock: &Arc<AtomicI64>) -> Parts {
    let ticking = Arc::clone(clock);
    let settings = Settings {
        worker_id: "worker-7".into(),
        inline_wait_max: DAY,
        in_hand_max: DAY,
        drain_timeout: DAY,
        retain_finished: RETAIN_FINISHED,
        retain_failed: RETAIN_FAILED,
        retry: RetryPolicy { initial_interval: DAY, multiplier: 2.0, max_interval: DAY },
        limits: Limits {
            max_attempts: 1,
            max_elapsed: DAY,
            max_interval: DAY,
            input_max: DAY,
            pending_max: DAY,
            approval_max: DAY,
        },
        at_risk_before: DAY,
        seal_dead_letters: true,
    };
    let accepts = Accepts {
        environment: "sandbox".into(),
        systems: [("loyalty".to_owned(), Rules::new(Kind::ZetaLoyalty))].into(),
        ..Accepts::default()
    };
    Parts {
        settings,
        accepts,
        gates: Default::default(),
        broker,
        store: Arc::clone(store) as Arc<dyn Store>,
        keyring: Arc::new(Keyring::new(MasterKey::parse(KEY).unwrap(), Vec::new()).unwrap()),
        now: Arc::new(move || At(ticking.load(Ordering::SeqCst))),
        chance: Arc::new(|| 0.5),
    }
}

/// The engine and its parts.
pub(crate) struct Stage {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) post: Arc<Post>,
    clock: Arc<AtomicI64>,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let (deliver, jobs) = mpsc::unbounded_channel();
        let post = Arc::new(Post {
            refuses: AtomicBool::new(false),
            published: Mutex::default(),
            jobs: tokio::sync::Mutex::new(jobs),
            deliver,
            control: Mutex::default(),
            written: Notify::new(),
            readable: watch::Sender::new(usize::MAX),
            paused: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            link: watch::Sender::new(Link::Up),
        });
        let clock = Arc::new(AtomicI64::new(1_788_775_200_000));
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::new(parts(Arc::clone(&post) as Arc<dyn Broker>, &store, &clock));
        Stage { engine, store, post, clock }
    }

    /// Another process starts on the same store.
    pub(crate) fn restart(&mut self) {
        self.engine = Engine::new(parts(Arc::clone(&self.post) as Arc<dyn Broker>, &self.store, &self.clock));
    }

    /// The wall clock is put back.
    pub(crate) fn put_back(&self, time: Duration) {
        self.clock.fetch_sub(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// The wall clock moves on.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// A job's body, as its publisher sends it.
    pub(crate) fn body(number: u128) -> Vec<u8> {
        let body = json!({
            "schema": "erasure.job/v1", "job_id": Uuid::from_u128(number), "tenant": "acme",
            "environment": "sandbox", "requested_at": "2026-09-07T10:00:00Z",
            "targets": [{ "system": "loyalty", "method": "program_api", "member": { "member_id": format!("M{number}") } }],
        });
        body.to_string().into_bytes()
    }

    pub(crate) fn job(&self, number: u128) -> Job {
        draft::job(&Stage::body(number), None, &self.engine.accepts).unwrap()
    }

    /// Opens a copy of a job that must be worked on.
    pub(crate) fn open(&self, number: u128, origin: Origin) -> Journal {
        let unsealed = Unsealed { body: Zeroizing::new(Stage::body(number)), origin, wait: None };
        match self.engine.open(&self.job(number), &unsealed, false) {
            Ok(Opened::Work(journal)) => *journal,
            Ok(_) => panic!("there is nothing to be done for it"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens the replay of a failed job.
    pub(crate) fn replay(&self, number: u128) -> Journal {
        let key: JobKey = self.job(number).key;
        self.open(number, Origin::Ours { key, run: 2, park: 1, carried: Box::default() })
    }
}

pub(crate) fn full() -> StoreError {
    StoreError::Full { path: "memory".into(), free: 0, needed: 1 }
}

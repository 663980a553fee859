//! A broker in virtual time with only a real broker's promises: a confirmed message is kept, an unconfirmed one may be
//! kept, an unsettled delivery is redelivered.

mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use erasure_worker::broker::{DeadLetter, Destination, HeaderValue, Link, Properties, Publication, Via};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use wire::Line;
pub use wire::Wire;

#[derive(Clone)]
struct Message {
    properties: Properties,
    body: Bytes,
    via: Via,
    redelivered: bool,
}

/// An event as a subscriber received it.
#[derive(Clone)]
pub struct Event {
    pub id: String,
    pub body: Bytes,
    pub value: Value,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Message>,
    /// By delivery tag; tags follow the order of delivery. With the link's number.
    unacked: BTreeMap<u64, (u64, Message)>,
    /// The number of messages in wait queues.
    waiting: usize,
    tags: u64,
    /// The number of publishes, and of acks and requeues.
    taken: u64,
    settled: u64,
    epochs: u64,
    events: Vec<Event>,
    /// Jobs with a final event.
    ended: BTreeSet<String>,
    letters: Vec<DeadLetter>,
    /// With the time of each message.
    control: Vec<(Instant, Bytes)>,
    /// The time of each job's first cancellation.
    cancelled: BTreeMap<String, Instant>,
    /// The time of each job's first publish.
    published: BTreeMap<String, Instant>,
    /// The link that may consume.
    active: u64,
    /// Publishes may fail while this is set.
    troubled: bool,
    /// By the worker's life and the job.
    parks: BTreeMap<(u64, String), Parks>,
    /// The publisher's publishes of a job without a one-time password.
    asked: BTreeMap<String, usize>,
    /// The number of parked copies.
    parked: u64,
    /// Jobs that were parked because of an operator's pause.
    paused: BTreeSet<String>,
}

impl State {
    fn parks_of(&mut self, life: u64, job: String) -> &mut Parks {
        self.parks.entry((life, job)).or_default()
    }
}

/// A job's copies in one life of a worker: delivered and parked.
#[derive(Default)]
struct Parks {
    /// The highest park number confirmed to this life.
    confirmed: i64,
    /// Deliveries that were not older than the confirmed number.
    given: u64,
    /// The park numbers that this life used.
    taken: BTreeSet<i64>,
}

/// The broker. Clones share it.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<StdRng>>,
    changed: Arc<Notify>,
}

impl Hub {
    pub fn new(seed: u64) -> Hub {
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Hub { state: Arc::default(), random, changed: Arc::new(Notify::new()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn chance(&self, of: f64) -> bool {
        self.random.lock().unwrap().random_bool(of)
    }

    fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.random.lock().unwrap().random_range(0..=most))
    }

    /// From now on publishes may fail, or never fail.
    pub fn trouble(&self, troubled: bool) {
        self.state().troubled = troubled;
    }

    /// A publisher's job, confirmed.
    pub fn publish_job(&self, job: &Value) {
        let id = job["job_id"].as_str().unwrap().to_owned();
        let properties = Properties { message_id: Some(id), ..Properties::default() };
        let body = Bytes::from(job.to_string());
        self.state().published.entry(properties.message_id.clone().unwrap()).or_insert_with(Instant::now);
        if job["targets"][0]["code"].is_null() {
            *self.state().asked.entry(properties.message_id.clone().unwrap()).or_default() += 1;
        }
        self.state().jobs.push_back(Message { properties, body, via: Via::Requests, redelivered: false });
        self.changed.notify_waiters();
    }

    /// A publisher's cancellation, confirmed.
    pub fn publish_cancel(&self, job: &Value) {
        let (tenant, job_id) = (&job["tenant"], job["job_id"].as_str().unwrap());
        let body = serde_json::json!({ "schema": "erasure.cancel/v1", "tenant": tenant, "job_id": job_id });
        let mut state = self.state();
        state.control.push((Instant::now(), Bytes::from(body.to_string())));
        state.cancelled.entry(job_id.to_owned()).or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The time of the job's first cancellation.
    pub fn cancelled_at(&self, job_id: &str) -> Option<Instant> {
        self.state().cancelled.get(job_id).copied()
    }

    /// Deliveries, publishes and acks so far.
    pub fn operations(&self) -> [u64; 3] {
        let state = self.state();
        [state.tags, state.taken, state.settled]
    }

    /// The number of jobs with a final event.
    pub fn ended_count(&self) -> usize {
        self.state().ended.len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        self.state().letters.clone()
    }

    /// The numbers of copies in the queue, unacked, and in wait queues.
    pub fn copies(&self) -> [usize; 3] {
        let state = self.state();
        [state.jobs.len(), state.unacked.len(), state.waiting]
    }

    /// Jobs of which a worker parked more copies than it received current ones: a copy older than a confirmed one must
    /// not be parked again.
    pub fn multiplied(&self) -> Vec<String> {
        let state = self.state();
        let too_many = |(_, parks): &(&(u64, String), &Parks)| parks.taken.len() as u64 > parks.given;
        state.parks.iter().filter(too_many).map(|((_, job), _)| job.clone()).collect()
    }

    /// The time of the job's first publish.
    pub fn published_at(&self, job_id: &str) -> Option<Instant> {
        self.state().published.get(job_id).copied()
    }

    /// The number of publishes of the job without a one-time password.
    pub fn asked(&self, job_id: &str) -> usize {
        self.state().asked.get(job_id).copied().unwrap_or(0)
    }

    /// The number of parked copies.
    pub fn parked(&self) -> u64 {
        self.state().parked
    }

    /// The number of jobs that waited for the end of an operator's pause.
    pub fn paused(&self) -> usize {
        self.state().paused.len()
    }

    /// The messages of the control stream, each with its time.
    pub fn control(&self) -> Vec<(Instant, Bytes)> {
        self.state().control.clone()
    }

    /// True if the broker holds no copy of any job.
    pub fn is_empty(&self) -> bool {
        self.copies() == [0; 3]
    }

    pub async fn until(&self, done: impl Fn(&Hub) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(self) {
                return;
            }
            changed.await;
        }
    }

    /// A worker's link to this broker. The first link is active; the others are standbys.
    pub fn connect(&self, prefetch: usize) -> Arc<Wire> {
        let mut state = self.state();
        state.epochs += 1;
        let epoch = state.epochs;
        if state.active == 0 {
            state.active = epoch;
        }
        Arc::new(Wire {
            hub: self.clone(),
            life: epoch,
            prefetch,
            line: Mutex::new(Line::up(epoch)),
            link: watch::Sender::new(Link::Up),
            dead: CancellationToken::new(),
            stopped: CancellationToken::new(),
        })
    }

    /// Requeues the unsettled deliveries of this link in their order.
    fn requeue_unsettled(&self, epoch: u64) {
        let mut state = self.state();
        let tags: Vec<u64> =
            state.unacked.iter().filter(|(_, (owner, _))| *owner == epoch).map(|(tag, _)| *tag).collect();
        for tag in tags.into_iter().rev() {
            if let Some((_, message)) = state.unacked.remove(&tag) {
                state.jobs.push_front(Message { redelivered: true, ..message });
            }
        }
        drop(state);
        self.free_active_place(epoch);
    }

    /// The link consumes no more. If it was the active one, another link may become active.
    fn free_active_place(&self, epoch: u64) {
        let mut state = self.state();
        if state.active == epoch {
            state.active = 0;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn accept(&self, publication: Publication) {
        let Publication { to, properties, body } = publication;
        self.state().taken += 1;
        match to {
            Destination::Event { .. } => {
                let value: Value = serde_json::from_slice(&body).unwrap();
                if value["data"]["final"] == true {
                    self.state().ended.insert(value["subject"].as_str().unwrap().to_owned());
                }
                self.state().events.push(Event {
                    id: value["id"].as_str().unwrap().to_owned(),
                    body,
                    value,
                    at: Instant::now(),
                });
            }
            Destination::DeadLetter => self.state().letters.push(DeadLetter { properties, body }),
            Destination::Cancel | Destination::Control => self.state().control.push((Instant::now(), body)),
            Destination::Requests => self.queue(properties, body, Via::Requests),
            Destination::Resume => self.queue(properties, body, Via::Resume),
            Destination::Wait(tier) => {
                let mut state = self.state();
                state.waiting += 1;
                state.parked += 1;
                if waits_for(&properties) == Some("paused")
                    && let Some((job, _)) = place(&properties, Via::Resume)
                {
                    state.paused.insert(job);
                }
                drop(state);
                let hub = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(tier.wait()).await;
                    hub.state().waiting -= 1;
                    hub.queue(properties, body, Via::Resume);
                });
            }
        }
        self.changed.notify_waiters();
    }

    fn queue(&self, properties: Properties, body: Bytes, via: Via) {
        self.state().jobs.push_back(Message { properties, body, via, redelivered: false });
        self.changed.notify_waiters();
    }
}

/// True for a stale copy that was set aside until a newer copy is seen.
fn is_aside(properties: &Properties) -> bool {
    waits_for(properties).is_some_and(|wait| wait.starts_with("aside"))
}

fn waits_for(properties: &Properties) -> Option<&str> {
    properties.headers.get("x-erasure-wait").and_then(HeaderValue::as_text)
}

/// A copy's job and park number. A publisher's message has the highest number.
fn place(properties: &Properties, via: Via) -> Option<(String, i64)> {
    let number = properties.headers.get("x-erasure-park").and_then(HeaderValue::as_int);
    match via {
        Via::Resume => {
            Some((properties.headers.get("x-erasure-job-id")?.as_text()?.to_owned(), number.unwrap_or(i64::MAX)))
        }
        _ => Some((properties.message_id.clone()?, i64::MAX)),
    }
}

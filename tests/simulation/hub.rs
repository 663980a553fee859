//! A broker in virtual time that keeps the promises of a real one, and no others: what was confirmed
//! is kept; what was not may be kept; what was delivered and not settled comes again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use erasure_worker::broker::{
    Broker, Control, DeadLetter, Delivery, Destination, HeaderValue, Link, Lost, Place, Properties, Publication,
    PublishError, Settle, Verdict, Via,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Message {
    properties: Properties,
    body: Bytes,
    via: Via,
    redelivered: bool,
}

/// An event as a subscriber got it.
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
    /// By delivery tag, which follows the order of delivery.
    unacked: BTreeMap<u64, (u64, Message)>,
    /// Lying in a wait queue.
    waiting: usize,
    tags: u64,
    /// Publishes and acks.
    taken: u64,
    settled: u64,
    epochs: u64,
    events: Vec<Event>,
    letters: Vec<DeadLetter>,
    control: Vec<Bytes>,
    /// When each job was first cancelled.
    cancelled: BTreeMap<String, Instant>,
    /// When each job was first published.
    published: BTreeMap<String, Instant>,
    /// The link that may consume.
    active: u64,
    /// Publishes and deliveries go wrong while set.
    troubled: bool,
    /// By worker's life and job.
    parks: BTreeMap<(u64, String), Parks>,
    /// Publishes of a job by its publisher that bring no one-time password.
    asked: BTreeMap<String, usize>,
    /// Copies that were parked in all.
    parked: u64,
}

/// What one life of a worker was given of a job, and what it parked of it.
#[derive(Default)]
struct Parks {
    /// The highest number that was confirmed to it.
    confirmed: i64,
    /// Deliveries that were not older than that.
    given: u64,
    /// Numbers that it took.
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

    /// From now on publishes may go wrong, or not any more.
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
    pub fn publish_cancel(&self, job_id: &str) {
        let body = serde_json::json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": job_id });
        let mut state = self.state();
        state.control.push(Bytes::from(body.to_string()));
        state.cancelled.entry(job_id.to_owned()).or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_waiters();
    }

    /// When the job was first cancelled.
    pub fn cancelled_at(&self, job_id: &str) -> Option<Instant> {
        self.state().cancelled.get(job_id).copied()
    }

    /// Deliveries, publishes and acks so far.
    pub fn operations(&self) -> [u64; 3] {
        let state = self.state();
        [state.tags, state.taken, state.settled]
    }

    /// How many events there are.
    pub fn events_told(&self) -> usize {
        self.state().events.len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        self.state().letters.clone()
    }

    /// How many copies of jobs lie in the queue, are delivered, and wait.
    pub fn copies(&self) -> [usize; 3] {
        let state = self.state();
        [state.jobs.len(), state.unacked.len(), state.waiting]
    }

    /// Jobs of which a worker parked more copies than it was given copies that count: one that is older
    /// than a confirmed one must end there.
    pub fn multiplied(&self) -> Vec<String> {
        let state = self.state();
        let too_many = |(_, parks): &(&(u64, String), &Parks)| parks.taken.len() as u64 > parks.given;
        state.parks.iter().filter(too_many).map(|((_, job), _)| job.clone()).collect()
    }

    /// When the job was first published.
    pub fn published_at(&self, job_id: &str) -> Option<Instant> {
        self.state().published.get(job_id).copied()
    }

    /// How often the publisher has sent the job without a one-time password.
    pub fn asked(&self, job_id: &str) -> usize {
        self.state().asked.get(job_id).copied().unwrap_or(0)
    }

    /// How many copies were parked.
    pub fn parked(&self) -> u64 {
        self.state().parked
    }

    /// No copy of any job is anywhere.
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

    /// A worker's link to this broker. The first one consumes; others stand by.
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
            line: Mutex::new(Line { epoch, lost: CancellationToken::new(), up: true, takes: true }),
            link: watch::Sender::new(Link::Up),
            dead: CancellationToken::new(),
            stopped: CancellationToken::new(),
        })
    }

    /// What was delivered to this link and not settled goes back, in its order.
    fn take_back(&self, epoch: u64) {
        let mut state = self.state();
        let tags: Vec<u64> =
            state.unacked.iter().filter(|(_, (owner, _))| *owner == epoch).map(|(tag, _)| *tag).collect();
        for tag in tags.into_iter().rev() {
            if let Some((_, message)) = state.unacked.remove(&tag) {
                state.jobs.push_front(Message { redelivered: true, ..message });
            }
        }
        if state.active == epoch {
            state.active = 0;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn take_over(&self, publication: Publication) {
        let Publication { to, properties, body } = publication;
        self.state().taken += 1;
        match to {
            Destination::Event { .. } => {
                let value: Value = serde_json::from_slice(&body).unwrap();
                self.state().events.push(Event {
                    id: value["id"].as_str().unwrap().to_owned(),
                    body,
                    value,
                    at: Instant::now(),
                });
            }
            Destination::DeadLetter => self.state().letters.push(DeadLetter { properties, body }),
            Destination::Cancel | Destination::Control => self.state().control.push(body),
            Destination::Requests => self.queue(properties, body, Via::Requests),
            Destination::Resume => self.queue(properties, body, Via::Resume),
            Destination::Wait(tier) => {
                let mut state = self.state();
                state.waiting += 1;
                state.parked += 1;
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

struct Line {
    epoch: u64,
    lost: CancellationToken,
    up: bool,
    takes: bool,
}

/// One worker's way to the broker. Once its worker is dead, whoever still uses it waits for ever.
pub struct Wire {
    hub: Hub,
    life: u64,
    prefetch: usize,
    line: Mutex<Line>,
    link: watch::Sender<Link>,
    dead: CancellationToken,
    stopped: CancellationToken,
}

impl Wire {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    /// The connection breaks; it is back after `pause`.
    pub async fn cut(&self, pause: Duration) {
        let old = {
            let mut line = self.line();
            if !line.up {
                return;
            }
            line.up = false;
            line.lost.cancel();
            line.epoch
        };
        self.link.send_replace(Link::Down("cut".to_owned()));
        self.hub.take_back(old);
        tokio::time::sleep(pause).await;
        if self.dead.is_cancelled() {
            return;
        }
        {
            let mut state = self.hub.state();
            state.epochs += 1;
            let mut line = self.line();
            line.epoch = state.epochs;
            line.lost = CancellationToken::new();
            line.up = true;
        }
        self.link.send_replace(Link::Up);
        self.hub.changed.notify_waiters();
    }

    /// True where this link is the one that is delivered to.
    pub fn is_active(&self) -> bool {
        let epoch = self.line().epoch;
        self.hub.state().active == epoch
    }

    /// The broker gives the place of the active one to another consumer; the connection stays.
    pub fn pass_on(&self) {
        let epoch = self.line().epoch;
        let mut state = self.hub.state();
        if state.active == epoch {
            // Whoever asks next; it may be this one.
            state.active = 0;
        }
        drop(state);
        self.hub.changed.notify_waiters();
    }

    /// The worker is no more.
    pub fn die(&self) {
        self.dead.cancel();
        let epoch = self.line().epoch;
        self.line().up = false;
        self.hub.take_back(epoch);
    }

    fn is_up(&self) -> bool {
        self.line().up && !self.dead.is_cancelled()
    }

    async fn alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    fn delivered(self: &Wire) -> Option<Delivery> {
        let line = self.line();
        let mut state = self.hub.state();
        if !line.up || !line.takes || self.dead.is_cancelled() {
            return None;
        }
        if state.active == 0 {
            state.active = line.epoch;
        }
        let in_hand = state.unacked.values().filter(|(owner, _)| *owner == line.epoch).count();
        if state.active != line.epoch || in_hand >= self.prefetch {
            return None;
        }
        let message = state.jobs.pop_front()?;
        if let Some((job, number)) = place(&message.properties, message.via) {
            let parks = state.parks.entry((self.life, job)).or_default();
            parks.given += u64::from(number >= parks.confirmed);
        }
        state.tags += 1;
        let tag = state.tags;
        state.unacked.insert(tag, (line.epoch, message.clone()));
        Some(Delivery {
            body: message.body,
            properties: message.properties,
            via: message.via,
            redelivered: message.redelivered,
            lost: line.lost.clone(),
            epoch: line.epoch,
            settle: Box::new(Right { hub: self.hub.clone(), dead: self.dead.clone(), tag, epoch: line.epoch }),
        })
    }
}

/// A job's copy: which job, and its number, which no number is older than where a publisher sent it.
fn is_aside(properties: &Properties) -> bool {
    let wait = properties.headers.get("x-erasure-wait").and_then(HeaderValue::as_text);
    wait.is_some_and(|wait| wait.starts_with("aside"))
}

fn place(properties: &Properties, via: Via) -> Option<(String, i64)> {
    let number = properties.headers.get("x-erasure-park").and_then(HeaderValue::as_int);
    match via {
        Via::Resume => {
            Some((properties.headers.get("x-erasure-job-id")?.as_text()?.to_owned(), number.unwrap_or(i64::MAX)))
        }
        _ => Some((properties.message_id.clone()?, i64::MAX)),
    }
}

struct Right {
    hub: Hub,
    dead: CancellationToken,
    tag: u64,
    epoch: u64,
}

impl Right {
    async fn settle(&self, requeue: bool) -> Result<(), Lost> {
        let pause = self.hub.millis(2);
        tokio::time::sleep(pause).await;
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let mut state = self.hub.state();
        match state.unacked.get(&self.tag) {
            Some((epoch, _)) if *epoch == self.epoch => {}
            _ => return Err(Lost),
        }
        state.settled += 1;
        if let Some((_, message)) = state.unacked.remove(&self.tag)
            && requeue
        {
            state.jobs.push_front(Message { redelivered: true, ..message });
        }
        drop(state);
        self.hub.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Settle for Right {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        self.settle(false).await
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        self.settle(true).await
    }
}

#[async_trait]
impl Broker for Wire {
    async fn next(&self) -> Option<Delivery> {
        loop {
            let changed = self.hub.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.alive().await;
            if self.stopped.is_cancelled() {
                return None;
            }
            if let Some(delivery) = self.delivered() {
                return Some(delivery);
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return None,
                () = changed => {}
            }
        }
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        let offset = after.map_or(0, |place| place.offset() + 1);
        loop {
            let changed = self.hub.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.alive().await;
            if let Some(body) = self.hub.state().control.get(usize::try_from(offset).unwrap()).cloned()
                && self.is_up()
            {
                return Some(Control { offset, properties: Properties::default(), body });
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return None,
                () = changed => {}
            }
        }
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let (before, after) = (self.hub.millis(2), self.hub.millis(2));
        tokio::time::sleep(before).await;
        self.alive().await;
        if !self.is_up() {
            return Err(PublishError::Down("cut".to_owned()));
        }
        let troubled = self.hub.state().troubled;
        if troubled && self.hub.chance(0.05) {
            return Err(PublishError::Refused);
        }
        let copy = publication.clone();
        let parked = match publication.to {
            // One that was set aside counts for nothing: it only waits for a newer one.
            Destination::Wait(_) if !is_aside(&publication.properties) => place(&publication.properties, Via::Resume),
            _ => None,
        };
        if let Some((job, number)) = parked.clone() {
            self.hub.state().parks.entry((self.life, job)).or_default().taken.insert(number);
        }
        self.hub.take_over(publication);
        if troubled && self.hub.chance(0.02) {
            // As a publisher that lost its confirm and sent it again.
            self.hub.take_over(copy);
        }
        tokio::time::sleep(after).await;
        self.alive().await;
        let confirm_is_lost = troubled && self.hub.chance(0.05);
        if confirm_is_lost || !self.is_up() {
            return Err(PublishError::TimedOut(Duration::from_secs(5)));
        }
        if let Some((job, number)) = parked {
            let mut state = self.hub.state();
            let parks = state.parks.entry((self.life, job)).or_default();
            parks.confirmed = parks.confirmed.max(number);
        }
        Ok(())
    }

    async fn pause_intake(&self) {
        self.line().takes = false;
        let epoch = self.line().epoch;
        let mut state = self.hub.state();
        if state.active == epoch {
            // A consumer that is cancelled lets the next one in.
            state.active = 0;
        }
        drop(state);
        self.hub.changed.notify_waiters();
    }

    async fn resume_intake(&self) {
        self.line().takes = true;
        self.hub.changed.notify_waiters();
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

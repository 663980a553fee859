//! A broker within the test process: a message is delivered only when the test does so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use erasure_worker::broker::{
    Broker, Control, DeadLetter, Delivery, Destination, HeaderValue, Link, Lost, Message, Place, Properties,
    Publication, PublishError, Settle, Verdict, Via,
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::soon;

/// The messages that the broker has.
#[derive(Default, Clone)]
pub struct Seen {
    /// All publishes, in order.
    pub published: Vec<Publication>,
    pub events: Vec<Value>,
    /// The parked copies.
    pub parked: Vec<Publication>,
    pub letters: Vec<DeadLetter>,
    pub acked: usize,
    given_back: Vec<Waiting>,
}

impl Seen {
    /// The events of a job, in order.
    pub fn of(&self, job_id: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["subject"] == job_id).collect()
    }

    fn take_over(&mut self, publication: &Publication) {
        let Publication { to, properties, body } = publication.clone();
        match to {
            Destination::Event { .. } => self.events.push(serde_json::from_slice(&body).unwrap()),
            Destination::DeadLetter => self.letters.push(DeadLetter { properties, body }),
            Destination::Wait(_) => self.parked.push(publication.clone()),
            _ => {}
        }
        self.published.push(publication.clone());
    }
}

/// The publishes that the broker refuses.
#[derive(Default)]
pub struct Refuses {
    /// Every publish of an event.
    pub events: bool,
    /// Every publish to the control stream.
    pub control: bool,
    /// Every replacement of a dead letter.
    pub letters: bool,
}

/// A message to deliver.
#[derive(Clone)]
struct Waiting {
    publication: Publication,
    via: Via,
    redelivered: bool,
}

/// A control stream; more than one broker may share it.
pub type Stream = watch::Sender<Vec<(Properties, Bytes)>>;

/// The broker.
pub struct Post {
    /// The control stream.
    pub control: Stream,
    /// True: the control stream is not delivered.
    pub keeps_control: watch::Sender<bool>,
    pub refuses: Mutex<Refuses>,
    /// The number of calls that asked for a delivery.
    pub asked: AtomicUsize,
    pub link: watch::Sender<Link>,
    pub depths: Mutex<BTreeMap<String, u64>>,
    sender: mpsc::UnboundedSender<Waiting>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Waiting>>,
    seen: watch::Sender<Seen>,
    stopped: CancellationToken,
}

/// Keeps a requeued message until the test redelivers it.
struct Shelf {
    message: Waiting,
    seen: watch::Sender<Seen>,
}

#[async_trait]
impl Settle for Shelf {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        self.seen.send_modify(|seen| seen.acked += 1);
        Ok(())
    }
    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        let Shelf { message, seen } = *self;
        seen.send_modify(|seen| seen.given_back.push(message));
        Ok(())
    }
}

impl Default for Post {
    fn default() -> Post {
        let (sender, receiver) = mpsc::unbounded_channel();
        Post {
            control: Stream::default(),
            keeps_control: watch::Sender::default(),
            refuses: Mutex::default(),
            asked: AtomicUsize::new(0),
            link: watch::Sender::new(Link::Up),
            depths: Mutex::default(),
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
            seen: watch::Sender::default(),
            stopped: CancellationToken::new(),
        }
    }
}

impl Post {
    pub fn new() -> Arc<Post> {
        Arc::default()
    }

    /// The same broker after its worker ended, with the same messages.
    pub fn again(&self) -> Arc<Post> {
        Arc::new(Post { control: self.control.clone(), seen: watch::Sender::new(self.seen()), ..Post::default() })
    }

    /// A broker with the control stream of another broker.
    pub fn with_control(control: &Stream) -> Arc<Post> {
        Arc::new(Post { control: control.clone(), ..Post::default() })
    }

    fn queue(&self, publication: Publication, via: Via, redelivered: bool) {
        self.sender.send(Waiting { publication, via, redelivered }).ok().unwrap();
    }

    /// Delivers a publisher's message.
    pub fn deliver(&self, properties: Properties, body: impl Into<Bytes>, redelivered: bool) {
        let publication = Publication { to: Destination::Requests, properties, body: body.into() };
        self.queue(publication, Via::Requests, redelivered);
    }

    /// The same, not redelivered.
    pub fn send(&self, properties: Properties, body: impl Into<Bytes>) {
        self.deliver(properties, body, false);
    }

    /// Delivers a message unchanged, by this route, as the broker's own tools move messages.
    pub fn put(&self, via: Via, properties: Properties, body: Bytes) {
        let to = if via == Via::Resume { Destination::Resume } else { Destination::Requests };
        self.queue(Publication { to, properties, body }, via, false);
    }

    /// Appends a message to the control stream.
    pub fn control(&self, properties: Properties, body: impl Into<Bytes>) {
        self.control.send_modify(|all| all.push((properties, body.into())));
    }

    /// Redelivers a parked copy after its wait.
    pub fn come_back(&self, copy: &Publication) {
        self.queue(copy.clone(), Via::Resume, false);
    }

    /// Redelivers all parked copies.
    pub fn waits_end(&self) -> usize {
        let mut parked = Vec::new();
        self.seen.send_modify(|seen| parked = std::mem::take(&mut seen.parked));
        parked.iter().for_each(|copy| self.come_back(copy));
        parked.len()
    }

    /// Returns the messages so far; removes dead letters and parked copies.
    pub fn take(&self) -> Seen {
        let taken = self.seen();
        self.seen.send_modify(|seen| {
            seen.letters.clear();
            seen.parked.clear();
        });
        taken
    }

    /// The messages so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Changes the dead letters in the queue.
    pub fn with_letters(&self, change: impl FnOnce(&mut Vec<DeadLetter>)) {
        self.seen.send_modify(|seen| change(&mut seen.letters));
    }

    /// Waits until the messages satisfy `enough`.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        soon(what, seen.wait_for(enough)).await.unwrap().clone()
    }

    /// Waits for an event of a job; returns the latest.
    pub async fn event(&self, job_id: &str, what: &str) -> Value {
        let kind = format!("erasure.job.{what}.v1");
        let fits = |event: &Value| event["subject"] == job_id && event["type"] == *kind;
        let seen = self.until(&format!("{what} of {job_id}"), |seen| seen.events.iter().any(fits)).await;
        seen.events.iter().rfind(|event| fits(event)).unwrap().clone()
    }

    /// Waits until a delivery was requeued.
    pub async fn given_back(&self) {
        self.until("a delivery that is given back", |seen| !seen.given_back.is_empty()).await;
    }

    /// Redelivers the requeued messages.
    pub fn redeliver(&self) {
        let mut given_back = Vec::new();
        self.seen.send_modify(|seen| given_back = std::mem::take(&mut seen.given_back));
        given_back.into_iter().for_each(|message| self.queue(message.publication, message.via, true));
    }

    /// Waits for a job's parked copy number `n`.
    pub async fn parked(&self, job_id: &str, n: usize) -> Publication {
        let is_its = |copy: &&Publication| {
            matches!(copy.to, Destination::Wait(_)) && header(&copy.properties, "x-erasure-job-id") == job_id
        };
        let of = |seen: &Seen| seen.published.iter().filter(is_its).nth(n - 1).cloned();
        of(&self.until(&format!("copy {n} of {job_id}"), |seen| of(seen).is_some()).await).unwrap()
    }

    /// Waits for a matching publish; returns the latest.
    pub async fn published(&self, mut fits: impl FnMut(&Publication) -> bool) -> Publication {
        let seen = self.until("a publication", |seen| seen.published.iter().any(&mut fits)).await;
        seen.published.iter().rfind(|publication| fits(publication)).unwrap().clone()
    }
}

/// A header's text.
pub fn header<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.headers.get(name).and_then(HeaderValue::as_text).unwrap_or_default()
}

#[async_trait]
impl Broker for Post {
    async fn next(&self) -> Option<Delivery> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut receiver = self.receiver.lock().await;
        let message = self.stopped.run_until_cancelled(receiver.recv()).await??;
        let Waiting { publication: Publication { properties, body, .. }, via, redelivered } = message.clone();
        let lost = CancellationToken::new();
        Some(Delivery {
            message: Message { body, properties, via, redelivered, lost, epoch: 1 },
            settle: Box::new(Shelf { message, seen: self.seen.clone() }),
        })
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        let offset = after.map_or(0, |after| after.offset() + 1);
        let place = usize::try_from(offset).unwrap();
        let (mut keeps, mut stream) = (self.keeps_control.subscribe(), self.control.subscribe());
        let there = async {
            keeps.wait_for(|keeps| !keeps).await.unwrap();
            stream.wait_for(|all| all.len() > place).await.unwrap()[place].clone()
        };
        let (properties, body) = self.stopped.run_until_cancelled(there).await?;
        Some(Control { offset, properties, body })
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        {
            let refuses = self.refuses.lock().unwrap();
            match publication.to {
                Destination::Event { .. } if refuses.events => return Err(PublishError::Refused),
                Destination::Control if refuses.control => return Err(PublishError::Refused),
                Destination::Cancel => panic!("the worker publishes no cancellations"),
                _ => {}
            }
        }
        let Publication { to, properties, body } = publication.clone();
        match to {
            Destination::Resume => self.queue(publication.clone(), Via::Resume, false),
            Destination::Requests => self.deliver(properties, body, false),
            Destination::Control => self.control(properties, body),
            _ => {}
        }
        self.seen.send_modify(|seen| seen.take_over(&publication));
        Ok(())
    }

    async fn pause_intake(&self) {}
    async fn resume_intake(&self) {}

    async fn stop_intake(&self) {
        self.stopped.cancel();
    }

    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        let mut letters = Vec::new();
        self.with_letters(|all| letters = std::mem::take(all));
        let (mut kept, mut outcome) = (Vec::new(), Ok(()));
        let looked_at = letters.len().min(limit);
        for (place, letter) in letters.into_iter().enumerate() {
            let verdict = if place < looked_at && outcome.is_ok() { decide(&letter) } else { Verdict::Keep };
            match verdict {
                Verdict::Keep => kept.push(letter),
                Verdict::Remove => {}
                Verdict::Replace(_) if self.refuses.lock().unwrap().letters => {
                    outcome = Err(PublishError::Refused);
                    kept.push(letter);
                }
                Verdict::Replace(publication) => self.publish(*publication).await?,
            }
        }
        // Letters that arrived meanwhile stay behind these.
        self.with_letters(|all| drop(all.splice(0..0, kept)));
        outcome.map(|()| looked_at)
    }

    async fn depth(&self, queue: &str) -> Option<u64> {
        if queue == "dead-letters" {
            return Some(self.seen.borrow().letters.len() as u64);
        }
        self.depths.lock().unwrap().get(queue).copied()
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}

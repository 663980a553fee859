//! A broker that lives in the test: nothing moves but what the test lets move.

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

/// Longer than anything takes on a busy machine; nothing relies on it passing.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What the broker has seen.
#[derive(Default, Clone)]
pub struct Seen {
    pub events: Vec<Value>,
    pub parked: Vec<Publication>,
    pub letters: Vec<DeadLetter>,
    pub acked: usize,
}

impl Seen {
    /// The events of a job, in order.
    pub fn of(&self, job_id: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["subject"] == job_id).collect()
    }
}

struct Waiting {
    publication: Publication,
    via: Via,
    redelivered: bool,
}

pub struct Post {
    sender: mpsc::UnboundedSender<Waiting>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Waiting>>,
    controls: mpsc::UnboundedSender<Control>,
    control_receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Control>>,
    seen: watch::Sender<Seen>,
    offset: Mutex<u64>,
    link: watch::Sender<Link>,
    stopped: CancellationToken,
}

struct Acks(watch::Sender<Seen>);

#[async_trait]
impl Settle for Acks {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        self.0.send_modify(|seen| seen.acked += 1);
        Ok(())
    }
    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        Ok(())
    }
}

impl Post {
    /// An empty one, or one that holds what another held.
    pub fn new(seen: Seen) -> Arc<Post> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (controls, control_receiver) = mpsc::unbounded_channel();
        Arc::new(Post {
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
            controls,
            control_receiver: tokio::sync::Mutex::new(control_receiver),
            seen: watch::Sender::new(seen),
            offset: Mutex::default(),
            link: watch::Sender::new(Link::Up),
            stopped: CancellationToken::new(),
        })
    }

    /// Delivers a message as it comes from a publisher.
    pub fn deliver(&self, properties: Properties, body: impl Into<Bytes>, redelivered: bool) {
        let publication = Publication { to: Destination::Requests, properties, body: body.into() };
        self.sender.send(Waiting { publication, via: Via::Requests, redelivered }).ok().unwrap();
    }

    /// Delivers a message as it is, by that way: as the broker's own tools move one.
    pub fn put(&self, via: Via, properties: Properties, body: Bytes) {
        let to = if via == Via::Resume { Destination::Resume } else { Destination::Requests };
        let publication = Publication { to, properties, body };
        self.sender.send(Waiting { publication, via, redelivered: false }).ok().unwrap();
    }

    /// Puts a message on the control stream.
    pub fn control(&self, properties: Properties, body: impl Into<Bytes>) {
        let mut offset = self.offset.lock().unwrap();
        self.controls.send(Control { offset: *offset, properties, body: body.into() }).unwrap();
        *offset += 1;
    }

    /// Everything that is parked comes back.
    pub fn waits_end(&self) -> usize {
        let mut parked = Vec::new();
        self.seen.send_modify(|seen| parked = std::mem::take(&mut seen.parked));
        let count = parked.len();
        for publication in parked {
            self.sender.send(Waiting { publication, via: Via::Resume, redelivered: false }).ok().unwrap();
        }
        count
    }

    /// Takes away what lies there: letters and parked copies.
    pub fn take(&self) -> Seen {
        let taken = self.seen();
        self.seen.send_modify(|seen| {
            seen.letters.clear();
            seen.parked.clear();
        });
        taken
    }

    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what was seen is enough.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(enough)).await;
        let Ok(waited) = waited else { panic!("waited in vain for {what}: {:#?}", self.seen().events) };
        waited.unwrap().clone()
    }

    /// Waits for an event of a job.
    pub async fn event(&self, job_id: &str, what: &str) -> Value {
        let kind = format!("erasure.job.{what}.v1");
        let fits = |event: &Value| event["subject"] == job_id && event["type"] == *kind;
        let seen = self.until(&format!("{what} of {job_id}"), |seen| seen.events.iter().any(fits)).await;
        seen.events.iter().rfind(|event| fits(event)).unwrap().clone()
    }
}

/// A header's text.
pub fn header<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.headers.get(name).and_then(HeaderValue::as_text).unwrap_or_default()
}

#[async_trait]
impl Broker for Post {
    async fn next(&self) -> Option<Delivery> {
        let mut receiver = self.receiver.lock().await;
        let Waiting { publication, via, redelivered } = tokio::select! {
            next = receiver.recv() => next?,
            () = self.stopped.cancelled() => return None,
        };
        Some(Delivery {
            message: Message {
                body: publication.body,
                properties: publication.properties,
                via,
                redelivered,
                lost: CancellationToken::new(),
                epoch: 1,
            },
            settle: Box::new(Acks(self.seen.clone())),
        })
    }

    async fn next_control(&self, _after: Option<Place>) -> Option<Control> {
        let mut receiver = self.control_receiver.lock().await;
        tokio::select! {
            next = receiver.recv() => next,
            () = self.stopped.cancelled() => None,
        }
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        match &publication.to {
            Destination::Event { .. } => {
                let event = serde_json::from_slice(&publication.body).unwrap();
                self.seen.send_modify(|seen| seen.events.push(event));
            }
            Destination::DeadLetter => {
                let letter = DeadLetter { properties: publication.properties, body: publication.body };
                self.seen.send_modify(|seen| seen.letters.push(letter));
            }
            Destination::Wait(_) => self.seen.send_modify(|seen| seen.parked.push(publication)),
            Destination::Resume => {
                self.sender.send(Waiting { publication, via: Via::Resume, redelivered: false }).ok().unwrap();
            }
            Destination::Control => self.control(publication.properties, publication.body),
            Destination::Requests => self.deliver(publication.properties, publication.body, false),
            Destination::Cancel => panic!("the worker publishes no cancellations"),
        }
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
        let letters = self.seen().letters;
        let looked = letters.len().min(limit);
        let mut replacements = Vec::new();
        let mut kept = Vec::new();
        for letter in letters {
            match decide(&letter) {
                Verdict::Keep => kept.push(letter),
                Verdict::Remove => {}
                Verdict::Replace(publication) => replacements.push(*publication),
            }
        }
        self.seen.send_modify(|seen| seen.letters = kept);
        for publication in replacements {
            self.publish(publication).await?;
        }
        Ok(looked)
    }

    async fn depth(&self, _queue: &str) -> Option<u64> {
        None
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}

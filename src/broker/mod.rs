//! Messages in and out: the engine's view of a broker, of any kind.
//!
//! The rule it keeps: a publish that returns `Ok` was confirmed by the broker *and* routed to at least one queue. An
//! ack that returns `Ok` was sent on the delivery's own channel.

pub mod amqp;
mod inbox;
mod mended;
pub mod place;
pub mod spool;
pub mod topology;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use mended::{Cut, Fault, Mended};
pub use place::Place;

/// The deepest nesting of tables and arrays in headers that is accepted.
pub const MAX_NESTING: usize = 32;

/// A header's value; other AMQP types are dropped at arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

impl HeaderValue {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            HeaderValue::Text(text) => Some(text),
            HeaderValue::Int(_) | HeaderValue::Bool(_) => None,
        }
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            HeaderValue::Int(number) => Some(*number),
            HeaderValue::Text(_) | HeaderValue::Bool(_) => None,
        }
    }
}

/// Message properties and headers. The `Debug` form shows no value that a publisher chose.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content-type`.
    pub content_type: Option<String>,
    /// `message-id`.
    pub message_id: Option<String>,
    /// `correlation-id`.
    pub correlation_id: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `app-id`.
    pub app_id: Option<String>,
    /// `user-id`, as the broker checked it; it is never published again.
    pub user_id: Option<String>,
    /// `timestamp`, seconds since 1970.
    pub timestamp: Option<u64>,
    /// `priority`.
    pub priority: Option<u8>,
    /// `reply-to`.
    pub reply_to: Option<String>,
    /// The headers that are text, numbers or booleans.
    pub headers: BTreeMap<String, HeaderValue>,
    /// For a delivered message: the changes that made it readable. Never published.
    pub mended: Option<Mended>,
    /// For a message from a file: its first line, from 1. Never published.
    pub line: Option<u64>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Properties").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

/// The exchange of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `<prefix>.requests`: from a publisher.
    Requests,
    /// `<prefix>.resume`: the worker parked or replayed it; the engine still checks its MAC.
    Resume,
    /// Any other exchange: trusted as little as a publisher's message.
    Other,
}

/// The delivery's channel was lost: the message was not settled, and the broker redelivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delivery's channel was lost; the broker redelivers the job")]
pub struct Lost;

/// The one-time right to settle a delivery.
#[async_trait]
pub trait Settle: Send {
    /// Removes the message from the broker. `Err`: its channel was lost.
    async fn ack(self: Box<Self>) -> Result<(), Lost>;
    /// Requeues the message.
    async fn requeue(self: Box<Self>) -> Result<(), Lost>;
}

/// A delivered message: a job, or something that claims to be one.
pub struct Message {
    /// The raw body.
    pub body: Bytes,
    /// Properties and headers.
    pub properties: Properties,
    /// The exchange.
    pub via: Via,
    /// The broker's redelivered flag: only a hint.
    pub redelivered: bool,
    /// Cancelled as soon as the delivery's channel is lost.
    pub lost: CancellationToken,
    /// Rises with each time that jobs are asked for: between two, another worker may have had them.
    pub epoch: u64,
}

/// A message in hand, with the right to settle it.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The right to settle it. If it is dropped unused, the message stays unacked on the broker.
    pub settle: Box<dyn Settle>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("bytes", &self.body.len())
            .field("via", &self.via)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("message", &self.message).finish_non_exhaustive()
    }
}

/// The time between the decision to park and the publish: a wait that is a little shorter than a tier's still gets
/// that tier.
const PARKING: Duration = Duration::from_secs(1);

/// The wait queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// 5 seconds.
    S5,
    /// 30 seconds.
    S30,
    /// 3 minutes.
    M3,
    /// 15 minutes.
    M15,
    /// 1 hour.
    H1,
}

impl Tier {
    /// All tiers, shortest first.
    pub const ALL: [Tier; 5] = [Tier::S5, Tier::S30, Tier::M3, Tier::M15, Tier::H1];

    /// The time for which a message stays.
    pub const fn wait(self) -> Duration {
        match self {
            Tier::S5 => Duration::from_secs(5),
            Tier::S30 => Duration::from_secs(30),
            Tier::M3 => Duration::from_secs(180),
            Tier::M15 => Duration::from_secs(900),
            Tier::H1 => Duration::from_secs(3600),
        }
    }

    /// The last part of the queue's name.
    pub const fn label(self) -> &'static str {
        match self {
            Tier::S5 => "5s",
            Tier::S30 => "30s",
            Tier::M3 => "3m",
            Tier::M15 => "15m",
            Tier::H1 => "1h",
        }
    }

    /// The longest tier that is not longer than `wait` by more than a second, the time that parking itself may take;
    /// otherwise the shortest one.
    pub fn for_wait(wait: Duration) -> Tier {
        Tier::ALL.into_iter().rev().find(|tier| tier.wait() <= wait + PARKING).unwrap_or(Tier::S5)
    }
}

/// The destination of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `<prefix>.requests` with key `job`.
    Requests,
    /// `<prefix>.requests` with key `cancel`.
    Cancel,
    /// `<prefix>.control`: every worker reads it from its control stream.
    Control,
    /// `<prefix>.resume`: to the job queue at once (a replay).
    Resume,
    /// A wait queue; the message is redelivered through `<prefix>.resume`.
    Wait(Tier),
    /// `<prefix>.events` with this routing key (`job.<what>.<tenant>`).
    Event {
        /// The routing key.
        routing_key: String,
    },
    /// `<prefix>.dead-letter`.
    DeadLetter,
}

impl Destination {
    /// The kind of message, in a word.
    pub const fn what(&self) -> &'static str {
        match self {
            Destination::Requests => "job",
            Destination::Cancel => "cancel",
            Destination::Control => "control",
            Destination::Resume => "resumed",
            Destination::Wait(_) => "parked",
            Destination::Event { .. } => "event",
            Destination::DeadLetter => "dead_letter",
        }
    }
}

/// A message to publish; always persistent.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The destination.
    pub to: Destination,
    /// Its properties; `user_id` is never sent.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// The reason why a publish is not confirmed. Publishing again is always right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker returned it: no queue is bound.
    #[error("the broker returned the message: no queue is bound for it ({0})")]
    Unrouted(String),
    /// The broker refused it (queue full, policy).
    #[error("the broker refused the message (nack)")]
    Refused,
    /// The broker never accepts a message of this size.
    #[error("the broker takes no message of this size; its max_message_size must be raised ({0})")]
    TooLarge(String),
    /// No confirm came in time.
    #[error("no confirm came within {0:?}")]
    TimedOut(Duration),
    /// The connection or channel is down.
    #[error("the broker cannot be reached: {0}")]
    Down(String),
}

/// The state of the connection, for readiness and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not connected; the text is the reason, without the password.
    Down(String),
    /// Connected; a standby may have no delivery.
    Up,
}

/// A fault of a broker that still works, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// The fault, in a word.
    pub what: &'static str,
    /// The fault, and the action to take.
    pub detail: String,
}

/// Counts of a broker's connection since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Links that ended while intake was open, before any delivery was settled.
    pub links_lost_idle: u64,
    /// Messages of the control stream that were skipped.
    pub control_skipped: u64,
    /// Exchanges and queues that were missing and were declared again.
    pub names_restored: u64,
}

/// A message of the control stream.
#[derive(Debug, Clone)]
pub struct Control {
    /// Its offset in the stream.
    pub offset: u64,
    /// Its properties and headers.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// A dead letter in its queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its properties with the `x-erasure-*` headers.
    pub properties: Properties,
    /// Its body, sealed or not.
    pub body: Bytes,
}

/// The action for a dead letter.
#[derive(Debug)]
pub enum Verdict {
    /// Leave it where it is.
    Keep,
    /// Publish this with a confirm, then remove the dead letter.
    Replace(Box<Publication>),
    /// Remove it.
    Remove,
}

/// A broker, as the engine sees it. Implementations reconnect by themselves and never stay idle without a report;
/// every method may be called at any time.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The next job. Waits without a limit; `None` only if nothing more will arrive (intake was stopped for good, or
    /// an embedded queue is empty).
    async fn next(&self) -> Option<Delivery>;

    /// The next message of the control stream; the first call starts after `after` (`None`: at the first message). If
    /// the stream is not the one of `after`, it is read from its first message: the offsets go back. `None`: there is
    /// no such stream, or intake was stopped for good.
    async fn next_control(&self, after: Option<Place>) -> Option<Control>;

    /// True if messages published to [`Destination::Control`] are returned by [`Broker::next_control`].
    fn has_control(&self) -> bool {
        true
    }

    /// Publishes once: mandatory, persistent, confirmed, with a time limit.
    async fn publish(&self, publication: Publication) -> Result<(), PublishError>;

    /// Stops intake until [`Broker::resume_intake`]: deliveries that no task has are requeued; deliveries in hand can
    /// still be settled.
    async fn pause_intake(&self);

    /// Resumes intake.
    async fn resume_intake(&self);

    /// Stops intake for good; `next` returns `None` after the last delivery.
    async fn stop_intake(&self);

    /// Reads up to `limit` dead letters in queue order and does what `decide` returns for each. Kept letters stay in
    /// order. Returns the number of letters read.
    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError>;

    /// The name of the job queue, for traces.
    fn jobs_queue(&self) -> String {
        "jobs".to_owned()
    }

    /// The number of messages in one of our queues (`jobs`, `dead-letters`, `events.unrouted`, `wait.5s`…), if the
    /// broker reports it.
    async fn depth(&self, queue: &str) -> Option<u64>;

    /// The faults for an operator, besides the link's state.
    fn ailments(&self) -> Vec<Ailment> {
        Vec::new()
    }

    /// The reason why this worker gets no job from a filled queue, if another one is active.
    fn standby(&self) -> Option<String> {
        None
    }

    /// The counts.
    fn tallies(&self) -> Tallies {
        Tallies::default()
    }

    /// The link's state, for readiness.
    fn link(&self) -> watch::Receiver<Link>;

    /// Closes the connection; the broker requeues the deliveries in hand.
    async fn close(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_a_tiers_own_lies_on_it_though_parking_takes_a_moment() {
        for tier in Tier::ALL {
            assert_eq!(Tier::for_wait(tier.wait() - Duration::from_millis(200)), tier);
        }
        assert_eq!(Tier::for_wait(Duration::from_secs(890)), Tier::M3);
        assert_eq!(Tier::for_wait(Duration::ZERO), Tier::S5);
    }
}

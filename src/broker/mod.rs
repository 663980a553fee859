//! Messages in and out: what the engine needs of a broker, whatever the broker is.
//!
//! The rule it keeps: a publish that returns `Ok` was taken over by the broker *and* routed to at
//! least one queue; an ack that returns `Ok` was sent on the channel that brought the delivery.

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

/// The most tables and arrays in each other that are taken in headers.
pub const MAX_NESTING: usize = 32;

/// A header's value; what AMQP has beyond these is dropped on the way in.
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
    /// The text, where it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            HeaderValue::Text(text) => Some(text),
            HeaderValue::Int(_) | HeaderValue::Bool(_) => None,
        }
    }

    /// The number, where it is one.
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
    /// `user-id`, as the broker checked it; never published again.
    pub user_id: Option<String>,
    /// `timestamp`, seconds since 1970.
    pub timestamp: Option<u64>,
    /// `priority`.
    pub priority: Option<u8>,
    /// `reply-to`.
    pub reply_to: Option<String>,
    /// The headers that are text, numbers or booleans.
    pub headers: BTreeMap<String, HeaderValue>,
    /// Of a message that came: what had to be changed before it could be read. Never published.
    pub mended: Option<Mended>,
    /// Of a message that was read from a file: its first line, from 1. Never published.
    pub line: Option<u64>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Properties").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

/// The exchange that a delivery came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `<prefix>.requests`: a publisher sent it.
    Requests,
    /// `<prefix>.resume`: the worker itself parked or replayed it; the engine still checks its MAC.
    Resume,
    /// Any other way into the queue (the default exchange, an exchange unknown to us): trusted as
    /// little as a publisher.
    Other,
}

/// The delivery's channel is gone: it was not settled, and the broker delivers the job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel that brought the delivery is gone; the broker delivers the job again")]
pub struct Lost;

/// The one-time right to settle a delivery.
#[async_trait]
pub trait Settle: Send {
    /// Removes the message from the broker. `Err` where the channel that brought it is gone.
    async fn ack(self: Box<Self>) -> Result<(), Lost>;
    /// Gives the message back to the queue.
    async fn requeue(self: Box<Self>) -> Result<(), Lost>;
}

/// A job (or what claims to be one) as the broker delivered it.
pub struct Message {
    /// The raw body.
    pub body: Bytes,
    /// Properties and headers.
    pub properties: Properties,
    /// How it came.
    pub via: Via,
    /// The broker's own redelivered flag: a hint only.
    pub redelivered: bool,
    /// Cancelled as soon as the channel that brought the delivery is gone.
    pub lost: CancellationToken,
    /// Rises with each channel; deliveries of an older epoch can't be settled.
    pub epoch: u64,
}

/// A message handed to this worker, with the right to settle it.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The right to settle it. Dropped unsettled, the message stays with the broker (unacked).
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

/// A wait that is a tier's own, less what passes until the message is published, is still that tier's.
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

    /// How long a message stays.
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

    /// The longest tier that does not overshoot `wait` by more than a second, which parking itself may
    /// have taken; the shortest one for anything less.
    pub fn for_wait(wait: Duration) -> Tier {
        Tier::ALL.into_iter().rev().find(|tier| tier.wait() <= wait + PARKING).unwrap_or(Tier::S5)
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `<prefix>.requests` with key `job`.
    Requests,
    /// `<prefix>.requests` with key `cancel`.
    Cancel,
    /// `<prefix>.control`: every worker reads it from its control stream.
    Control,
    /// `<prefix>.resume`: straight back to the job queue (a replay).
    Resume,
    /// A wait queue; comes back through `<prefix>.resume`.
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
    /// What goes there, in a word.
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
    /// Where to.
    pub to: Destination,
    /// Its properties; `user_id` is never sent.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// Why a publish is not known to have arrived. Publishing again is always the right answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker returned it: no queue is bound for it.
    #[error("the broker returned the message: no queue is bound for it ({0})")]
    Unrouted(String),
    /// The broker refused it (queue full, policy).
    #[error("the broker refused the message (nack)")]
    Refused,
    /// It takes none of this size, however often it is asked.
    #[error("the broker takes no message of this size; its max_message_size must be raised ({0})")]
    TooLarge(String),
    /// No confirm came in time.
    #[error("no confirm came within {0:?}")]
    TimedOut(Duration),
    /// The connection or channel is down.
    #[error("the broker cannot be reached: {0}")]
    Down(String),
}

/// What is known of the connection; for readiness and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not connected; the text says why, without the password.
    Down(String),
    /// Connected; a standby may hold no delivery.
    Up,
}

/// What needs a look at a broker that can be used all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// A word for it.
    pub what: &'static str,
    /// What it is, and what to do.
    pub detail: String,
}

/// What a broker's connection has counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Links that ended while jobs were taken, before any delivery was settled.
    pub links_lost_idle: u64,
    /// Messages of the control stream that were stepped over.
    pub control_skipped: u64,
    /// Exchanges and queues that were gone and were declared anew.
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

/// A dead letter as it lies in the queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its properties with the `x-erasure-*` headers.
    pub properties: Properties,
    /// Its body, sealed or not.
    pub body: Bytes,
}

/// What to do with a dead letter that was looked at.
#[derive(Debug)]
pub enum Verdict {
    /// Leave it where it is.
    Keep,
    /// Publish this with a confirm, then remove the dead letter.
    Replace(Box<Publication>),
    /// Remove it.
    Remove,
}

/// A broker as the engine sees it. Implementations reconnect on their own and never idle in
/// silence; every method may be called at any time.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The next job. Waits for as long as it takes; `None` only once nothing more will come
    /// (intake was stopped for good, or an embedded queue is used up).
    async fn next(&self) -> Option<Delivery>;

    /// The next message of the control stream, at the first call the one behind `after` (`None`: the
    /// first). Where the stream is not the one that `after` was read from, it is read from its first
    /// message: offsets then go back. `None` where there is no such stream, or intake was stopped for good.
    async fn next_control(&self, after: Option<Place>) -> Option<Control>;

    /// True where what is published to [`Destination::Control`] comes by [`Broker::next_control`].
    fn has_control(&self) -> bool {
        true
    }

    /// Publishes once: mandatory, persistent, confirmed, with a time-out.
    async fn publish(&self, publication: Publication) -> Result<(), PublishError>;

    /// Stops taking jobs until [`Broker::resume_intake`]: deliveries not yet handed out go back,
    /// deliveries in hand can still be settled.
    async fn pause_intake(&self);

    /// Takes jobs again.
    async fn resume_intake(&self);

    /// Stops taking jobs for good; `next` returns `None` once what it had handed out is all there is.
    async fn stop_intake(&self);

    /// Looks at up to `limit` dead letters in queue order and does what `decide` says of each.
    /// Those kept stay in their order. Returns how many were looked at.
    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError>;

    /// The name of the queue that jobs come from, as traces show it.
    fn jobs_queue(&self) -> String {
        "jobs".to_owned()
    }

    /// How many messages a queue of ours holds (`jobs`, `dead-letters`, `events.unrouted`,
    /// `wait.5s`…), where the broker can tell.
    async fn depth(&self, queue: &str) -> Option<u64>;

    /// What needs a look, beside the link's state.
    fn ailments(&self) -> Vec<Ailment> {
        Vec::new()
    }

    /// Why no job comes to this worker though jobs lie in the queue, where another one has its turn.
    fn standby(&self) -> Option<String> {
        None
    }

    /// What was counted.
    fn tallies(&self) -> Tallies {
        Tallies::default()
    }

    /// The link's state, for readiness.
    fn link(&self) -> watch::Receiver<Link>;

    /// Closes the connection; deliveries in hand go back to the queue.
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

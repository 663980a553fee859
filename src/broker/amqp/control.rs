//! Reading the control stream, over a connection of its own and from a stored place.
//!
//! The rule it keeps: a message is skipped only if it was taken before, or if it ends every connection that reads it,
//! which is logged. Another stream than before is read from its first message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::watch;
use tokio::time::Instant;

use super::dial::Wire;
use super::link::{Pace, close, ended};
use super::message::{from_amqp, header, short};
use super::{AmqpError, CALL_TIMEOUT, Shared, declare, within};
use crate::broker::inbox::Inbox;
use crate::broker::place::{Comparison, Read as Judged};
use crate::broker::{Control, Link, Mended, Place};

/// A stream needs a prefetch; cancellations are few.
const PREFETCH: u16 = 100;

/// A stream delivers its messages at once. If nothing arrives for this long although something was read before, the
/// stream has lost it. If it was only slow, some messages are read twice, which is harmless.
const SILENCE: Duration = Duration::from_secs(5);

/// A connection that ends within this time ended at its first message.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The number of connections that must end at once at the same place before the message is skipped. From the second
/// on one message at a time is requested, so that the place is this message's own.
const ENDS: u32 = 4;

/// The messages that no task has yet, and the place from which reading continues.
pub(super) struct ControlLog {
    read: Inbox<Read>,
    /// True after the first request.
    wanted: watch::Sender<bool>,
    reached: Mutex<Reached>,
    /// The number of skipped messages.
    skipped: AtomicU64,
    /// The reason why it is not read now.
    down: watch::Sender<Option<String>>,
}

/// The last message that a task got.
#[derive(Default)]
struct Reached {
    place: Option<Place>,
    /// Rises with each stream that is read from its first message.
    stream: u64,
    /// The offset after a skipped message.
    behind: u64,
}

impl Reached {
    /// The first offset to request: known messages are read again.
    fn begin(&self) -> u64 {
        self.place.as_ref().map_or(0, Place::first).max(self.behind)
    }

    /// The offset of the next message that no task has.
    fn next(&self) -> u64 {
        self.place.as_ref().map_or(0, |place| place.offset() + 1).max(self.behind)
    }
}

struct Read {
    control: Control,
    acker: lapin::Acker,
    stream: u64,
}

impl ControlLog {
    /// A log without a request yet.
    pub(super) fn new() -> Self {
        Self {
            read: Inbox::new(),
            wanted: watch::Sender::new(false),
            reached: Mutex::default(),
            skipped: AtomicU64::new(0),
            down: watch::Sender::new(None),
        }
    }

    /// Ends every wait.
    pub(super) fn close(&self) {
        drop(self.read.close());
    }

    /// The number of messages skipped since the start.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The reason why the stream is not read, if it is not.
    pub(super) fn why_down(&self) -> Option<String> {
        self.down.borrow().clone()
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message; the first call gives the place to begin.
    pub(super) async fn next(&self, after: Option<Place>) -> Option<Control> {
        self.wanted.send_if_modified(|wanted| {
            let first = !*wanted;
            if first {
                *wanted = true;
                self.reached().place = after;
            }
            first
        });
        loop {
            let Read { control, acker, stream } = self.read.pop().await?;
            // An ack on a stream only requests more; a lost one is replaced by the next consumer.
            let _ = tokio::time::timeout(CALL_TIMEOUT, acker.ack(BasicAckOptions::default())).await;
            let mut reached = self.reached();
            if stream != reached.stream {
                // From the stream before; it will not be delivered again.
                return Some(control);
            }
            if reached.place.as_ref().is_none_or(|place| control.offset > place.offset()) {
                reached.place = Some(Place::after(reached.place.as_ref(), &control));
                return Some(control);
            }
        }
    }

    /// The stream's content is not the known one: it is read from its first message.
    fn begin_anew(&self) {
        let mut reached = self.reached();
        *reached = Reached { place: None, stream: reached.stream + 1, behind: 0 };
    }

    fn step_over(&self, offset: u64) {
        self.reached().behind = offset + 1;
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The reason why reading ended.
enum End {
    /// The channel was lost, with this error.
    Lost(AmqpError),
    /// The stream is another one.
    Replaced,
}

impl<E: Into<AmqpError>> From<E> for End {
    fn from(error: E) -> Self {
        End::Lost(error.into())
    }
}

/// The progress of a connection.
struct Reading {
    /// The offset of the message that did not arrive.
    next: u64,
    /// The time since which it was waited for, if that began.
    since: Option<Instant>,
}

/// The number of connections in a row that ended at the same place.
#[derive(Default)]
struct Deaths {
    place: u64,
    count: u32,
    /// The intake's epoch: if it has changed, the broker was down for all connections.
    epoch: u64,
}

impl Deaths {
    /// Counts an end only if the stream was being read, it ended quickly, and the intake's own connection stayed:
    /// then the next message is the cause, not the broker.
    fn note(&mut self, shared: &Shared, reading: &Reading) {
        let at_once = reading.since.is_some_and(|since| since.elapsed() < AT_ONCE);
        if !at_once || *shared.link.borrow() != Link::Up {
            *self = Deaths::default();
            return;
        }
        let epoch = shared.epoch.load(Ordering::Relaxed);
        let is_same = self.count > 0 && self.epoch == epoch && self.place == reading.next;
        *self = Deaths { place: reading.next, count: if is_same { self.count + 1 } else { 1 }, epoch };
    }
}

/// Reads the stream until the broker is closed. Never returns.
pub(super) async fn keep_reading(shared: &Shared) {
    let mut link = shared.link.subscribe();
    // The intake connects first, and declares the names.
    let _ = link.wait_for(|link| *link == Link::Up).await;
    let mut wanted = shared.control.wanted.subscribe();
    let _ = wanted.wait_for(|wanted| *wanted).await;
    let mut pace = Pace::new(&shared.config);
    let mut deaths = Deaths::default();
    loop {
        let began = Instant::now();
        let mut reading = Reading { next: shared.control.reached().begin(), since: None };
        let prefetch = if deaths.count == 0 { PREFETCH } else { 1 };
        let error = match shared.dial.connect(&shared.config, " control").await {
            Ok(wire) => {
                let error = tokio::select! {
                    biased;
                    error = ended(&wire) => error,
                    error = read(shared, &wire, prefetch, &mut reading) => error,
                };
                drop(shared.control.read.drain());
                close(&wire).await;
                error
            }
            Err(error) => error,
        };
        shared.control.down.send_replace(Some(error.to_string()));
        tracing::warn!(why = %error, "the control stream ended; it is read again");
        deaths.note(shared, &reading);
        // The messages before it must have been taken.
        if deaths.count >= ENDS && shared.control.reached().next() >= deaths.place {
            shared.control.step_over(deaths.place);
            tracing::error!(
                offset = deaths.place,
                times = deaths.count,
                why = %error,
                "a message of the control stream ends every connection that reads it; it is skipped and stays \
                 there. If it was a cancellation, cancel that job by hand (erasure-worker jobs cancel)"
            );
            // The next message may be of the same kind.
            deaths.count = 1;
        }
        pace.wait(began, &error).await;
        if shared.config.declare_topology && reading.since.is_none() {
            // The stream may have been deleted.
            if let Ok(wire) = shared.dial.connect(&shared.config, " control").await {
                let _ = tokio::time::timeout(CALL_TIMEOUT, declare::declare(&wire, &shared.topology)).await;
                close(&wire).await;
            }
        }
    }
}

/// Reads over one connection until it is lost; returns the error.
async fn read(shared: &Shared, wire: &Wire, prefetch: u16, reading: &mut Reading) -> AmqpError {
    loop {
        let offset = shared.control.reached().place.as_ref().map(Place::offset);
        let ended = consume(shared, wire, prefetch, reading).await;
        drop(shared.control.read.drain());
        match ended {
            Ok(()) => return AmqpError::Link("the broker cancelled the control consumer".to_owned()),
            Err(End::Lost(error)) => return error,
            Err(End::Replaced) => {
                tracing::warn!(
                    offset,
                    "the control stream is not the one that was read before: it was deleted or restored, or lost \
                     its end. It is read from its first message"
                );
                shared.control.begin_anew();
            }
        }
    }
}

async fn consume(shared: &Shared, wire: &Wire, prefetch: u16, reading: &mut Reading) -> Result<(), End> {
    let (place, stream, begin) = {
        let reached = shared.control.reached();
        // After a skipped message there is nothing to compare yet.
        let is_behind = reached.place.as_ref().is_some_and(|place| reached.behind > place.first());
        let place = reached.place.clone().filter(|_| !is_behind);
        (place, reached.stream, reached.begin())
    };
    let channel = within("open a channel", wire.create_channel()).await?;
    within("set a prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let offset = match begin {
        0 if place.is_none() => AMQPValue::LongString("first".into()),
        begin => AMQPValue::LongLongInt(i64::try_from(begin).unwrap_or(i64::MAX)),
    };
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-stream-offset"), offset);
    let queue = shared.topology.name("control.log");
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(short(&queue), short(""), options, arguments);
    let mut consumer = within("give the control stream", consuming).await?;
    *reading = Reading { next: begin, since: Some(Instant::now()) };
    shared.control.down.send_replace(None);
    let mut comparison = Comparison::new(place);
    loop {
        let delivered = if comparison.is_over() {
            consumer.next().await
        } else {
            tokio::time::timeout(SILENCE, consumer.next()).await.map_err(|_| End::Replaced)?
        };
        let Some(delivered) = delivered else { return Ok(()) };
        let delivered = delivered?;
        let mended = wire.marks.take(channel.id(), delivered.delivery_tag);
        let (control, acker) = message(delivered, mended, reading.next, &queue)?;
        *reading = Reading { next: control.offset + 1, since: Some(Instant::now()) };
        match comparison.judge(&control) {
            Judged::New => shared.control.read.push(Read { control, acker, stream }),
            Judged::Again => {
                let _ = tokio::time::timeout(CALL_TIMEOUT, acker.ack(BasicAckOptions::default())).await;
            }
            Judged::Foreign => return Err(End::Replaced),
        }
    }
}

/// `next` is the expected offset: if the headers had to be removed, the offset may be missing too.
fn message(
    delivery: Delivery,
    mended: Option<Mended>,
    next: u64,
    queue: &str,
) -> Result<(Control, lapin::Acker), AmqpError> {
    let headers = delivery.properties.headers().as_ref();
    let offset = headers
        .and_then(|headers| header(headers.inner().get("x-stream-offset")?)?.as_int())
        .and_then(|offset| u64::try_from(offset).ok())
        .or(mended.is_some().then_some(next));
    // No stream: an ack would remove messages from a queue with this name.
    let offset = offset.ok_or_else(|| AmqpError::Link(format!("{queue} is not a stream")))?;
    let properties = from_amqp(&delivery.properties, mended);
    Ok((Control { offset, properties, body: Bytes::from(delivery.data) }, delivery.acker))
}

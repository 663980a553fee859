//! Reading the control stream: a connection of its own, and a place to go on from.
//!
//! The rule it keeps: a message is skipped only where it was handed out before, or where it ends every
//! connection that comes to it, and that is said; a stream that is not the one that was read is read from
//! its first message.

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

/// Streams want a prefetch; cancellations are few.
const PREFETCH: u16 = 100;

/// A stream gives at once what it has. One that gives nothing for so long where something was read has
/// lost it; should it have been slow, some messages are read twice, which is harmless.
const SILENCE: Duration = Duration::from_secs(5);

/// A connection that ends sooner than this after the stream was asked for did so at what came first.
const AT_ONCE: Duration = Duration::from_secs(10);

/// So many connections in a row end at once at the same place before it is stepped over. From the
/// second on one message at a time is asked for, so that the place is this message's own.
const ENDS: u32 = 4;

/// What was read and not yet handed out, and where reading goes on.
pub(super) struct ControlLog {
    read: Inbox<Read>,
    /// True once somebody has asked.
    wanted: watch::Sender<bool>,
    reached: Mutex<Reached>,
    /// Messages that were stepped over.
    skipped: AtomicU64,
    /// Why it is not read now.
    down: watch::Sender<Option<String>>,
}

/// The last message that was handed out.
#[derive(Default)]
struct Reached {
    place: Option<Place>,
    /// Rises with each stream that is read from its first message.
    stream: u64,
    /// Where reading goes on behind a message that was stepped over.
    behind: u64,
}

impl Reached {
    /// The first offset that is asked for: what is remembered is read once more.
    fn begin(&self) -> u64 {
        self.place.as_ref().map_or(0, Place::first).max(self.behind)
    }

    /// The offset of the next message that was not handed out.
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
    /// One that nobody has asked yet.
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

    /// How many messages were stepped over since the start.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Why the stream is not read, where it is not.
    pub(super) fn why_down(&self) -> Option<String> {
        self.down.borrow().clone()
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message; the first call says where to begin.
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
            // An ack on a stream only asks for more; one that is lost comes with a new consumer.
            let _ = tokio::time::timeout(CALL_TIMEOUT, acker.ack(BasicAckOptions::default())).await;
            let mut reached = self.reached();
            if stream != reached.stream {
                // Of the stream before; nobody will bring it again.
                return Some(control);
            }
            if reached.place.as_ref().is_none_or(|place| control.offset > place.offset()) {
                reached.place = Some(Place::after(reached.place.as_ref(), &control));
                return Some(control);
            }
        }
    }

    /// What lies in the stream is not what was read: it is read from its first message.
    fn begin_anew(&self) {
        let mut reached = self.reached();
        *reached = Reached { place: None, stream: reached.stream + 1, behind: 0 };
    }

    fn step_over(&self, offset: u64) {
        self.reached().behind = offset + 1;
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why reading ended.
enum End {
    /// The channel is gone; the error says why.
    Lost(AmqpError),
    /// The stream is another one.
    Replaced,
}

impl<E: Into<AmqpError>> From<E> for End {
    fn from(error: E) -> Self {
        End::Lost(error.into())
    }
}

/// How far a connection came.
struct Reading {
    /// The offset of the message that did not come.
    next: u64,
    /// When it was waited for, if it came to that.
    since: Option<Instant>,
}

/// How often in a row a connection ended at the same place.
#[derive(Default)]
struct Deaths {
    place: u64,
    count: u32,
    /// The intake's epoch: where that has changed the broker was away for everybody.
    epoch: u64,
}

impl Deaths {
    /// Counts an end only where the stream was being read, it went quickly, and the intake's own
    /// connection has stayed: then it was not the broker that went, but what comes next.
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

/// Reads the stream for as long as the broker is wanted. Never returns.
pub(super) async fn keep_reading(shared: &Shared) {
    let mut link = shared.link.subscribe();
    // The first look at the broker, and what must be declared, is the intake's.
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
        tracing::warn!(why = %error, "the control stream ended; reading it again");
        deaths.note(shared, &reading);
        // What came before it must have been handed out.
        if deaths.count >= ENDS && shared.control.reached().next() >= deaths.place {
            shared.control.step_over(deaths.place);
            tracing::error!(
                offset = deaths.place,
                times = deaths.count,
                why = %error,
                "a message of the control stream ends every connection that reads it; it is stepped over and stays \
                 there. If it was a cancellation, cancel that job by hand (erasure-worker jobs cancel)"
            );
            // The message behind it may be of the same kind.
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

/// Reads over one connection until that is lost; the error says why.
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
        // Behind a message that was stepped over there is nothing yet to be compared.
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

/// `next` is where it should lie: of headers that had to be left out the offset may be gone as well.
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
    // Not a stream after all: a queue under this name would be emptied by the ack.
    let offset = offset.ok_or_else(|| AmqpError::Link(format!("{queue} is not a stream")))?;
    let properties = from_amqp(&delivery.properties, mended);
    Ok((Control { offset, properties, body: Bytes::from(delivery.data) }, delivery.acker))
}

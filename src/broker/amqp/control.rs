//! Reading the control stream: a channel of its own, and a place to go on from.
//!
//! The rule it keeps: a message is skipped only where it was handed out before; a stream that is not the
//! one that was read is read from its first message.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Connection;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::watch;

use super::message::{from_amqp, header, short};
use super::{AmqpError, Shared};
use crate::broker::inbox::Inbox;
use crate::broker::place::{Comparison, Read as Judged};
use crate::broker::{Control, Place};

/// Streams want a prefetch; cancellations are few.
const PREFETCH: u16 = 100;

/// A stream gives at once what it has. One that gives nothing for so long where something was read has
/// lost it; should it have been slow, some messages are read twice, which is harmless.
const SILENCE: Duration = Duration::from_secs(5);

/// What was read and not yet handed out, and where reading goes on.
pub(super) struct ControlLog {
    read: Inbox<Read>,
    /// True once somebody has asked.
    wanted: watch::Sender<bool>,
    reached: Mutex<Reached>,
}

/// The last message that was handed out.
#[derive(Default)]
struct Reached {
    place: Option<Place>,
    /// Rises with each stream that is read from its first message.
    stream: u64,
}

struct Read {
    control: Control,
    acker: lapin::Acker,
    stream: u64,
}

impl ControlLog {
    /// One that nobody has asked yet.
    pub(super) fn new() -> Self {
        Self { read: Inbox::new(), wanted: watch::Sender::new(false), reached: Mutex::default() }
    }

    /// Ends every wait.
    pub(super) fn close(&self) {
        drop(self.read.close());
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
            let _ = acker.ack(BasicAckOptions::default()).await;
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
        reached.place = None;
        reached.stream += 1;
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

/// Reads over one channel until that is lost; the error says why.
pub(super) async fn read(shared: &Shared, connection: &Connection) -> AmqpError {
    let mut wanted = shared.control.wanted.subscribe();
    if wanted.wait_for(|wanted| *wanted).await.is_err() {
        return AmqpError::Link("closed".to_owned());
    }
    loop {
        let (place, stream) = {
            let reached = shared.control.reached();
            (reached.place.clone(), reached.stream)
        };
        let offset = place.as_ref().map(Place::offset);
        let ended = consume(shared, connection, place, stream).await;
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

async fn consume(shared: &Shared, connection: &Connection, place: Option<Place>, stream: u64) -> Result<(), End> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let offset = match &place {
        None => AMQPValue::LongString("first".into()),
        Some(place) => AMQPValue::LongLongInt(i64::try_from(place.first()).unwrap_or(i64::MAX)),
    };
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-stream-offset"), offset);
    let queue = shared.topology.name("control.log");
    let mut consumer =
        channel.basic_consume(short(&queue), short(""), BasicConsumeOptions::default(), arguments).await?;
    let mut comparison = Comparison::new(place);
    loop {
        let delivered = if comparison.is_over() {
            consumer.next().await
        } else {
            tokio::time::timeout(SILENCE, consumer.next()).await.map_err(|_| End::Replaced)?
        };
        let Some(delivered) = delivered else { return Ok(()) };
        let (control, acker) = message(delivered?, &queue)?;
        match comparison.judge(&control) {
            Judged::New => shared.control.read.push(Read { control, acker, stream }),
            Judged::Again => drop(acker.ack(BasicAckOptions::default()).await),
            Judged::Foreign => return Err(End::Replaced),
        }
    }
}

fn message(delivery: Delivery, queue: &str) -> Result<(Control, lapin::Acker), AmqpError> {
    let headers = delivery.properties.headers().as_ref();
    let offset = headers
        .and_then(|headers| header(headers.inner().get("x-stream-offset")?)?.as_int())
        .and_then(|offset| u64::try_from(offset).ok());
    // Not a stream after all: a queue under this name would be emptied by the ack.
    let offset = offset.ok_or_else(|| AmqpError::Link(format!("{queue} is not a stream")))?;
    let properties = from_amqp(&delivery.properties);
    Ok((Control { offset, properties, body: Bytes::from(delivery.data) }, delivery.acker))
}

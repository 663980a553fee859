//! Reading the control stream: a channel of its own, and a place to go on from.
//!
//! The rule it keeps: a message is skipped only where it was handed out before.

use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::watch;

use super::message::{from_amqp, header, short};
use super::{AmqpError, Shared};
use crate::broker::Control;
use crate::broker::inbox::Inbox;

/// Streams want a prefetch; cancellations are few.
const PREFETCH: u16 = 100;

/// What was read and not yet handed out, and where reading goes on.
pub(super) struct ControlLog {
    read: Inbox<Read>,
    /// `None` until somebody asks; then the first offset wanted (`None`: the stream's first).
    from: watch::Sender<Option<Option<u64>>>,
    /// The lowest offset that was not handed out.
    next: Mutex<u64>,
}

struct Read {
    control: Control,
    acker: lapin::Acker,
}

impl ControlLog {
    /// One that nobody has asked yet.
    pub(super) fn new() -> Self {
        Self { read: Inbox::new(), from: watch::Sender::new(None), next: Mutex::new(0) }
    }

    /// Ends every wait.
    pub(super) fn close(&self) {
        drop(self.read.close());
    }

    /// The next message; the first call says where to begin.
    pub(super) async fn next(&self, from: Option<u64>) -> Option<Control> {
        self.from.send_if_modified(|begin| {
            let first = begin.is_none();
            if first {
                *begin = Some(from);
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = from.unwrap_or(0);
            }
            first
        });
        loop {
            let Read { control, acker } = self.read.pop().await?;
            // An ack on a stream only asks for more; one that is lost comes with a new consumer.
            let _ = acker.ack(BasicAckOptions::default()).await;
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if control.offset >= *next {
                *next = control.offset + 1;
                return Some(control);
            }
        }
    }
}

/// Reads over one channel until that is lost; the error says why.
pub(super) async fn read(shared: &Shared, connection: &Connection) -> AmqpError {
    let mut from = shared.control.from.subscribe();
    let begin = match from.wait_for(Option::is_some).await {
        Ok(begin) => begin.flatten(),
        Err(_) => return AmqpError::Link("closed".to_owned()),
    };
    let next = *shared.control.next.lock().unwrap_or_else(PoisonError::into_inner);
    let offset = match (begin, next) {
        (None, 0) => AMQPValue::LongString("first".into()),
        _ => AMQPValue::LongLongInt(i64::try_from(next).unwrap_or(i64::MAX)),
    };
    let failed = consume(shared, connection, offset).await.err();
    drop(shared.control.read.drain());
    failed.unwrap_or_else(|| AmqpError::Link("the broker cancelled the control consumer".to_owned()))
}

async fn consume(shared: &Shared, connection: &Connection, offset: AMQPValue) -> Result<(), AmqpError> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-stream-offset"), offset);
    let queue = shared.topology.name("control.log");
    let mut consumer =
        channel.basic_consume(short(&queue), short(""), BasicConsumeOptions::default(), arguments).await?;
    while let Some(delivered) = consumer.next().await {
        let delivery = delivered?;
        let offset = delivery
            .properties
            .headers()
            .as_ref()
            .and_then(|headers| header(headers.inner().get("x-stream-offset")?)?.as_int())
            .and_then(|offset| u64::try_from(offset).ok());
        match offset {
            Some(offset) => {
                let properties = from_amqp(&delivery.properties);
                let control = Control { offset, properties, body: Bytes::from(delivery.data) };
                shared.control.read.push(Read { control, acker: delivery.acker });
            }
            // Not a stream after all: a queue under this name would be emptied by the ack.
            None => return Err(AmqpError::Link(format!("{queue} is not a stream"))),
        }
    }
    Ok(())
}

//! Publishing with confirms over a pool of channels.
//!
//! The rule it keeps: a channel has one publish at a time. A broker may confirm several messages in one frame, and
//! the client then gives a returned message to the first publish that it finds. Alone on its channel a message gets
//! its own return and its own confirm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::{Channel, Confirmation};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::dial::Wire;
use super::error::{soft, text};
use super::message::{short, to_amqp};
use crate::broker::topology::Topology;
use crate::broker::{Publication, PublishError};
use crate::crash::{self, Point};
use crate::trace;

/// The pool. It allows as many publishes at once as channels.
pub(super) struct Publisher {
    slots: Semaphore,
    timeout: Duration,
    link: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    connection: Option<Arc<Wire>>,
    idle: Vec<Channel>,
}

impl Publisher {
    /// A pool of at most `channels`, opened when needed.
    pub(super) fn new(channels: usize, timeout: Duration) -> Self {
        Self { slots: Semaphore::new(channels.max(1)), timeout, link: Mutex::default() }
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses this connection for publishes from now on; `None`: no connection.
    pub(super) fn attach(&self, connection: Option<Arc<Wire>>) {
        *self.pool() = Pool { connection, idle: Vec::new() };
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Result<Arc<Wire>, PublishError> {
        self.pool().connection.clone().ok_or_else(|| PublishError::Down("not connected".to_owned()))
    }

    /// Publishes one message and waits for its confirm.
    pub(super) async fn publish(&self, topology: &Topology, publication: &Publication) -> Result<(), PublishError> {
        let (exchange, key) = topology.address(&publication.to);
        let span = trace::send(&exchange, &key);
        let attempt = async {
            let _slot = self.slots.acquire().await.map_err(down)?;
            let (connection, channel) = self.channel().await?;
            let frame_max = connection.configuration().frame_max();
            let done = publish_on(&channel, &exchange, &key, publication, frame_max).await;
            // Only a channel without an open publish is used again. Any other is closed by its drop, also if this
            // future is dropped while it waits.
            if matches!(done, Ok(()) | Err(PublishError::Unrouted(_) | PublishError::Refused)) {
                let mut pool = self.pool();
                if pool.connection.as_ref().is_some_and(|now| Arc::ptr_eq(now, &connection)) {
                    pool.idle.push(channel);
                }
            }
            done
        };
        let attempt = tokio::time::timeout(self.timeout, attempt.instrument(span.clone()));
        let done = attempt.await.unwrap_or(Err(PublishError::TimedOut(self.timeout)));
        if done.is_err() {
            trace::failed(&span, "unconfirmed");
        }
        done
    }

    async fn channel(&self) -> Result<(Arc<Wire>, Channel), PublishError> {
        let connection = self.connection()?;
        while let Some(channel) = { self.pool().idle.pop() } {
            if channel.status().connected() {
                return Ok((connection, channel));
            }
        }
        Ok((connection.clone(), open(&connection).await.map_err(|error| PublishError::Down(text(&error)))?))
    }
}

/// A channel in confirm mode.
pub(super) async fn open(connection: &Wire) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// One publish on a channel without any other.
pub(super) async fn publish_on(
    channel: &Channel,
    exchange: &str,
    key: &str,
    publication: &Publication,
    frame_max: u32,
) -> Result<(), PublishError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = to_amqp(&publication.properties, frame_max);
    let confirmed = async {
        let sent = channel.basic_publish(short(exchange), short(key), options, &publication.body, properties).await?;
        crash::point(Point::BeforeConfirm, publication.to.what()).await;
        sent.await
    };
    match confirmed.await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
            Err(PublishError::Unrouted(format!("exchange {exchange:?}, key {key:?}: {}", returned.reply_text)))
        }
        Ok(Confirmation::Nack(None)) => Err(PublishError::Refused),
        Ok(Confirmation::NotRequested) => Err(PublishError::Down("the channel is not in confirm mode".to_owned())),
        Err(error) => {
            let why = text(&error);
            // This answer is about the message, not about the broker.
            let is_too_large = soft(&error) == Some(AMQPSoftError::PRECONDITIONFAILED) && why.contains("message size");
            Err(if is_too_large { PublishError::TooLarge(why) } else { PublishError::Down(why) })
        }
    }
}

fn down(error: impl std::fmt::Display) -> PublishError {
    PublishError::Down(error.to_string())
}

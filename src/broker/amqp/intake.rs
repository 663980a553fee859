//! Intake: one channel and one consumer, in one epoch after another.
//!
//! The rule it keeps: a delivery can be settled only on its own channel, and its `lost` token is cancelled before a
//! newer channel delivers anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Acker;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;

use super::dial::Wire;
use super::error::soft;
use super::losses::Losses;
use super::message::{from_amqp, short};
use super::{AmqpError, CALL_TIMEOUT, Shared, Wanted, within};
use crate::broker::{Delivery, Lost, Message, Settle, Via};

/// The pause between checks of an idle channel: if it has no consumer, the broker's close makes no event.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// Takes jobs over one channel until it is lost; returns the error.
pub(super) async fn epoch(shared: &Shared, connection: &Wire) -> AmqpError {
    let epoch = Epoch { shared, lost: CancellationToken::new() };
    match epoch.run(connection).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

struct Epoch<'a> {
    shared: &'a Shared,
    lost: CancellationToken,
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        self.lost.cancel();
        // Deliveries that no task had are redelivered over the next channel.
        drop(self.shared.jobs.drain());
        self.shared.consuming.send_replace(false);
    }
}

impl Epoch<'_> {
    async fn run(&self, connection: &Wire) -> Result<Infallible, AmqpError> {
        let channel = within("open a channel", connection.create_channel()).await?;
        self.shared.standby.begins();
        let mut wanted = self.shared.wanted.subscribe();
        loop {
            if *wanted.borrow_and_update() == Wanted::Jobs {
                let is_narrow = self.shared.losses.is_narrow();
                let prefetch = if is_narrow { 1 } else { self.shared.config.prefetch.max(1) };
                within("set a prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
                // Before the answer: the message that ends the link may arrive with it.
                self.shared.losses.asked();
                // Another worker may have had the jobs since this one last asked for them.
                self.shared.epoch.fetch_add(1, Ordering::Relaxed);
                let mut consumer = self.consume(&channel).await?;
                self.shared.consuming.send_replace(true);
                self.shared.up();
                while *wanted.borrow_and_update() == Wanted::Jobs && self.shared.losses.is_narrow() == is_narrow {
                    tokio::select! {
                        () = tokio::time::sleep(IDLE_LOOK), if is_narrow => {}
                        delivered = consumer.next() => self.take(connection, &channel, delivered).await?,
                        _ = wanted.changed() => {}
                    }
                }
                self.stand_back(connection, &channel, consumer).await?;
            } else {
                self.shared.up();
                tokio::select! {
                    _ = wanted.changed() => {}
                    () = tokio::time::sleep(IDLE_LOOK) => {
                        if !channel.status().connected() {
                            return Err(AmqpError::Link("the broker closed the channel".to_owned()));
                        }
                    }
                }
            }
        }
    }

    async fn consume(&self, channel: &Channel) -> Result<Consumer, AmqpError> {
        let queue = self.shared.topology.name("jobs");
        let consuming =
            channel.basic_consume(short(&queue), short(""), BasicConsumeOptions::default(), FieldTable::default());
        within("give jobs", consuming).await
    }

    async fn take(
        &self,
        connection: &Wire,
        channel: &Channel,
        delivered: Option<lapin::Result<AmqpDelivery>>,
    ) -> Result<(), AmqpError> {
        let Some(delivered) = delivered else { return Err(self.cancelled(connection).await) };
        let delivery = delivered?;
        self.shared.standby.delivered();
        let exchange = delivery.exchange.as_str();
        let via = if exchange == self.shared.topology.name("requests") {
            Via::Requests
        } else if exchange == self.shared.topology.name("resume") {
            Via::Resume
        } else {
            Via::Other
        };
        self.shared.jobs.push(Delivery {
            message: Message {
                properties: from_amqp(&delivery.properties, connection.marks.take(channel.id(), delivery.delivery_tag)),
                body: Bytes::from(delivery.data),
                via,
                redelivered: delivery.redelivered,
                lost: self.lost.clone(),
                epoch: self.shared.epoch.load(Ordering::Relaxed),
            },
            settle: Box::new(OnChannel {
                acker: delivery.acker,
                lost: self.lost.clone(),
                losses: Arc::clone(&self.shared.losses),
            }),
        });
        Ok(())
    }

    /// The reason why the broker cancelled the consumer. It does not say, so the queue is checked.
    async fn cancelled(&self, connection: &Wire) -> AmqpError {
        let name = self.shared.topology.name("jobs");
        let looked = async {
            let channel = within("open a channel", connection.create_channel()).await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let declared = channel.queue_declare(short(&name), passive, FieldTable::default());
            Ok(tokio::time::timeout(CALL_TIMEOUT, declared).await.ok().map(|declared| declared.err()))
        };
        let why = match looked.await {
            Err(error) => return error,
            Ok(Some(Some(error))) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => "its queue is gone",
            Ok(Some(None)) => {
                "its queue is there: a delivery was in hand for longer than the broker's consumer_timeout, or the \
                 queue has moved to another node"
            }
            Ok(_) => "whether its queue is there the broker does not say",
        };
        AmqpError::Link(format!("the broker cancelled the consumer: {why}"))
    }

    /// Cancels the consumer and requeues the deliveries that no task has, in order; the channel stays for the
    /// deliveries in hand.
    async fn stand_back(&self, connection: &Wire, channel: &Channel, mut consumer: Consumer) -> Result<(), AmqpError> {
        within("give no more jobs", channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
        while let Some(delivered) = consumer.next().await {
            self.take(connection, channel, Some(delivered)).await?;
        }
        for delivery in self.shared.jobs.drain() {
            // A delivery that cannot be requeued is lost with its channel, and redelivered.
            let _ = delivery.settle.requeue().await;
        }
        self.shared.consuming.send_replace(false);
        Ok(())
    }
}

/// The right to settle on the delivery's own channel.
struct OnChannel {
    acker: Acker,
    lost: CancellationToken,
    losses: Arc<Losses>,
}

impl OnChannel {
    async fn settled(&self, answer: impl Future<Output = lapin::Result<bool>>) -> Result<(), Lost> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(Lost),
            // `Ok(false)`: the channel was gone, nothing was sent.
            answer = answer => if matches!(answer, Ok(true)) {
                self.losses.settled();
                Ok(())
            } else {
                Err(Lost)
            },
            // It may still be sent; everything before it is done.
            () = tokio::time::sleep(CALL_TIMEOUT) => Err(Lost),
        }
    }
}

#[async_trait]
impl Settle for OnChannel {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        self.settled(self.acker.ack(BasicAckOptions::default())).await
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        self.settled(self.acker.nack(BasicNackOptions { requeue: true, multiple: false })).await
    }
}

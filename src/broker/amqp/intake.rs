//! Taking jobs: one channel, one consumer, one epoch after the other.
//!
//! The rule it keeps: a delivery can be settled only on the channel that brought it, and its
//! `lost` token is cancelled before a newer channel hands out anything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Acker;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio_util::sync::CancellationToken;

use super::message::{from_amqp, short};
use super::{AmqpError, Shared, Wanted};
use crate::broker::{Delivery, Lost, Settle, Via};

/// How often an idle channel is looked at; the broker's close of one without a consumer makes no
/// other sound.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// Takes jobs over one channel until that is lost; the error says why.
pub(super) async fn epoch(shared: &Shared, connection: &Connection) -> AmqpError {
    let epoch =
        Epoch { shared, number: shared.epoch.fetch_add(1, Ordering::Relaxed) + 1, lost: CancellationToken::new() };
    match epoch.run(connection).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

struct Epoch<'a> {
    shared: &'a Shared,
    number: u64,
    lost: CancellationToken,
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        self.lost.cancel();
        // What nobody had taken comes again over the next channel.
        drop(self.shared.jobs.drain());
        self.shared.consuming.send_replace(false);
    }
}

impl Epoch<'_> {
    async fn run(&self, connection: &Connection) -> Result<std::convert::Infallible, AmqpError> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.shared.config.prefetch.max(1), BasicQosOptions::default()).await?;
        let mut wanted = self.shared.wanted.subscribe();
        loop {
            if *wanted.borrow_and_update() == Wanted::Jobs {
                let mut consumer = self.consume(&channel).await?;
                self.shared.consuming.send_replace(true);
                self.shared.up();
                while *wanted.borrow_and_update() == Wanted::Jobs {
                    tokio::select! {
                        delivered = consumer.next() => self.take(delivered)?,
                        _ = wanted.changed() => {}
                    }
                }
                self.stand_back(&channel, consumer).await?;
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
        let options = BasicConsumeOptions::default();
        Ok(channel.basic_consume(short(&queue), short(""), options, FieldTable::default()).await?)
    }

    fn take(&self, delivered: Option<lapin::Result<AmqpDelivery>>) -> Result<(), AmqpError> {
        let delivery = delivered
            .ok_or_else(|| AmqpError::Link("the broker cancelled the consumer: its queue is gone".to_owned()))??;
        let exchange = delivery.exchange.as_str();
        let via = if exchange == self.shared.topology.name("requests") {
            Via::Requests
        } else if exchange == self.shared.topology.name("resume") {
            Via::Resume
        } else {
            Via::Other
        };
        self.shared.jobs.push(Delivery {
            properties: from_amqp(&delivery.properties),
            body: Bytes::from(delivery.data),
            via,
            redelivered: delivery.redelivered,
            lost: self.lost.clone(),
            epoch: self.number,
            settle: Box::new(OnChannel { acker: delivery.acker, lost: self.lost.clone() }),
        });
        Ok(())
    }

    /// Cancels the consumer and gives back what nobody had taken, in order; the channel stays for
    /// the deliveries in hand.
    async fn stand_back(&self, channel: &Channel, mut consumer: Consumer) -> Result<(), AmqpError> {
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        while let Some(delivered) = consumer.next().await {
            self.take(Some(delivered))?;
        }
        for delivery in self.shared.jobs.drain() {
            // A delivery that cannot be given back is lost with its channel and comes again.
            let _ = delivery.settle.requeue().await;
        }
        self.shared.consuming.send_replace(false);
        Ok(())
    }
}

/// The right to settle on the channel that brought the delivery.
struct OnChannel {
    acker: Acker,
    lost: CancellationToken,
}

impl OnChannel {
    async fn settled(&self, answer: impl Future<Output = lapin::Result<bool>>) -> Result<(), Lost> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(Lost),
            // `Ok(false)`: the channel was gone, nothing was sent.
            answer = answer => if matches!(answer, Ok(true)) { Ok(()) } else { Err(Lost) },
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

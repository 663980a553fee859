//! A subscriber of events for the demonstration, with a queue of its own that is deleted with it.
//!
//! The rule it keeps: it is like any other subscriber; the worker does not know it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::Consumer;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;

use super::dial::{Dial, Wire};
use super::link::CLOSE_TIMEOUT;
use super::message::short;
use super::{AmqpConfig, AmqpError};
use crate::broker::topology::Topology;

/// Every event from now on.
pub struct EventTap {
    connection: Wire,
    consumer: Consumer,
    topology: Arc<Topology>,
}

impl EventTap {
    /// Binds an exclusive queue to all events. The topology must exist.
    pub async fn open(config: &AmqpConfig) -> Result<EventTap, AmqpError> {
        let topology = Arc::new(Topology::new(&config.prefix));
        let connection = Dial::new(config)?.connect(config, " events").await?;
        let channel = connection.create_channel().await?;
        let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(short(""), exclusive, FieldTable::default()).await?;
        let exchange = short(&topology.name("events"));
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.name().clone(), exchange, short("#"), bind, FieldTable::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(queue.name().clone(), short(""), options, FieldTable::default()).await?;
        Ok(EventTap { connection, consumer, topology })
    }

    /// The next event's body; `None` after the connection's end.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.consumer.next().await?.ok().map(|delivery| Bytes::from(delivery.data))
    }

    /// Deletes every queue and exchange of the prefix: only for a demonstration's own prefix.
    pub async fn remove_topology(self) -> Result<(), AmqpError> {
        let channel = self.connection.create_channel().await?;
        for queue in &self.topology.queues {
            channel.queue_delete(short(&queue.name), QueueDeleteOptions::default()).await?;
        }
        for exchange in &self.topology.exchanges {
            channel.exchange_delete(short(&exchange.name), ExchangeDeleteOptions::default()).await?;
        }
        // 200: AMQP's "reply-success". The names are deleted, however the connection ends.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.connection.close(200, short(""))).await;
        Ok(())
    }
}

//! The topology table on a real broker: declares it, or checks that it is there.
//!
//! The rule it keeps: an existing name with other settings is never changed; it is reported.

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind as LapinKind};

use super::AmqpError;
use super::dial::Wire;
use super::error::soft;
use super::message::short;
use crate::broker::topology::{Argument, Arguments, Bound, Exchange, ExchangeKind, Queue, Topology};

/// Declares everything; a repetition changes nothing.
pub(super) async fn declare(connection: &Wire, topology: &Topology) -> Result<(), AmqpError> {
    let channel = connection.create_channel().await?;
    for exchange in &topology.exchanges {
        declare_exchange(&channel, exchange, false)
            .await
            .map_err(|error| AmqpError::of_declaration("exchange", &exchange.name, &error))?;
    }
    for queue in &topology.queues {
        declare_queue(&channel, queue, false)
            .await
            .map_err(|error| AmqpError::of_declaration("queue", &queue.name, &error))?;
    }
    for binding in &topology.bindings {
        let (to, from, key) = (short(&binding.destination), short(&binding.source), short(binding.key));
        let bound = match binding.bound {
            Bound::Queue => channel.queue_bind(to, from, key, QueueBindOptions::default(), FieldTable::default()).await,
            Bound::Exchange => {
                channel.exchange_bind(to, from, key, ExchangeBindOptions::default(), FieldTable::default()).await
            }
        };
        bound.map_err(|error| AmqpError::of_declaration("binding of", &binding.destination, &error))?;
    }
    Ok(())
}

/// Checks every exchange and queue without declaring them; AMQP cannot read bindings or arguments. A name that the
/// user may not read counts as present.
pub(super) async fn check(connection: &Wire, topology: &Topology) -> Result<(), AmqpError> {
    let mut missing = Vec::new();
    let mut channel = connection.create_channel().await?;
    for exchange in &topology.exchanges {
        if let Err(error) = declare_exchange(&channel, exchange, true).await {
            note(&mut missing, format!("exchange {}", exchange.name), error)?;
            channel = connection.create_channel().await?;
        }
    }
    for queue in &topology.queues {
        if let Err(error) = declare_queue(&channel, queue, true).await {
            note(&mut missing, format!("queue {}", queue.name), error)?;
            channel = connection.create_channel().await?;
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(AmqpError::Missing(missing)) }
}

fn note(missing: &mut Vec<String>, what: String, error: lapin::Error) -> Result<(), AmqpError> {
    match soft(&error) {
        Some(AMQPSoftError::NOTFOUND) => missing.push(what),
        Some(_) => {}
        None => return Err(error.into()),
    }
    Ok(())
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange, passive: bool) -> lapin::Result<()> {
    let kind = match exchange.kind {
        ExchangeKind::Direct => LapinKind::Direct,
        ExchangeKind::Fanout => LapinKind::Fanout,
        ExchangeKind::Topic => LapinKind::Topic,
    };
    let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(short(&exchange.name), kind, options, table(&exchange.arguments)).await
}

async fn declare_queue(channel: &Channel, queue: &Queue, passive: bool) -> lapin::Result<()> {
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(short(&queue.name), options, table(&queue.arguments)).await.map(drop)
}

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Int(number) => AMQPValue::LongLongInt(*number),
            Argument::Bool(flag) => AMQPValue::Boolean(*flag),
        };
        table.insert(short(name), value);
    }
    table
}

//! The AMQP broker against a real RabbitMQ.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod conformance;
mod fatal;
mod intake;
mod letters;
mod listing;
mod losses;
mod names;
mod plain_tools;
mod policies;
mod publishing;
mod reports;
mod secrets;
mod stream;
mod topology;

use std::time::Duration;

use bytes::Bytes;
use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, DeadLetter, Delivery, Destination, Link, Properties, Publication, Verdict};
use lapin::{Connection, ConnectionProperties};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;
use testkit::{PATIENCE, soon};

/// A configuration with names that no other test uses.
fn config(rabbit: &Rabbit) -> AmqpConfig {
    AmqpConfig {
        prefix: format!("t{}", uuid::Uuid::new_v4().simple()),
        heartbeat: Duration::from_secs(2),
        publish_timeout: Duration::from_secs(20),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(500),
        ..AmqpConfig::new(SecretString::from(rabbit.url()))
    }
}

async fn up(broker: &AmqpBroker) {
    let mut link = broker.link();
    let up = tokio::time::timeout(PATIENCE, link.wait_for(|link| *link == Link::Up)).await;
    assert!(up.is_ok(), "{:?}", *broker.link().borrow());
}

async fn next(broker: &AmqpBroker) -> Delivery {
    soon("a delivery", broker.next()).await.expect("a delivery")
}

fn message(to: Destination, body: &str) -> Publication {
    Publication { to, properties: Properties::default(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

async fn send(broker: &AmqpBroker, to: Destination, body: &str) {
    broker.publish(message(to, body)).await.unwrap();
}

/// Waits until a queue holds `count`: the broker counts a little after it confirms.
async fn holds(broker: &AmqpBroker, queue: &str, count: u64) {
    soon(&format!("{count} in {queue}"), async {
        while broker.depth(queue).await != Some(count) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A connection without our broker code.
async fn plain(rabbit: &Rabbit) -> Connection {
    Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap()
}

/// The bodies of the dead letters, in order. Changes nothing.
async fn listed(broker: &AmqpBroker, limit: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut decide = |letter: &DeadLetter| {
        seen.push(String::from_utf8(letter.body.to_vec()).unwrap());
        Verdict::Keep
    };
    let looked = broker.dead_letters(limit, &mut decide).await.unwrap();
    assert_eq!(looked, seen.len());
    seen
}

//! Messages at which the broker itself ends the connection. They cannot be read, so in the control stream they are
//! skipped.

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, Destination};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;
use testkit::relay::Relay;

use super::{config, send, soon, up};

const FATAL: &str = "bytes-over-which-the-connection-ends";

/// A worker's link through a relay that ends at such a message, and a direct link.
async fn pair(rabbit: &Rabbit, relay: &Relay) -> (std::sync::Arc<AmqpBroker>, std::sync::Arc<AmqpBroker>) {
    let direct = config(rabbit);
    let other = AmqpBroker::connect(direct.clone().publish_only()).await.unwrap();
    up(&other).await;
    let by_relay = AmqpConfig { url: SecretString::from(relay.url()), ..direct };
    (AmqpBroker::connect(by_relay).await.unwrap(), other)
}

#[tokio::test]
async fn a_cancellation_that_ends_every_connection_is_skipped_and_loses_no_delivery() {
    let rabbit = Rabbit::shared();
    let relay = Relay::start(rabbit.port(), FATAL.as_bytes()).await;
    let (broker, other) = pair(rabbit, &relay).await;
    up(&broker).await;
    for body in ["0", "1", FATAL, FATAL, "4"] {
        send(&other, Destination::Cancel, body).await;
    }
    send(&other, Destination::Requests, "a").await;
    let held = super::next(&broker).await;
    for offset in [0, 1, 4] {
        let control = soon("control", broker.next_control(None)).await.unwrap();
        assert_eq!((control.offset, &control.body[..]), (offset, offset.to_string().as_bytes()));
    }
    assert_eq!(broker.tallies().control_skipped, 2);
    assert!(!held.message.lost.is_cancelled(), "the jobs' connection ended with the control stream's");
    held.settle.ack().await.unwrap();
    send(&other, Destination::Cancel, "5").await;
    assert_eq!(soon("control", broker.next_control(None)).await.unwrap().offset, 5);
}

//! The control stream, replaced under its reader.
//!
//! The rule it keeps: no message of a stream is skipped because another stream was read further.

use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, Destination, Place};
use lapin::options::QueueDeleteOptions;
use testkit::rabbit::Rabbit;

use super::{config, plain, send, soon, up};

/// Deletes the stream and declares it again, as the runbook says.
async fn replace(rabbit: &Rabbit, config: &erasure_worker::broker::amqp::AmqpConfig) {
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let name = format!("{}.control.log", config.prefix);
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    AmqpBroker::declare_topology(config).await.unwrap();
}

/// Reads this many messages like the engine: each message moves the offset.
async fn take(broker: &AmqpBroker, place: &mut Option<Place>, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let control = soon("control", broker.next_control(place.clone())).await.unwrap();
        let goes_back = place.as_ref().is_some_and(|place| control.offset <= place.offset());
        *place = Some(Place::after(place.as_ref().filter(|_| !goes_back), &control));
        bodies.push(String::from_utf8(control.body.to_vec()).unwrap());
    }
    bodies
}

fn bodies(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{word}{number}")).collect()
}

#[tokio::test]
async fn a_stream_replaced_while_no_worker_read_is_read_from_its_first_message() {
    let rabbit = Rabbit::shared();
    for count in [0, 1, 5, 6, 7, 20] {
        let config = config(rabbit);
        let (mut place, old) = (None, bodies("old", 6));
        let broker = AmqpBroker::connect(config.clone()).await.unwrap();
        up(&broker).await;
        for body in &old {
            send(&broker, Destination::Cancel, body).await;
        }
        assert_eq!(take(&broker, &mut place, 6).await, old);
        broker.close().await;
        replace(rabbit, &config).await;
        let sender = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
        let new = bodies("new", count);
        for body in &new {
            send(&sender, Destination::Cancel, body).await;
        }
        let broker = AmqpBroker::connect(config.clone()).await.unwrap();
        up(&broker).await;
        assert_eq!(take(&broker, &mut place, count).await, new, "{count}");
        send(&sender, Destination::Cancel, "later").await;
        assert_eq!(take(&broker, &mut place, 1).await, ["later"], "{count}");
    }
}

#[tokio::test]
async fn a_stream_replaced_under_its_reader_is_read_from_its_first_message() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let mut place = None;
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    for (word, count) in [("first", 6), ("second", 4), ("third", 9)] {
        let sent = bodies(word, count);
        for body in &sent {
            send(&broker, Destination::Cancel, body).await;
        }
        assert_eq!(take(&broker, &mut place, count).await, sent);
        replace(rabbit, &config).await;
    }
}

#[tokio::test]
async fn after_a_stop_the_same_stream_is_read_after_its_last_read_message() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let mut place = None;
    for round in 0..4 {
        let broker = AmqpBroker::connect(config.clone()).await.unwrap();
        up(&broker).await;
        let sent = bodies(&format!("{round}-"), 9);
        for body in &sent {
            send(&broker, Destination::Cancel, body).await;
        }
        assert_eq!(take(&broker, &mut place, 9).await, sent);
        broker.close().await;
    }
}

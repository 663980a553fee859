//! Publications: confirmed, kept, or an error.

use std::sync::Arc;

use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, Destination, PublishError, Tier};
use lapin::options::QueueDeleteOptions;
use testkit::rabbit::Rabbit;
use testkit::soon;

use crate::{config, holds, message, plain, send, up};

#[tokio::test]
async fn an_unroutable_message_is_an_error_and_its_neighbours_are_confirmed() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let broker = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    up(&broker).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let gone = format!("{}.wait.30s", config.prefix);
    channel.queue_delete(gone.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    // Concurrently, so that the broker confirms some together with the returned ones.
    let attempts = (0..400).map(|n| {
        let broker = Arc::clone(&broker);
        async move {
            let to = if n % 2 == 0 { Destination::Wait(Tier::S30) } else { Destination::DeadLetter };
            (n, broker.publish(message(to, "x")).await)
        }
    });
    for (n, result) in futures_util::future::join_all(attempts).await {
        match (n % 2, &result) {
            (0, Err(PublishError::Unrouted(_))) | (1, Ok(())) => {}
            _ => panic!("message {n}: {result:?}"),
        }
    }
    holds(&broker, "dead-letters", 200).await;
}

#[tokio::test]
async fn an_event_without_a_bound_queue_is_kept_without_an_error() {
    let broker = AmqpBroker::connect(config(Rabbit::shared()).publish_only()).await.unwrap();
    send(&broker, Destination::Event { routing_key: "job.completed.acme".into() }, "e").await;
    holds(&broker, "events.unrouted", 1).await;
}

#[tokio::test]
async fn a_thousand_publishes_at_once_are_all_confirmed() {
    let broker = AmqpBroker::connect(config(Rabbit::shared()).publish_only()).await.unwrap();
    let all = (0..1000).map(|n| broker.publish(message(Destination::Requests, &n.to_string())));
    for result in soon("a thousand confirms", futures_util::future::join_all(all)).await {
        assert_eq!(result, Ok(()));
    }
    holds(&broker, "jobs", 1000).await;
}

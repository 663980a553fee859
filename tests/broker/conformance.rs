//! The worker's requirements of any broker, RabbitMQ or not. `scripts/broker-check URL` runs this against an existing
//! broker, and leaves nothing there.

use std::time::{Duration, Instant};

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::topology::Topology;
use erasure_worker::broker::{Broker as _, Destination, Tier, Via};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use secrecy::SecretString;
use serde_json::Value;
use testkit::rabbit::Rabbit;

use super::{holds, message, next, send, soon, up};

/// The broker to check: from `ERASURE_TEST_AMQP_URL`, or a private one.
fn config() -> AmqpConfig {
    let url = std::env::var("ERASURE_TEST_AMQP_URL").unwrap_or_else(|_| Rabbit::shared().url());
    AmqpConfig {
        prefix: format!("check-{}", uuid::Uuid::new_v4().simple()),
        publish_timeout: Duration::from_secs(20),
        ..AmqpConfig::new(SecretString::from(url))
    }
}

async fn plain(config: &AmqpConfig) -> Connection {
    use secrecy::ExposeSecret as _;
    Connection::connect(config.url.expose_secret(), ConnectionProperties::default()).await.unwrap()
}

/// Removes all declared names.
async fn tidy(config: &AmqpConfig) {
    let channel = plain(config).await.create_channel().await.unwrap();
    let definitions = Topology::new(&config.prefix).definitions("/");
    let names = |kind: &str| -> Vec<String> {
        let all = definitions[kind].as_array().unwrap();
        all.iter().map(|one: &Value| one["name"].as_str().unwrap().to_owned()).collect()
    };
    for queue in names("queues") {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    for exchange in names("exchanges") {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_confirmed_message_is_in_its_queue() {
    let config = config();
    let broker = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    up(&broker).await;
    let all = (0..500).map(|n| broker.publish(message(Destination::Requests, &n.to_string())));
    let confirmed = soon("the confirms", futures_util::future::join_all(all)).await;
    assert!(confirmed.iter().all(Result::is_ok));
    holds(&broker, "jobs", 500).await;
    broker.close().await;
    tidy(&config).await;
}

#[tokio::test]
async fn an_unroutable_message_is_returned_with_its_confirm() {
    let config = config();
    AmqpBroker::declare_topology(&config).await.unwrap();
    let channel = plain(&config).await.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let exchange = format!("{}.requests", config.prefix);
    let published = channel
        .basic_publish(exchange.into(), "nobody".into(), options, b"x", BasicProperties::default())
        .await
        .unwrap();
    assert!(matches!(published.await.unwrap(), Confirmation::Ack(Some(_))));
    tidy(&config).await;
}

#[tokio::test]
async fn every_parked_message_is_delivered_by_resume_each_time_and_not_too_early() {
    let config = AmqpConfig { prefetch: 200, ..config() };
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    for _ in 0..2 {
        let parked_at = Instant::now();
        let all = (0..200).map(|n| broker.publish(message(Destination::Wait(Tier::S5), &n.to_string())));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 200 {
            let back = next(&broker).await;
            assert!(parked_at.elapsed() >= Duration::from_millis(4900), "{:?}", parked_at.elapsed());
            assert_eq!(back.message.via, Via::Resume);
            assert!(!back.message.properties.headers.contains_key("x-death"), "the broker could see a cycle");
            seen.insert(back.message.body.clone());
            back.settle.ack().await.unwrap();
        }
    }
    broker.close().await;
    tidy(&config).await;
}

#[tokio::test]
async fn a_job_may_be_requeued_more_often_than_any_default_limit() {
    let config = config();
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    send(&broker, Destination::Requests, "again").await;
    for _ in 0..45 {
        next(&broker).await.settle.requeue().await.unwrap();
    }
    next(&broker).await.settle.ack().await.unwrap();
    assert_eq!(broker.depth("dead-letters").await, Some(0));
    broker.close().await;
    tidy(&config).await;
}

#[tokio::test]
async fn only_one_consumer_gets_jobs_and_the_next_takes_over() {
    let config = config();
    let active = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&active).await;
    send(&active, Destination::Requests, "first").await;
    let held = next(&active).await;
    let standby = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&standby).await;
    send(&active, Destination::Requests, "second").await;
    let second = next(&active).await;
    assert_eq!(&second.message.body[..], b"second", "the standby got the job");
    second.settle.ack().await.unwrap();
    drop(held);
    active.close().await;
    assert_eq!(&next(&standby).await.message.body[..], b"first");
    standby.close().await;
    tidy(&config).await;
}

#[tokio::test]
async fn the_control_stream_keeps_messages_from_before_the_first_reader() {
    let config = config();
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    for n in 0..10 {
        send(&broker, Destination::Cancel, &n.to_string()).await;
    }
    for n in 0..10_u64 {
        let control = soon("a cancellation", broker.next_control(None)).await.unwrap();
        assert_eq!((control.offset, &control.body[..]), (n, n.to_string().as_bytes()));
    }
    broker.close().await;
    tidy(&config).await;
}

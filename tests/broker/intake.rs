//! Deliveries of jobs and of control messages: acked, requeued, paused, stopped.

use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, Destination, HeaderValue, Lost, Place, Publication, Tier, Via};
use lapin::options::QueueDeleteOptions;
use testkit::rabbit::Rabbit;
use testkit::soon;

use crate::{config, holds, message, next, plain, send, up};

#[tokio::test]
async fn a_parked_job_is_delivered_by_resume_with_our_headers_and_without_the_brokers() {
    let broker = AmqpBroker::connect(config(Rabbit::shared())).await.unwrap();
    let mut parked = message(Destination::Wait(Tier::S5), "parked");
    parked.properties.message_id = Some("m".into());
    parked.properties.headers.insert("x-erasure-park".into(), HeaderValue::Int(3));
    broker.publish(parked).await.unwrap();
    let back = next(&broker).await;
    assert_eq!((back.message.via, &back.message.body[..]), (Via::Resume, &b"parked"[..]));
    assert_eq!(back.message.properties.message_id.as_deref(), Some("m"));
    let names: Vec<_> = back.message.properties.headers.keys().filter(|name| *name != "x-delivery-count").collect();
    assert_eq!(names, ["x-erasure-park"]);
    // A second park with all received properties.
    let again = Publication {
        to: Destination::Wait(Tier::S5),
        properties: back.message.properties.clone(),
        body: back.message.body.clone(),
    };
    broker.publish(again).await.unwrap();
    back.settle.ack().await.unwrap();
    assert_eq!(next(&broker).await.message.via, Via::Resume);
}

#[tokio::test]
async fn an_acked_job_is_removed_and_a_requeued_one_is_redelivered() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let first = next(&broker).await;
    assert_eq!((first.message.via, first.message.redelivered), (Via::Requests, false));
    first.settle.requeue().await.unwrap();
    let second = next(&broker).await;
    // RabbitMQ 4.0 and 4.3 differ in the header that counts deliveries, so none is expected.
    assert_eq!(
        (second.message.via, second.message.redelivered, &second.message.body),
        (Via::Requests, true, &first.message.body)
    );
    second.settle.ack().await.unwrap();
    broker.close().await;
    assert!(broker.next().await.is_none());
    let after = AmqpBroker::connect(config.publish_only()).await.unwrap();
    holds(&after, "jobs", 0).await;
}

#[tokio::test]
async fn a_job_published_past_the_exchanges_is_not_trusted() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let queue = format!("{}.jobs", config.prefix);
    drop(
        channel
            .basic_publish("".into(), queue.as_str().into(), Default::default(), b"x", Default::default())
            .await
            .unwrap(),
    );
    assert_eq!(next(&broker).await.message.via, Via::Other);
}

#[tokio::test]
async fn a_job_left_unsettled_goes_to_the_standby_when_the_worker_closes() {
    let config = config(Rabbit::shared());
    let active = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&active).await;
    let standby = AmqpBroker::connect(config).await.unwrap();
    up(&standby).await;
    send(&standby, Destination::Requests, "a").await;
    let held = next(&active).await;
    active.close().await;
    assert!(held.message.lost.is_cancelled());
    assert_eq!(held.settle.ack().await, Err(Lost));
    let taken = next(&standby).await;
    assert!(taken.message.redelivered);
    taken.settle.ack().await.unwrap();
}

#[tokio::test]
async fn intake_goes_on_after_its_queue_was_deleted() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let queue = format!("{}.jobs", config.prefix);
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    soon("the loss", held.message.lost.cancelled()).await;
    assert_eq!(held.settle.ack().await, Err(Lost));
    up(&broker).await;
    send(&broker, Destination::Requests, "b").await;
    let later = next(&broker).await;
    assert_eq!(&later.message.body[..], b"b");
    assert!(later.message.epoch > held.message.epoch);
    later.settle.ack().await.unwrap();
}

#[tokio::test]
async fn paused_intake_requeues_waiting_deliveries_and_keeps_those_in_hand() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    let watcher = AmqpBroker::connect(config.publish_only()).await.unwrap();
    for body in ["a", "b", "c"] {
        send(&watcher, Destination::Requests, body).await;
    }
    let held = next(&broker).await;
    assert_eq!(&held.message.body[..], b"a");
    broker.pause_intake().await;
    holds(&watcher, "jobs", 2).await;
    held.settle.ack().await.unwrap();
    assert!(!held.message.lost.is_cancelled());
    broker.resume_intake().await;
    for body in ["b", "c"] {
        let delivery = next(&broker).await;
        assert_eq!(&delivery.message.body[..], body.as_bytes());
        delivery.settle.ack().await.unwrap();
    }
    holds(&watcher, "jobs", 0).await;
}

#[tokio::test]
async fn stopped_intake_requeues_waiting_deliveries_and_can_still_settle() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    let watcher = AmqpBroker::connect(config.publish_only()).await.unwrap();
    for body in ["a", "b"] {
        send(&watcher, Destination::Requests, body).await;
    }
    let held = next(&broker).await;
    broker.stop_intake().await;
    assert!(broker.next().await.is_none());
    assert!(broker.next_control(None).await.is_none());
    holds(&watcher, "jobs", 1).await;
    held.settle.ack().await.unwrap();
    broker.resume_intake().await;
    assert!(broker.next().await.is_none(), "a stop is permanent");
}

#[tokio::test]
async fn the_control_stream_is_read_from_the_first_message_and_from_an_offset() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    for n in 0..20 {
        send(&broker, Destination::Cancel, &n.to_string()).await;
    }
    for n in 0..20 {
        let control = soon("control", broker.next_control(None)).await.unwrap();
        assert_eq!((control.offset, &control.body[..]), (n, n.to_string().as_bytes()));
    }
    send(&broker, Destination::Cancel, "20").await;
    assert_eq!(soon("control", broker.next_control(None)).await.unwrap().offset, 20);
    let other = AmqpBroker::connect(config).await.unwrap();
    let control = soon("control", other.next_control(Some(Place::at(16)))).await.unwrap();
    assert_eq!((control.offset, &control.body[..]), (17, &b"17"[..]));
    assert_eq!(broker.depth("jobs").await, Some(0), "a cancellation is no job");
}

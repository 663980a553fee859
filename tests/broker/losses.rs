//! A lost broker or delivery, and the work after it.

use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, Destination, Link, Lost, PublishError};
use testkit::rabbit::Rabbit;
use testkit::soon;

use crate::{config, holds, message, next, send, up};

async fn down(broker: &AmqpBroker) {
    soon("the link's end", broker.link().wait_for(|link| matches!(link, Link::Down(_)))).await.unwrap();
}

/// Every way to lose the whole broker, with its own broker.
#[tokio::test]
async fn work_goes_on_after_every_way_to_lose_the_broker() {
    let rabbit = Rabbit::start();
    let broker = AmqpBroker::connect(config(&rabbit)).await.unwrap();
    send(&broker, Destination::Cancel, "c0").await;
    assert_eq!(soon("control", broker.next_control(None)).await.unwrap().offset, 0);
    send(&broker, Destination::Requests, "job").await;
    let ways: [(&str, &dyn Fn()); 4] = [
        ("all connections closed", &|| drop(rabbit.ctl(&["close_all_connections", "test"]))),
        ("stopped and started", &|| rabbit.stop()),
        ("killed and started", &|| rabbit.kill()),
        ("silent", &|| rabbit.freeze()),
    ];
    let mut epoch = 0;
    for (way, lose) in ways {
        let held = next(&broker).await;
        assert!(held.message.epoch > epoch, "{way}");
        epoch = held.message.epoch;
        assert_eq!(&held.message.body[..], b"job", "{way}");
        lose();
        soon(way, held.message.lost.cancelled()).await;
        assert_eq!(held.settle.ack().await, Err(Lost), "{way}");
        match way {
            "all connections closed" => {}
            "silent" => {
                down(&broker).await;
                rabbit.thaw();
            }
            _ => {
                down(&broker).await;
                let refused = broker.publish(message(Destination::Requests, "no")).await;
                assert!(matches!(refused, Err(PublishError::Down(_))), "{way}: {refused:?}");
                rabbit.boot();
            }
        }
    }
    let again = next(&broker).await;
    assert!(again.message.redelivered);
    up(&broker).await;
    again.settle.ack().await.unwrap();
    holds(&broker, "jobs", 0).await;
    // The control stream was continued at its place.
    send(&broker, Destination::Cancel, "c1").await;
    assert_eq!(soon("control", broker.next_control(None)).await.unwrap().offset, 1);
}

#[tokio::test]
async fn a_delivery_held_beyond_the_brokers_limit_is_lost_and_redelivered_on_a_new_channel() {
    let rabbit = Rabbit::start_with("consumer_timeout = 1500", "-rabbit channel_tick_interval 300");
    let broker = AmqpBroker::connect(config(&rabbit)).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    let waiting = next(&broker);
    // The broker closes only the channel.
    soon("the broker's timeout", held.message.lost.cancelled()).await;
    assert_eq!(held.settle.ack().await, Err(Lost));
    let again = waiting.await;
    assert!(again.message.redelivered && again.message.epoch > held.message.epoch);
    again.settle.ack().await.unwrap();
    up(&broker).await;
}

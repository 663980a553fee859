//! The list of dead letters: order, replacement and removal.

use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, DeadLetter, Destination, PublishError, Verdict, Via};
use lapin::options::QueueDeleteOptions;
use testkit::rabbit::Rabbit;

use crate::{config, holds, listed, message, next, plain, send};

#[tokio::test]
async fn a_list_of_dead_letters_changes_neither_order_nor_number() {
    let broker = AmqpBroker::connect(config(Rabbit::shared()).publish_only()).await.unwrap();
    let all: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    for body in &all {
        send(&broker, Destination::DeadLetter, body).await;
    }
    holds(&broker, "dead-letters", 6).await;
    for _ in 0..10 {
        assert_eq!(listed(&broker, 100).await, all);
    }
    assert_eq!(listed(&broker, 3).await, all[..3]);
    assert_eq!(listed(&broker, 100).await, all, "after a list of some of them");
    assert_eq!(broker.dead_letters(0, &mut |_| Verdict::Remove).await, Ok(0));
}

#[tokio::test]
async fn dead_letters_are_replaced_or_removed_one_by_one() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    for body in ["keep", "replay", "drop", "keep too"] {
        send(&broker, Destination::DeadLetter, body).await;
    }
    holds(&broker, "dead-letters", 4).await;
    let mut decide = |letter: &DeadLetter| match &letter.body[..] {
        b"replay" => Verdict::Replace(Box::new(message(Destination::Resume, "replayed"))),
        b"drop" => Verdict::Remove,
        _ => Verdict::Keep,
    };
    assert_eq!(broker.dead_letters(100, &mut decide).await, Ok(4));
    assert_eq!(listed(&broker, 100).await, ["keep", "keep too"]);
    let worker = AmqpBroker::connect(config).await.unwrap();
    let replayed = next(&worker).await;
    assert_eq!((replayed.message.via, &replayed.message.body[..]), (Via::Resume, &b"replayed"[..]));
}

#[tokio::test]
async fn a_dead_letter_whose_replacement_cannot_be_routed_stays() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let broker = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    send(&broker, Destination::DeadLetter, "a").await;
    holds(&broker, "dead-letters", 1).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let gone = format!("{}.jobs", config.prefix);
    channel.queue_delete(gone.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let mut decide = |_: &DeadLetter| Verdict::Replace(Box::new(message(Destination::Resume, "a")));
    let outcome = broker.dead_letters(10, &mut decide).await;
    assert!(matches!(outcome, Err(PublishError::Unrouted(_))), "{outcome:?}");
    assert_eq!(listed(&broker, 10).await, ["a"]);
}

//! Exchanges and queues: declared, compared, and named if one is missing or different.

use std::collections::BTreeMap;

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig, AmqpError, Unequal};
use erasure_worker::broker::topology::Topology;
use erasure_worker::broker::{Broker as _, Destination};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use testkit::rabbit::Rabbit;

use crate::{config, next, plain, send, up};

#[tokio::test]
async fn the_topology_is_declared_and_declaring_it_again_changes_nothing() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    AmqpBroker::declare_topology(&config).await.unwrap();
    AmqpBroker::declare_topology(&config).await.unwrap();
    let broker = AmqpBroker::connect(AmqpConfig { declare_topology: false, ..config }).await.unwrap();
    up(&broker).await;
    for queue in Topology::new("p").queues {
        assert_eq!(broker.depth(queue.name.strip_prefix("p.").unwrap()).await, Some(0), "{}", queue.name);
    }
}

#[tokio::test]
async fn exported_definitions_are_what_the_worker_declares() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let file = tempfile::NamedTempFile::new().unwrap();
    let definitions = Topology::new(&config.prefix).definitions("/");
    std::fs::write(file.path(), serde_json::to_vec(&definitions).unwrap()).unwrap();
    rabbit.ctl(&["import_definitions", file.path().to_str().unwrap()]);
    let imported = AmqpConfig { declare_topology: false, ..config.clone() };
    up(&AmqpBroker::connect(imported).await.unwrap()).await;
    let broker = AmqpBroker::connect(config).await.unwrap();
    up(&broker).await;
    send(&broker, Destination::Requests, "a").await;
    assert_eq!(&next(&broker).await.message.body[..], b"a");
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_an_error_with_queue_argument_and_both_values() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let name = format!("{}.wait.5s", config.prefix);
    let mut topology = Topology::new(&config.prefix);
    let queue = topology.queues.iter_mut().find(|queue| queue.name == name).unwrap();
    let mut arguments = BTreeMap::new();
    for (key, value) in &queue.arguments {
        use erasure_worker::broker::topology::Argument;
        let value = match value {
            Argument::Int(5000) => AMQPValue::LongLongInt(7000),
            Argument::Int(number) => AMQPValue::LongLongInt(*number),
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Bool(flag) => AMQPValue::Boolean(*flag),
        };
        arguments.insert((*key).into(), value);
    }
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), durable, FieldTable::from(arguments)).await.unwrap();

    let error = AmqpBroker::connect(config).await.err().expect("an error");
    assert!(error.is_permanent());
    let AmqpError::Unequal(unequal) = &error else { panic!("{error}") };
    let Unequal { kind, name: named, argument, ours, theirs, .. } = &**unequal;
    assert_eq!((*kind, named, argument.as_str()), ("queue", &name, "x-message-ttl"));
    assert_eq!((ours.as_str(), theirs.as_str()), ("5000", "7000"), "{error}");
}

#[tokio::test]
async fn without_permission_to_declare_every_missing_name_is_reported() {
    let rabbit = Rabbit::shared();
    let config = AmqpConfig { declare_topology: false, ..config(rabbit) };
    let error = AmqpBroker::connect(config.clone()).await.err().expect("an error");
    let AmqpError::Missing(missing) = &error else { panic!("{error}") };
    let topology = Topology::new(&config.prefix);
    assert_eq!(missing.len(), topology.exchanges.len() + topology.queues.len());
    assert!(error.to_string().contains(&format!("queue {}.jobs", config.prefix)));
}

#[tokio::test]
async fn a_query_about_a_missing_queue_has_no_side_effect() {
    let broker = AmqpBroker::connect(config(Rabbit::shared())).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    assert_eq!(broker.depth("no-such-queue").await, None);
    assert!(!held.message.lost.is_cancelled());
    held.settle.ack().await.unwrap();
    assert_eq!(broker.depth("jobs").await, Some(0));
}

//! Our names, deleted while the worker runs: each loss is noticed, reported and repaired.

use std::time::Duration;

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::topology::{Bound, Topology};
use erasure_worker::broker::{Broker as _, Destination, Link, Tier};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use testkit::rabbit::Rabbit;

use super::{config, message, next, plain, send, soon, up};

/// A deleted part of the topology.
#[derive(Debug, Clone)]
enum Gone {
    Exchange(String),
    Queue(String),
    Binding { from: String, to: String, bound: Bound, key: &'static str },
}

/// All parts of the topology.
fn all(prefix: &str) -> Vec<Gone> {
    let topology = Topology::new(prefix);
    let exchanges = topology.exchanges.into_iter().map(|exchange| Gone::Exchange(exchange.name));
    let queues = topology.queues.into_iter().map(|queue| Gone::Queue(queue.name));
    let bindings = topology.bindings.into_iter().map(|binding| Gone::Binding {
        from: binding.source,
        to: binding.destination,
        bound: binding.bound,
        key: binding.key,
    });
    exchanges.chain(queues).chain(bindings).collect()
}

async fn delete(channel: &Channel, gone: &Gone) {
    match gone {
        Gone::Exchange(name) => {
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
        Gone::Queue(name) => {
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        }
        Gone::Binding { from, to, bound, key } => {
            let (from, to, key) = (from.as_str().into(), to.as_str().into(), (*key).into());
            match bound {
                Bound::Queue => channel.queue_unbind(to, from, key, FieldTable::default()).await.unwrap(),
                Bound::Exchange => channel
                    .exchange_unbind(to, from, key, ExchangeUnbindOptions::default(), FieldTable::default())
                    .await
                    .unwrap(),
            }
        }
    }
}

/// Every destination of messages from or to a worker.
fn destinations() -> Vec<Destination> {
    let mut all = vec![
        Destination::Requests,
        Destination::Cancel,
        Destination::Control,
        Destination::Resume,
        Destination::DeadLetter,
        Destination::Event { routing_key: "job.completed.acme".to_owned() },
    ];
    all.extend(Tier::ALL.map(Destination::Wait));
    all
}

/// The body of messages that reach the job queue at once.
const NOW: &str = "now";

/// Publishes until the broker confirms.
async fn taken(broker: &AmqpBroker, to: &Destination, gone: &Gone) {
    soon(&format!("a confirm of {to:?} after {gone:?} was deleted"), async {
        let text = if matches!(to, Destination::Requests | Destination::Resume) { NOW } else { "later" };
        while broker.publish(message(to.clone(), text)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_deleted_name_or_binding_is_restored_at_its_first_missed_use() {
    let rabbit = Rabbit::shared();
    // No periodic check: a loss is noticed by its use alone.
    let config = AmqpConfig { look_every: Duration::from_secs(3600), ..config(rabbit) };
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    let connection: Connection = plain(rabbit).await;
    let channel = connection.create_channel().await.unwrap();
    let mut restored = 0;
    for gone in all(&config.prefix) {
        delete(&channel, &gone).await;
        // The loss of the job queue is noticed by the intake, which declares the queue again.
        restored += u64::from(matches!(&gone, Gone::Exchange(_)));
        for to in destinations() {
            taken(&broker, &to, &gone).await;
        }
        // A request and a replay lead to the job queue.
        let mut came = 0;
        while came < 2 {
            let delivery = next(&broker).await;
            came += u32::from(&delivery.message.body[..] == NOW.as_bytes());
            delivery.settle.ack().await.unwrap();
        }
        soon("no missing name", async {
            while !broker.ailments().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    assert!(broker.tallies().names_restored >= restored, "{:?}", broker.tallies());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_name_is_restored_also_without_a_missed_use() {
    let rabbit = Rabbit::shared();
    let config = AmqpConfig { look_every: Duration::from_millis(100), want_control: false, ..config(rabbit) };
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    up(&broker).await;
    // A link without checks.
    let other = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    up(&other).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    for gone in all(&config.prefix) {
        delete(&channel, &gone).await;
        for to in destinations() {
            taken(&other, &to, &gone).await;
        }
    }
    assert!(broker.tallies().names_restored > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_may_not_declare_reports_each_missing_name_until_it_is_restored() {
    let rabbit = Rabbit::shared();
    let all_names = config(rabbit);
    AmqpBroker::declare_topology(&all_names).await.unwrap();
    let look_every = Duration::from_millis(100);
    let checking = AmqpConfig { declare_topology: false, want_control: false, look_every, ..all_names.clone() };
    let broker = AmqpBroker::connect(checking).await.unwrap();
    up(&broker).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    for gone in all(&all_names.prefix) {
        let name = match &gone {
            Gone::Exchange(name) => format!("exchange {name}"),
            // Its loss ends the link, which reports it.
            Gone::Queue(name) if name.ends_with(".jobs") => continue,
            Gone::Queue(name) => format!("queue {name}"),
            // AMQP cannot query a binding.
            Gone::Binding { .. } => continue,
        };
        delete(&channel, &gone).await;
        let named = |is: bool| {
            let (broker, name) = (&broker, &name);
            soon("the name in the ailments", async move {
                let says = || {
                    broker.ailments().iter().any(|ailment| {
                        // With the separator, because some names begin like others.
                        let list = ailment.detail.replace(". Run", ",");
                        ailment.what == "names_missing" && list.contains(&format!("{name},"))
                    })
                };
                while says() != is {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        named(true).await;
        AmqpBroker::declare_topology(&all_names).await.unwrap();
        named(false).await;
    }
    assert_eq!(broker.tallies().names_restored, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_reports_that_another_consumer_is_active_until_it_takes_over() {
    let rabbit = Rabbit::shared();
    let config = AmqpConfig { look_every: Duration::from_millis(50), want_control: false, ..config(rabbit) };
    AmqpBroker::declare_topology(&config).await.unwrap();
    let other = plain(rabbit).await;
    let channel = other.create_channel().await.unwrap();
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let jobs = format!("{}.jobs", config.prefix);
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(jobs.into(), "other".into(), options, FieldTable::default()).await.unwrap();
    let broker = AmqpBroker::connect(config).await.unwrap();
    up(&broker).await;
    // One job for the other consumer, which never settles it, and one that waits.
    for _ in 0..2 {
        send(&broker, Destination::Requests, "a").await;
    }
    soon("the other's job", consumer.next()).await.unwrap().unwrap();
    let stands_by = |does: bool| {
        let broker = &broker;
        soon("the standby", async move {
            while broker.standby().is_some() != does {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    stands_by(true).await;
    assert!(broker.standby().unwrap().contains("list_consumers"));
    assert_eq!(*broker.link().borrow(), Link::Up);
    other.close(200, "".into()).await.unwrap();
    for _ in 0..2 {
        next(&broker).await.settle.ack().await.unwrap();
    }
    stands_by(false).await;
}

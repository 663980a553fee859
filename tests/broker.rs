//! The AMQP broker against a real RabbitMQ.

// A test ends at the first thing that is not as it should be; clippy knows that of test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "broker/conformance.rs"]
mod conformance;
#[path = "broker/fatal.rs"]
mod fatal;
#[path = "broker/letters.rs"]
mod letters;
#[path = "broker/names.rs"]
mod names;
#[path = "broker/plain_tools.rs"]
mod plain_tools;
#[path = "broker/policies.rs"]
mod policies;
#[path = "broker/secrets.rs"]
mod secrets;
#[path = "broker/stream.rs"]
mod stream;
#[path = "broker/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig, AmqpError, Unequal};
use erasure_worker::broker::topology::Topology;
use erasure_worker::broker::{
    Broker, DeadLetter, Delivery, Destination, HeaderValue, Link, Lost, Place, Properties, Publication, PublishError,
    Tier, Verdict, Via,
};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
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

async fn down(broker: &AmqpBroker) {
    soon("the link's end", broker.link().wait_for(|link| matches!(link, Link::Down(_)))).await.unwrap();
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

/// A connection that knows nothing of our layer.
async fn plain(rabbit: &Rabbit) -> Connection {
    Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap()
}

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
async fn a_queue_with_other_arguments_is_an_error_that_names_queue_argument_and_both_values() {
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
async fn without_declaring_everything_that_is_missing_is_named() {
    let rabbit = Rabbit::shared();
    let config = AmqpConfig { declare_topology: false, ..config(rabbit) };
    let error = AmqpBroker::connect(config.clone()).await.err().expect("an error");
    let AmqpError::Missing(missing) = &error else { panic!("{error}") };
    let topology = Topology::new(&config.prefix);
    assert_eq!(missing.len(), topology.exchanges.len() + topology.queues.len());
    assert!(error.to_string().contains(&format!("queue {}.jobs", config.prefix)));
}

#[tokio::test]
async fn an_error_never_shows_the_password() {
    for url in ["amqp://ann:hunter2@127.0.0.1:1/%2f", "hunter2://nowhere", "amqp://ann:hunter2@127.0.0.1:bad/x"] {
        let config = AmqpConfig::new(SecretString::from(url));
        assert!(!format!("{config:?}").contains("hunter2"));
        match AmqpBroker::connect(config).await {
            Ok(broker) => {
                let link = format!("{:?}", *broker.link().borrow());
                assert!(link.contains("Down") && !link.contains("hunter2"), "{link}");
            }
            Err(error) => assert!(!format!("{error} {error:?}").contains("hunter2")),
        }
    }
}

#[tokio::test]
async fn a_message_that_no_queue_is_bound_for_is_an_error_and_its_neighbours_are_not() {
    let rabbit = Rabbit::shared();
    let config = config(rabbit);
    let broker = AmqpBroker::connect(config.clone().publish_only()).await.unwrap();
    up(&broker).await;
    let channel = plain(rabbit).await.create_channel().await.unwrap();
    let gone = format!("{}.wait.30s", config.prefix);
    channel.queue_delete(gone.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    // All at once, so that the broker confirms some of them together with the returned ones.
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
async fn an_event_that_nobody_is_bound_for_is_kept_and_no_error() {
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

#[tokio::test]
async fn a_parked_job_comes_back_by_resume_with_our_headers_and_without_the_brokers() {
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
    // A second time round, with everything that came along.
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
async fn an_acked_job_is_gone_and_a_requeued_one_comes_again() {
    let config = config(Rabbit::shared());
    let broker = AmqpBroker::connect(config.clone()).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let first = next(&broker).await;
    assert_eq!((first.message.via, first.message.redelivered), (Via::Requests, false));
    first.settle.requeue().await.unwrap();
    let second = next(&broker).await;
    // Whether a returned delivery is counted in a header differs between RabbitMQ 4.0 and 4.3; none is asked for.
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
async fn a_job_sent_around_the_exchanges_is_not_trusted() {
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
async fn paused_intake_gives_back_what_was_not_taken_and_keeps_what_was() {
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
async fn stopped_intake_gives_back_what_was_not_taken_and_can_still_settle() {
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
    assert!(broker.next().await.is_none(), "stopped is for good");
}

#[tokio::test]
async fn the_control_stream_is_read_from_the_first_and_from_an_offset() {
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

/// What lies among the dead letters, in order, without changing it.
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

#[tokio::test]
async fn looking_at_dead_letters_changes_neither_order_nor_number() {
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
    assert_eq!(listed(&broker, 100).await, all, "after a look at some of them");
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

#[tokio::test]
async fn asking_for_a_queue_that_is_missing_disturbs_nothing() {
    let broker = AmqpBroker::connect(config(Rabbit::shared())).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    assert_eq!(broker.depth("no-such-queue").await, None);
    assert!(!held.message.lost.is_cancelled());
    held.settle.ack().await.unwrap();
    assert_eq!(broker.depth("jobs").await, Some(0));
}

/// Everything that takes the whole broker down, on a broker of its own.
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
    // The control stream went on where it was.
    send(&broker, Destination::Cancel, "c1").await;
    assert_eq!(soon("control", broker.next_control(None)).await.unwrap().offset, 1);
}

#[tokio::test]
async fn a_delivery_held_beyond_the_brokers_limit_is_lost_and_comes_again_on_a_new_channel() {
    let rabbit = Rabbit::start_with("consumer_timeout = 1500", "-rabbit channel_tick_interval 300");
    let broker = AmqpBroker::connect(config(&rabbit)).await.unwrap();
    send(&broker, Destination::Requests, "a").await;
    let held = next(&broker).await;
    let waiting = next(&broker);
    // The broker closes the channel, and nothing but the channel.
    soon("the broker's patience to end", held.message.lost.cancelled()).await;
    assert_eq!(held.settle.ack().await, Err(Lost));
    let again = waiting.await;
    assert!(again.message.redelivered && again.message.epoch > held.message.epoch);
    again.settle.ack().await.unwrap();
    up(&broker).await;
}

#[tokio::test]
async fn amqps_trusts_the_given_authority_alone_and_shows_the_workers_certificate() {
    let folder = tempfile::tempdir().unwrap();
    testkit::certificates::make(folder.path());
    let file = |name: &str| folder.path().join(name);
    let rabbit = Rabbit::start_with(
        &format!(
            "listeners.ssl.local = 127.0.0.1:TLS_PORT\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true",
            file("server.ca").display(),
            file("server.crt").display(),
            file("server.key").display(),
        ),
        "",
    );
    let url = format!("amqps://guest:guest@localhost:{}/%2f", rabbit.tls_port());
    let good = AmqpConfig {
        url: SecretString::from(url),
        ca_file: Some(file("client.ca")),
        client_cert_file: Some(file("client.crt")),
        client_key_file: Some(file("client.key")),
        ..config(&rabbit)
    };
    let broker = AmqpBroker::connect(good.clone()).await.unwrap();
    up(&broker).await;
    send(&broker, Destination::Requests, "a").await;
    next(&broker).await.settle.ack().await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    testkit::certificates::make(elsewhere.path());
    let other_authority = AmqpConfig { ca_file: Some(elsewhere.path().join("client.ca")), ..good.clone() };
    let anonymous = AmqpConfig { client_cert_file: None, client_key_file: None, ..good.clone() };
    for refused in [other_authority, anonymous] {
        let broker = AmqpBroker::connect(refused).await.unwrap();
        let link = broker.link().borrow().clone();
        assert!(matches!(&link, Link::Down(why) if why != "not connected yet"), "{link:?}");
    }
    for (unusable, key) in [
        (AmqpConfig { ca_file: Some(file("client.key")), ..good.clone() }, "amqp.ca_file"),
        (AmqpConfig { client_key_file: Some(file("client.crt")), ..good.clone() }, "amqp.client_key_file"),
        (AmqpConfig { client_key_file: None, ..good }, "amqp.client_cert_file"),
    ] {
        let error = AmqpBroker::connect(unusable).await.err().expect("an error");
        assert!(error.is_permanent() && error.to_string().contains(key), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_definitions_that_are_deployed_give_each_user_what_it_needs_and_no_more() {
    let rabbit = Rabbit::shared();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rabbitmq/definitions.json");
    rabbit.ctl(&["import_definitions", file.to_str().unwrap()]);
    let url = |user: &str| {
        rabbit.ctl(&["change_password", user, "secret"]);
        rabbit.url().replace("guest:guest", &format!("{user}:secret"))
    };
    let settings = AmqpConfig { declare_topology: false, ..AmqpConfig::new(SecretString::from(url("erasure-worker"))) };
    let worker = AmqpBroker::connect(settings).await.unwrap();
    up(&worker).await;

    let publisher = Connection::connect(&url("erasure-publisher"), ConnectionProperties::default()).await.unwrap();
    assert!(publishes(&publisher, "erasure.requests", "job").await, "jobs");
    assert!(publishes(&publisher, "erasure.requests", "cancel").await, "cancellations");
    for exchange in ["erasure.resume", "erasure.events", "erasure.dead-letter", ""] {
        assert!(!publishes(&publisher, exchange, "job").await, "the publisher may write to {exchange:?}");
    }
    assert!(!reads(&publisher, "erasure.jobs").await, "the publisher may read jobs");

    next(&worker).await.settle.ack().await.unwrap();
    soon("the cancellation", worker.next_control(None)).await.unwrap();
    for to in [
        Destination::Requests,
        Destination::Resume,
        Destination::Wait(Tier::S5),
        Destination::DeadLetter,
        Destination::Event { routing_key: "job.completed.acme".to_owned() },
    ] {
        worker.publish(message(to.clone(), "{}")).await.unwrap_or_else(|error| panic!("{to:?}: {error}"));
    }
    assert_eq!(worker.dead_letters(10, &mut |_| Verdict::Remove).await, Ok(1));

    let subscriber = Connection::connect(&url("erasure-subscriber"), ConnectionProperties::default()).await.unwrap();
    let channel = subscriber.create_channel().await.unwrap();
    let own = lapin::types::ShortString::from("erasure-subscriber.crm");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(own.clone(), durable, FieldTable::default()).await.unwrap();
    let bind =
        channel.queue_bind(own, "erasure.events".into(), "job.#".into(), Default::default(), FieldTable::default());
    bind.await.unwrap();
    worker.publish(message(Destination::Event { routing_key: "job.failed.acme".to_owned() }, "{}")).await.unwrap();
    assert!(reads(&subscriber, "erasure-subscriber.crm").await, "its own queue");
    assert!(!reads(&subscriber, "erasure.events.unrouted").await, "the subscriber may read what is not its own");
    assert!(!publishes(&subscriber, "erasure.requests", "job").await, "the subscriber may order erasures");
    worker.close().await;
}

/// Whether the broker takes a message.
async fn publishes(connection: &Connection, exchange: &str, key: &str) -> bool {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let properties = lapin::BasicProperties::default();
    let published = channel.basic_publish(exchange.into(), key.into(), Default::default(), b"{}", properties).await;
    match published {
        Ok(confirm) => confirm.await.is_ok_and(|confirm| confirm.is_ack()),
        Err(_) => false,
    }
}

/// Whether the broker gives a message of the queue.
async fn reads(connection: &Connection, queue: &str) -> bool {
    let channel = connection.create_channel().await.unwrap();
    let got = channel.basic_get(queue.into(), lapin::options::BasicGetOptions { no_ack: true }).await;
    got.is_ok_and(|got| got.is_some())
}

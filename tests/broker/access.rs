//! Access to the broker: passwords, certificates, and the users that are deployed.

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, Destination, Link, Tier, Verdict};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;
use testkit::soon;

use crate::{config, message, next, send, up};

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
async fn the_deployed_definitions_give_each_user_only_the_needed_permissions() {
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
    assert!(!reads(&subscriber, "erasure.events.unrouted").await, "the subscriber may read another queue");
    assert!(!publishes(&subscriber, "erasure.requests", "job").await, "the subscriber may publish jobs");
    worker.close().await;
}

/// Whether the broker accepts a message.
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

/// Whether the broker delivers a message of the queue.
async fn reads(connection: &Connection, queue: &str) -> bool {
    let channel = connection.create_channel().await.unwrap();
    let got = channel.basic_get(queue.into(), lapin::options::BasicGetOptions { no_ack: true }).await;
    got.is_ok_and(|got| got.is_some())
}

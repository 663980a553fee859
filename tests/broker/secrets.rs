//! A password that is rotated while the worker runs.
//!
//! The rule it keeps: a secret in a file is read again at each login.

use std::fs;

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, Destination};
use testkit::rabbit::Rabbit;

use super::{config, next, send, up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_file_is_read_at_the_next_login() {
    let rabbit = Rabbit::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let written = |url: &str| fs::write(file.path(), format!("{url}\n")).unwrap();
    written(&rabbit.url());
    let config = AmqpConfig { url_file: Some(file.path().to_owned()), ..config(&rabbit) };
    let broker = AmqpBroker::connect(config).await.unwrap();
    up(&broker).await;
    tokio::task::block_in_place(|| {
        rabbit.ctl(&["change_password", "guest", "rotated"]);
        written(&rabbit.url().replace("guest:guest", "guest:rotated"));
        rabbit.ctl(&["close_all_connections", "rotated"]);
    });
    // The link may not have noticed its end yet, so publish until a confirm.
    let sent = async {
        while broker.publish(super::message(Destination::Requests, "job")).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    super::soon("a publish", sent).await;
    next(&broker).await.settle.ack().await.unwrap();
    // An unusable file does not end the attempts to connect.
    written("no URL");
    tokio::task::block_in_place(|| rabbit.ctl(&["close_all_connections", "again"]));
    up(&broker).await;
    written(&rabbit.url().replace("guest:guest", "guest:rotated"));
    up(&broker).await;
    send(&broker, Destination::Requests, "another").await;
    broker.close().await;
}

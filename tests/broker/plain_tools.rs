//! The commands of the README's first steps with a broker work on this release of RabbitMQ.
//!
//! The rule it keeps: the commands are read from the page, not copied here.

use std::process::Command;

use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::broker::{Broker as _, Destination, Properties, Publication};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;

use super::{soon, up};

/// The README's fenced block with this line, for a broker whose HTTP interface has this port.
fn block(line: &str, port: u16) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```").skip(1).step_by(2).collect();
    let block = blocks.iter().find(|block| block.contains(line)).unwrap_or_else(|| panic!("no block with {line}"));
    let here = block.lines().filter(|line| !line.starts_with("erasure-worker "));
    here.collect::<Vec<_>>().join("\n").replace("15672", &port.to_string())
}

fn sh(script: &str) -> String {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    let [said, wrong] = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(done.status.success(), "{script}\n{said}{wrong}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_first_commands_show_an_event() {
    let (rabbit, port) = tokio::task::block_in_place(Rabbit::start_managed);
    let settings = AmqpConfig::new(SecretString::from(rabbit.url()));
    AmqpBroker::declare_topology(&settings).await.unwrap();
    tokio::task::block_in_place(|| sh(&block("/bindings/", port)));
    let broker = AmqpBroker::connect(settings.publish_only()).await.unwrap();
    up(&broker).await;
    let event = Publication {
        to: Destination::Event { routing_key: "job.completed.default".to_owned() },
        properties: Properties::default(),
        body: br#"{"type":"erasure.job.completed.v1","data":{"final":true}}"#.to_vec().into(),
    };
    soon("the confirm", broker.publish(event)).await.unwrap();
    let shown = tokio::task::block_in_place(|| sh(&block("/get ", port)));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["type"], &shown["data"]["final"]), (&"erasure.job.completed.v1".into(), &true.into()));
    // The event was removed from the queue.
    assert_eq!(tokio::task::block_in_place(|| sh(&block("/get ", port))), "");
    broker.close().await;
}

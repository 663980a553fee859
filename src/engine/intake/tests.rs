//! The first job of a term, after decisions at other workers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::{Delivery, Destination, Lost, Message, Properties, Settle, Via};
use crate::engine::stage::Stage;

struct Settled;

#[async_trait]
impl Settle for Settled {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        Ok(())
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        Ok(())
    }
}

fn delivery(number: u128, epoch: u64, lost: &CancellationToken) -> Delivery {
    Delivery {
        message: Message {
            properties: Properties { message_id: Some(Uuid::from_u128(number).to_string()), ..Properties::default() },
            body: Bytes::from(Stage::body(number)),
            via: Via::Requests,
            redelivered: false,
            lost: lost.clone(),
            epoch,
        },
        settle: Box::new(Settled),
    }
}

fn cancellation(number: u128) -> Bytes {
    let body = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": Uuid::from_u128(number) });
    Bytes::from(body.to_string())
}

/// The keys of the events about a job, in order.
fn events(stage: &Stage, number: u128) -> Vec<String> {
    let id = Uuid::from_u128(number).to_string();
    let published = stage.post.published.lock().unwrap();
    let about = published.iter().filter(|publication| String::from_utf8_lossy(&publication.body).contains(&id));
    about
        .filter_map(|publication| match &publication.to {
            Destination::Event { routing_key } => Some(routing_key.clone()),
            _ => None,
        })
        .collect()
}

/// The beginning of a term.
#[derive(Debug, Clone, Copy)]
enum Begins {
    /// The other worker ended; this one had been a standby.
    Standby,
    /// The connection was lost, and this is the next one.
    NewChannel,
    /// Intake was stopped, and another worker got the jobs.
    AfterAStop,
}

#[tokio::test(start_paused = true)]
async fn the_first_job_of_a_term_waits_until_the_control_stream_was_read_to_its_end() {
    let quiet = || tokio::time::sleep(Duration::from_secs(5));
    for begins in [Begins::Standby, Begins::NewChannel, Begins::AfterAStop] {
        let stage = Stage::new();
        stage.post.begin_control();
        let engine = Arc::clone(&stage.engine);
        let running = tokio::spawn(async move { engine.run().await });
        quiet().await;
        let channel = CancellationToken::new();
        let mut epoch = 1;
        if !matches!(begins, Begins::Standby) {
            stage.post.decide(cancellation(9));
            stage.post.deliver.send(delivery(9, epoch, &channel)).unwrap();
            quiet().await;
            assert_eq!(events(&stage, 9).last().map(String::as_str), Some("job.cancelled.acme"), "{begins:?}");
        }
        match begins {
            Begins::Standby => {}
            Begins::NewChannel => {
                channel.cancel();
                epoch += 1;
            }
            Begins::AfterAStop => {
                stage.engine.terms.end();
            }
        }
        // Another worker cancelled the job; this one reads slowly.
        stage.post.let_read();
        stage.post.decide(cancellation(1));
        let channel = CancellationToken::new();
        stage.post.deliver.send(delivery(1, epoch, &channel)).unwrap();
        quiet().await;
        assert_eq!(events(&stage, 1), Vec::<String>::new(), "{begins:?}: the job was begun with");
        stage.post.let_read_on();
        quiet().await;
        assert_eq!(events(&stage, 1).last().map(String::as_str), Some("job.cancelled.acme"), "{begins:?}");
        stage.engine.drain();
        running.await.unwrap().unwrap();
    }
}

//! The queue of the demonstration's jobs and events: files for `batch`, or a RabbitMQ with separate names, which are
//! removed at the end.
//!
//! The rule it keeps: only events that a subscriber received are counted.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use serde_json::Value;

use crate::broker::amqp::{AmqpBroker, AmqpConfig, EventTap};
use crate::broker::{Broker as _, Destination, Link, Properties, Publication};

/// The queue.
pub(super) enum Queue {
    /// NDJSON in, NDJSON out.
    Files,
    /// A broker.
    Amqp { broker: Arc<AmqpBroker>, tap: tokio::task::JoinHandle<EventTap>, stop: tokio_util::sync::CancellationToken },
}

impl Queue {
    /// Connects, declares the names, and writes each received event to `events`.
    pub async fn amqp(url: &str, prefix: &str, events: PathBuf) -> Result<Queue> {
        let settings = AmqpConfig { prefix: prefix.to_owned(), ..AmqpConfig::new(SecretString::from(url)) };
        AmqpBroker::declare_topology(&settings).await.context("--amqp-url")?;
        let broker = AmqpBroker::connect(settings.clone().publish_only()).await?;
        broker.link().wait_for(|link| *link == Link::Up).await?;
        let mut tap = EventTap::open(&settings).await?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(events)?;
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let tap = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = tap.next() => event,
                    () = stopped.cancelled() => None,
                };
                let Some(event) = event else { return tap };
                let line = [&event[..], b"\n"].concat();
                if file.write_all(&line).is_err() {
                    return tap;
                }
            }
        });
        Ok(Queue::Amqp { broker, tap, stop })
    }

    /// Publishes jobs.
    pub async fn submit(&self, jobs: &[Value], file: &Path) -> Result<()> {
        match self {
            Queue::Files => {
                let lines: Vec<_> = jobs.iter().map(Value::to_string).collect();
                std::fs::write(file, lines.join("\n") + "\n")?;
            }
            Queue::Amqp { broker, .. } => {
                for job in jobs {
                    let properties = Properties {
                        content_type: Some("application/json".to_owned()),
                        message_id: job["job_id"].as_str().map(str::to_owned),
                        ..Properties::default()
                    };
                    let body = job.to_string().into_bytes().into();
                    broker.publish(Publication { to: Destination::Requests, properties, body }).await?;
                }
            }
        }
        Ok(())
    }

    /// The worker's command.
    pub const fn command(&self) -> &'static str {
        match self {
            Queue::Files => "batch",
            Queue::Amqp { .. } => "run",
        }
    }

    /// Removes the declared names.
    pub async fn close(self) -> Result<()> {
        if let Queue::Amqp { broker, tap, stop } = self {
            stop.cancel();
            tap.await?.remove_topology().await?;
            broker.close().await;
        }
        Ok(())
    }
}

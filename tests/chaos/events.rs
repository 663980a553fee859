//! What the publisher hears: every event of a prefix, kept by job.
//!
//! The rule it keeps: it survives the broker's end, as a careful consumer would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::{FieldTable, ShortString};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::rig::{connect, keep_events, soon};

/// Events by job id, as they came, repeats included.
#[derive(Debug, Clone, Default)]
pub struct Heard(pub BTreeMap<String, Vec<Value>>);

impl Heard {
    /// A job's events.
    pub fn of(&self, job_id: &str) -> &[Value] {
        self.0.get(job_id).map_or(&[], Vec::as_slice)
    }

    /// A job's final events by id: the outcome under each.
    pub fn finals(&self, job_id: &str) -> BTreeMap<String, String> {
        let finals = self.of(job_id).iter().filter(|event| event["data"]["final"] == true);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        finals.map(|event| (text(&event["id"]), text(&event["data"]["outcome"]))).collect()
    }

    /// The jobs that have ended.
    pub fn ended(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).filter(|id| !self.finals(id).is_empty()).collect()
    }
}

pub struct Events {
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Events {
    /// Binds a queue to the events and reads it from now on.
    pub async fn follow(url: &str, prefix: &str) -> Events {
        let connection = connect(url).await;
        keep_events(&connection.create_channel().await.unwrap(), prefix).await;
        let (told, heard) = watch::channel(Heard::default());
        let (url, prefix) = (url.to_owned(), prefix.to_owned());
        let task = tokio::spawn(async move {
            let mut connection = connection;
            loop {
                let _ = read(&connection, &prefix, &told).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                connection = connect(&url).await;
            }
        });
        Events { heard, task }
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// As [`Events::until`], for as long as it takes.
    pub async fn followed(&self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        heard.wait_for(enough).await.unwrap().clone()
    }

    /// Waits until what was heard satisfies `enough`.
    pub async fn until(&self, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        soon(what, async { heard.wait_for(enough).await.unwrap().clone() }).await
    }

    /// Waits for a final event of each of these jobs.
    pub async fn all_end<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Heard {
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut heard = self.heard.clone();
        let open = |heard: &Heard| {
            let ended = heard.ended();
            ids.iter().filter(|id| !ended.contains(**id)).count()
        };
        // No borrow of the events outlives the wait: reading them again beside it can lock up with the writer.
        let all = async { heard.wait_for(|heard| open(heard) == 0).await.unwrap().clone() };
        let Ok(all) = tokio::time::timeout(crate::rig::PATIENCE, all).await else {
            let heard = self.heard();
            let ended = heard.ended();
            let open: Vec<_> = ids.iter().filter(|id| !ended.contains(**id)).map(|id| (id, heard.of(id))).collect();
            panic!("{} of {} jobs have no final event: {open:#?}", open.len(), ids.len());
        };
        all
    }
}

async fn read(connection: &Connection, prefix: &str, told: &watch::Sender<Heard>) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let queue = ShortString::from(format!("{prefix}.kept"));
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue, ShortString::from(""), options, FieldTable::default()).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        let job = event["subject"].as_str().unwrap().to_owned();
        told.send_modify(|heard| heard.0.entry(job).or_default().push(event));
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

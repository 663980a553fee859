//! What the publisher hears: of every job its endings, by event id.
//!
//! The rule it keeps: it counts as events come, however many there are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Connection;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::{FieldTable, ShortString};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::rig::{connect, keep_events};

/// A final event.
#[derive(Debug, Clone)]
pub struct Final {
    pub outcome: String,
    /// Why targets failed.
    pub reasons: Vec<String>,
    pub at_ms: i64,
}

/// All that was heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// By job, the final events by their ids.
    pub finals: HashMap<String, BTreeMap<String, Final>>,
    /// All events, repeats included.
    pub events: u64,
    /// By event id, a digest of its bytes.
    bodies: HashMap<String, u64>,
    /// Jobs of which two events have one id and other bytes.
    pub reworded: Vec<String>,
    /// Jobs that were told something else than an ending, and what.
    pub others: Vec<(String, String)>,
}

impl Heard {
    fn note(&mut self, bytes: &[u8]) {
        let event: Value = serde_json::from_slice(bytes).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, job) = (text(&event["id"]), text(&event["subject"]));
        let mut digest = DefaultHasher::new();
        bytes.hash(&mut digest);
        self.events += 1;
        if self.bodies.insert(id.clone(), digest.finish()).is_some_and(|known| known != digest.finish()) {
            self.reworded.push(job.clone());
        }
        let data = &event["data"];
        if data["final"] != true {
            self.others.push((job, text(&event["type"])));
            return;
        }
        let targets = data["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let reasons = targets.iter().filter_map(|target| target["error"]["reason"].as_str().map(str::to_owned));
        let at_ms = text(&event["time"]).parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let told = Final { outcome: text(&data["outcome"]), reasons: reasons.collect(), at_ms };
        self.finals.entry(job).or_default().insert(id, told);
    }
}

pub struct Events {
    heard: Arc<Mutex<Heard>>,
    ended: watch::Receiver<usize>,
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
        let (told, ended) = watch::channel(0);
        let heard = Arc::<Mutex<Heard>>::default();
        let (url, prefix, noted) = (url.to_owned(), prefix.to_owned(), Arc::clone(&heard));
        let task = tokio::spawn(async move {
            let mut connection = connection;
            loop {
                let _ = read(&connection, &prefix, &noted, &told).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                connection = connect(&url).await;
            }
        });
        Events { heard, ended, task }
    }

    /// Runs `look` on what was heard so far.
    pub fn heard<R>(&self, look: impl FnOnce(&Heard) -> R) -> R {
        look(&self.heard.lock().unwrap())
    }

    /// How many jobs have ended, as it changes.
    pub fn ended(&self) -> watch::Receiver<usize> {
        self.ended.clone()
    }
}

async fn read(
    connection: &Connection,
    prefix: &str,
    heard: &Mutex<Heard>,
    told: &watch::Sender<usize>,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let queue = ShortString::from(format!("{prefix}.kept"));
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue, ShortString::from(""), options, FieldTable::default()).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let ended = {
            let mut heard = heard.lock().unwrap();
            heard.note(&delivery.data);
            heard.finals.len()
        };
        told.send_replace(ended);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

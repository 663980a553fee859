//! The events that the publisher receives: the final events of each job, by event id.
//!
//! The rule it keeps: events are counted on arrival, however many there are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use testkit::amqp;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A final event.
#[derive(Debug, Clone)]
pub struct Final {
    pub outcome: String,
    /// The reasons of failed targets.
    pub reasons: Vec<String>,
    pub at_ms: i64,
}

/// All received events.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// The final events by job and event id.
    pub finals: HashMap<String, BTreeMap<String, Final>>,
    /// All events, repeats included.
    pub events: u64,
    /// A digest of the bytes, by event id.
    bodies: HashMap<String, u64>,
    /// Jobs with two events of one id and different bytes.
    pub reworded: Vec<String>,
    /// Jobs with events that are not final, and the event's type.
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
        let event = Final { outcome: text(&data["outcome"]), reasons: reasons.collect(), at_ms };
        self.finals.entry(job).or_default().insert(id, event);
    }
}

pub struct Events {
    heard: Arc<Mutex<Heard>>,
    ended: watch::Receiver<usize>,
    _task: AbortOnDropHandle<()>,
}

impl Events {
    /// Binds a queue to the events and reads it.
    pub async fn follow(url: String, prefix: String) -> Events {
        let (count, ended) = watch::channel(0);
        let heard = Arc::<Mutex<Heard>>::default();
        let noted = Arc::clone(&heard);
        let task = amqp::follow(url, prefix, move |bytes| {
            let mut heard = noted.lock().unwrap();
            heard.note(bytes);
            count.send_replace(heard.finals.len());
        });
        Events { heard, ended, _task: task.await }
    }

    /// Runs `look` on the events so far.
    pub fn heard<R>(&self, look: impl FnOnce(&Heard) -> R) -> R {
        look(&self.heard.lock().unwrap())
    }

    /// The changing number of ended jobs.
    pub fn ended(&self) -> watch::Receiver<usize> {
        self.ended.clone()
    }
}

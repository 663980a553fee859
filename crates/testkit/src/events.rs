//! The publisher's view: every event of a prefix, by job.
//!
//! The rule it keeps: no event is lost when the broker restarts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{PATIENCE, amqp, soon};

/// Events by job id in order of arrival, repeats included; and the ended jobs.
#[derive(Debug, Clone, Default)]
pub struct Heard(pub BTreeMap<String, Vec<Value>>, BTreeSet<String>);

impl Heard {
    /// A job's events.
    pub fn of(&self, job_id: &str) -> &[Value] {
        self.0.get(job_id).map_or(&[], Vec::as_slice)
    }

    /// The outcomes in a job's final events, by event id.
    pub fn finals(&self, job_id: &str) -> BTreeMap<String, String> {
        let finals = self.of(job_id).iter().filter(|event| event["data"]["final"] == true);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        finals.map(|event| (text(&event["id"]), text(&event["data"]["outcome"]))).collect()
    }

    /// The jobs that have ended.
    pub fn ended(&self) -> &BTreeSet<String> {
        &self.1
    }

    fn note(&mut self, event: Value) {
        let job = event["subject"].as_str().unwrap().to_owned();
        if event["data"]["final"] == true {
            self.1.insert(job.clone());
        }
        self.0.entry(job).or_default().push(event);
    }

    /// The jobs among `ids` that have not ended.
    fn open<'a>(&self, ids: &[&'a str]) -> Vec<&'a str> {
        ids.iter().copied().filter(|id| !self.1.contains(*id)).collect()
    }
}

pub struct Events {
    heard: watch::Receiver<Heard>,
    _task: AbortOnDropHandle<()>,
}

impl Events {
    /// Binds a queue to the events and begins to read it.
    pub async fn follow(url: String, prefix: String) -> Events {
        let (shared, heard) = watch::channel(Heard::default());
        let task = amqp::follow(url, prefix, move |bytes| {
            let event = serde_json::from_slice(bytes).unwrap();
            shared.send_modify(|heard| heard.note(event));
        });
        Events { heard, _task: task.await }
    }

    /// The events so far.
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// As [`Events::until`], without a time limit.
    pub async fn followed(&self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        heard.wait_for(enough).await.unwrap().clone()
    }

    /// Waits until the events satisfy `enough`.
    pub async fn until(&self, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        soon(what, async { heard.wait_for(enough).await.unwrap().clone() }).await
    }

    /// Waits for a final event of each of these jobs.
    pub async fn all_end<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Heard {
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut heard = self.heard.clone();
        // No borrow of the events is held after the wait: a second read beside it can deadlock with the writer.
        let all = async { heard.wait_for(|heard| heard.open(&ids).is_empty()).await.unwrap().clone() };
        let Ok(all) = tokio::time::timeout(PATIENCE, all).await else {
            let heard = self.heard();
            let open: Vec<_> = heard.open(&ids).into_iter().map(|id| (id, heard.of(id))).collect();
            panic!("{} of {} jobs have no final event: {open:#?}", open.len(), ids.len());
        };
        all
    }
}

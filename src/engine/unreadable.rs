//! Messages sent as cancellations that cannot be read: stored, and reported like a message that is no job.
//!
//! The rule it keeps: such a message is stored in the write that moves the place in the stream. It stays there until
//! its dead letter is confirmed, or until the stream reports another worker's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decisions::What;
use super::envelope::{self, DeadLetterHead};
use super::interrupted::Interrupted;
use super::{Engine, retention, rows};
use crate::broker::place::print;
use crate::broker::{Control, Cut, HeaderValue, Mended, Properties};
use crate::job::event::{self, Frame};
use crate::job::parse::Refusal;
use crate::job::{At, Carried, JobKey, Reason};
use crate::seal::SealError;
use crate::store::{Batch, Table};

/// Messages whose dead letter is not confirmed yet, by their digest.
const KEPT: &[u8] = rows::UNREADABLE.prefix;
const PURPOSE: &str = "unreadable-cancellation";
/// A cancellation is short; of a longer message only the beginning is kept.
const LONGEST: usize = 64 * 1024;
const BEGINNING: usize = 2048;
/// As long as the control stream keeps it.
const STREAM: Duration = Duration::from_secs(91 * 86_400);
/// The active worker publishes the dead letter. If none has done so after this time, no worker gets deliveries, and
/// any worker may do it; not all at once.
const NOBODYS_AFTER: Duration = Duration::from_secs(30);
const SPREAD: Duration = Duration::from_secs(60);
/// The pause between looks while the active worker should do it.
const LOOK: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);

/// The message, sealed in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    since: i64,
    /// The time from which this worker may publish it even if it is not active.
    nobodys_from: i64,
    /// The job that should have been cancelled, if the message names one.
    job: Option<(String, Uuid)>,
    is_unauthorised: bool,
    detail: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    kind: Option<String>,
    app_id: Option<String>,
    timestamp: Option<u64>,
    headers: BTreeMap<String, Value>,
    cut: Option<(u64, String)>,
    body: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
}

impl Kept {
    fn new(control: &Control, refusal: Refusal, now: At, nobodys_from: At) -> Kept {
        let properties = control.properties.clone();
        let cut = properties.mended.and_then(|mended| mended.cut);
        let (body, cut) = match cut {
            None if control.body.len() > LONGEST => {
                let (bytes, sha256) = (control.body.len() as u64, envelope::body_sha256(&control.body));
                (&control.body[..BEGINNING], Some((bytes, sha256)))
            }
            cut => (&control.body[..], cut.map(|cut| (cut.bytes, cut.sha256))),
        };
        let value = |value: HeaderValue| match value {
            HeaderValue::Text(text) => Value::Text(text),
            HeaderValue::Int(number) => Value::Int(number),
            HeaderValue::Bool(flag) => Value::Bool(flag),
        };
        Kept {
            since: now.0,
            nobodys_from: nobodys_from.0,
            job: refusal.key.map(|key| (key.tenant, key.job_id)),
            is_unauthorised: refusal.reason == Reason::Unauthorised,
            detail: refusal.invalid.to_string(),
            message_id: properties.message_id,
            correlation_id: properties.correlation_id,
            content_type: properties.content_type,
            kind: properties.kind,
            app_id: properties.app_id,
            timestamp: properties.timestamp,
            headers: properties.headers.into_iter().map(|(name, it)| (name, value(it))).collect(),
            cut,
            body: hex::encode(body),
        }
    }

    fn properties(&self) -> Properties {
        let value = |value: &Value| match value {
            Value::Text(text) => HeaderValue::Text(text.clone()),
            Value::Int(number) => HeaderValue::Int(*number),
            Value::Bool(flag) => HeaderValue::Bool(*flag),
        };
        let cut = self.cut.clone().map(|(bytes, sha256)| Cut { bytes, sha256 });
        Properties {
            content_type: self.content_type.clone(),
            message_id: self.message_id.clone(),
            correlation_id: self.correlation_id.clone(),
            kind: self.kind.clone(),
            app_id: self.app_id.clone(),
            timestamp: self.timestamp,
            headers: self.headers.iter().map(|(name, it)| (name.clone(), value(it))).collect(),
            mended: cut.map(|cut| Mended { fault: None, cut: Some(cut) }),
            ..Properties::default()
        }
    }
}

fn row(print: &str) -> Vec<u8> {
    [KEPT, print.as_bytes()].concat()
}

impl Engine {
    /// Stores a message that cannot be read as a cancellation, in the batch that moves the place in the stream.
    pub(crate) fn keep_unreadable(
        &self,
        control: &Control,
        refusal: Refusal,
        batch: &mut Batch,
    ) -> Result<(), SealError> {
        let row = row(&hex::encode(print(control)));
        let (now, spread) = (self.now(), SPREAD.mul_f64((self.chance)()));
        let kept = Kept::new(control, refusal, now, now.plus(NOBODYS_AFTER + spread));
        let sealed = self.keyring.seal_for_master(PURPOSE, &row, &serde_json::to_vec(&kept).unwrap_or_default())?;
        retention::expire_fact(batch, self.now().plus(STREAM), &row);
        batch.put(Table::Meta, row, sealed);
        Ok(())
    }

    /// Removes the row: another worker has published the dead letter.
    pub(crate) fn is_set_aside(&self, print: &str, batch: &mut Batch) {
        batch.remove(Table::Meta, row(print));
    }

    /// Publishes the dead letters of stored messages. The stream was read to its end before: another worker may have
    /// published them.
    pub(crate) async fn unreadable_loop(self: Arc<Self>) {
        if !self.broker.has_control() {
            return;
        }
        loop {
            let left = match self.dead_letter_unreadable().await {
                Ok(left) => left,
                Err(Interrupted::Lost) => return,
                Err(error) => {
                    self.store_trouble(&error).await;
                    1
                }
            };
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                () = tokio::time::sleep(if left > 0 { LOOK } else { IDLE }) => {}
                () = self.unreadable.notified() => {}
            }
        }
    }

    /// Returns the number of messages left for another worker.
    async fn dead_letter_unreadable(&self) -> Result<usize, Interrupted> {
        let mut left = 0;
        for (row, sealed) in self.store.scan(Table::Meta, KEPT, None, usize::MAX)? {
            let opened = self.keyring.open_for_master(PURPOSE, &row, &sealed);
            let Some(kept) = opened.ok().and_then(|plain| serde_json::from_slice::<Kept>(&plain).ok()) else {
                tracing::error!("a stored unreadable cancellation cannot be opened; its message stays in the stream");
                continue;
            };
            if self.terms.current() == 0 && self.now() < At(kept.nobodys_from) {
                left += 1;
                continue;
            }
            self.dead_letter_kept(&row, &kept).await?;
        }
        Ok(left)
    }

    async fn dead_letter_kept(&self, row: &[u8], kept: &Kept) -> Result<(), Interrupted> {
        let body = hex::decode(&kept.body).unwrap_or_default();
        let properties = kept.properties();
        let key = kept.job.clone().map(|(tenant, job_id)| JobKey { tenant, job_id });
        let reason = if kept.is_unauthorised { Reason::Unauthorised } else { Reason::Invalid };
        if let Some(key) = &key {
            let now = envelope::own_time(&properties).unwrap_or(At(kept.since));
            let frame = Frame { environment: &self.accepts.environment, traceparent: None, now };
            let sha256 = envelope::whole_sha256(&properties, &body);
            // Never final: the job's own events report its end.
            let last = event::rejected(&frame, key, reason, &kept.detail, &sha256, false);
            self.publish_event(&last.event, key, &properties, &self.draining).await?;
        }
        let note = envelope::note(reason);
        let (carried, detail) = (Carried::default(), Some(kept.detail.as_str()));
        let head = DeadLetterHead {
            key: key.as_ref(),
            run: 0,
            park: 0,
            carried: &carried,
            at: self.now(),
            note: &note,
            detail,
        };
        self.dead_letter(&properties, &head, &body, &self.draining).await?;
        self.figures.count(&self.figures.cancels_unreadable);
        let print = String::from_utf8_lossy(&row[KEPT.len()..]).into_owned();
        let mut batch = Batch::new();
        batch.remove(Table::Meta, row);
        self.keep_done(&self.decided("", "", What::SetAside { print }), &mut batch);
        self.store.submit(batch).await?;
        self.decisions_more();
        tracing::error!(detail = %kept.detail, "an unreadable cancellation is now among the dead letters");
        Ok(())
    }
}

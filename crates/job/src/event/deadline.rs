//! The events about a due time: `at_risk` and `overdue`.
//!
//! The rule it keeps: they end nothing and promise nothing; the job continues.

use serde_json::{Map, Value, json};

use super::{Frame, changed, envelope, numbered};
use crate::due::Deadline;
use crate::journal::At;
use crate::model::JobKey;
use crate::record::{Event, JobRecord};
use crate::state::TargetState;

/// The event about an open job near or after its due time. The record's `seq` is already the event's own number.
pub fn deadline(
    frame: &Frame<'_>,
    key: &JobKey,
    record: &JobRecord,
    targets: &[TargetState],
    deadline: Deadline,
) -> Event {
    let what = deadline.as_str();
    let data = open_job(key, record, targets, what, ("cause", json!("due_at")));
    envelope(frame, key, what, &numbered(key, record.run, record.seq), Value::Object(data)).event
}

/// The data of an open job that is not in hand, with one more field.
pub(super) fn open_job(
    key: &JobKey,
    record: &JobRecord,
    targets: &[TargetState],
    what: &str,
    more: (&str, Value),
) -> Map<String, Value> {
    [
        ("job_id", json!(key.job_id.to_string())),
        ("tenant", json!(key.tenant)),
        ("run", json!(record.run)),
        ("seq", json!(record.seq)),
        ("final", json!(false)),
        ("outcome", json!(what)),
        more,
        ("partial", json!(!record.lasting.changed.is_empty() || targets.iter().any(changed))),
        ("subject_ref", json!(record.subject_ref)),
        ("regulation", json!(record.regulation)),
        ("requested_at", json!(record.requested_at.to_rfc3339())),
        ("due_at", json!(record.due_at.map(At::to_rfc3339))),
        ("finished_at", Value::Null),
        ("waiting", json!(record.waiting.map(|(why, _)| why.as_str()))),
        ("targets", json!([])),
        ("inputs", json!([])),
        ("follow_up", json!([])),
        ("receipt", Value::Null),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

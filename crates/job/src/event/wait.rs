//! The event about a long wait: `waiting`.
//!
//! The rule it keeps: it ends nothing and promises nothing. The job continues by itself, or after the action that the
//! event names.

use serde_json::{Value, json};

use super::deadline::open_job;
use super::{Frame, envelope, numbered};
use crate::flow::Limits;
use crate::journal::At;
use crate::model::JobKey;
use crate::outcome::Reason;
use crate::record::{Event, JobRecord};
use crate::state::TargetState;
use crate::step::StepName;
use crate::wait::gives_up;

/// The word of these events.
pub const WAITING: &str = "waiting";

/// A parked job's wait, for operators and subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The reason.
    pub reason: &'static str,
    /// The time since which nothing has changed; unknown if an earlier release parked the job.
    pub since: Option<At>,
    /// The time of the next check.
    pub next_at: At,
    /// The end of the wait.
    pub then: &'static str,
    /// The time at which a target fails if nothing changes, and the reason of that failure.
    pub gives_up: Option<(At, Reason)>,
    /// The waiting target, if it is one.
    pub target: Option<u16>,
    /// Its system.
    pub system: Option<String>,
    /// The step that was begun last there.
    pub step: Option<StepName>,
}

impl Wait {
    /// A parked job's wait; `None` if the job is not parked.
    pub fn of(record: &JobRecord, targets: &[TargetState], limits: &Limits) -> Option<Wait> {
        let (why, next_at) = record.waiting?;
        let index = record.waits_at.map(usize::from);
        Some(Wait {
            reason: why.as_str(),
            since: record.stands.shown(),
            next_at,
            then: why.then(),
            gives_up: gives_up(why, &record.announced, targets, limits),
            target: record.waits_at,
            system: index.and_then(|index| record.systems.get(index)).cloned(),
            step: index.and_then(|index| targets.get(index)).and_then(TargetState::latest_step),
        })
    }
}

/// The event about a job that has waited long. The record's `seq` is already the event's own number.
pub fn waiting(frame: &Frame<'_>, key: &JobKey, record: &JobRecord, targets: &[TargetState], wait: &Wait) -> Event {
    let wait = json!({
        "since": wait.since.map(At::to_rfc3339), "next_at": wait.next_at.to_rfc3339(), "then": wait.then,
        "gives_up_at": wait.gives_up.map(|(at, _)| at.to_rfc3339()),
        "gives_up_as": wait.gives_up.map(|(_, reason)| reason.as_str()),
        "target": wait.target, "system": wait.system, "step": wait.step.map(StepName::as_str),
    });
    let data = open_job(key, record, targets, WAITING, ("wait", wait));
    envelope(frame, key, WAITING, &numbered(key, record.run, record.seq), Value::Object(data)).event
}

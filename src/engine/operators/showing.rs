//! One job for operators: its targets, steps, waits and timeline.
//!
//! The rule it keeps: of a sealed answer only its arrival is shown; of a final event only named fields.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::dead_letters::Discarded;
use super::listing::{JobSummary, WaitView};
use crate::engine::Engine;
use crate::engine::journal::{JournalError, ended_of, entries_of, folded, record_of};
use crate::job::{Answer, At, Ended, Entry, JobKey, JobRecord, Reason, Step, StepName, StepState, TargetState, event};

/// The latest entries shown; earlier ones are only counted.
const SHOWN: usize = 500;
/// The fields of a final event's target that are shown.
const TARGET_FIELDS: [&str; 7] = ["target", "system", "kind", "outcome", "identity", "steps", "error"];

/// A job in full, without personal data.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// The number of its events.
    pub events: u32,
    /// The time at which it continues or tries again; `None` if that depends on others.
    pub next_at: Option<String>,
    /// True if a cancellation is stored.
    pub cancel_requested: bool,
    /// Each target: `target`, `system`, `kind`, `outcome` (null while open), `error`, `steps`.
    pub targets: Vec<Value>,
    /// The inputs that persons were asked for at the last park, for open targets: `target`, `kind`, `asked_at`.
    pub inputs: Vec<Value>,
    /// The latest failed attempt or, for a failed job, the cause of the failure.
    pub last_error: Option<Value>,
    /// The operator who discarded the job, with the reason.
    pub discarded: Option<Discarded>,
    /// The journal's entries, oldest first; the latest 500.
    pub timeline: Vec<Value>,
    /// The number of earlier entries.
    pub timeline_left_out: usize,
}

impl Engine {
    /// One job; `None` if this store does not know it.
    ///
    /// # Errors
    /// The store fails, or a record cannot be decoded.
    pub fn job(&self, key: &JobKey) -> Result<Option<JobView>, JournalError> {
        let store = &*self.store;
        let (record, ended) = (record_of(store, key)?, ended_of(store, key)?);
        if record.is_none() && ended.is_none() {
            return Ok(None);
        }
        let in_hand = self.job_locks.holds(key);
        let mut summary = JobSummary::new(key, record.as_ref(), ended.as_ref(), in_hand);
        let states = folded(store, key, summary.systems.len())?;
        if summary.waiting.is_some() {
            let wait = record.as_ref().and_then(|record| event::Wait::of(record, &states, &self.settings.limits));
            summary.waiting = wait.map(WaitView::from);
        }
        let entries: Vec<Entry> = entries_of(store, key)?.into_iter().flat_map(|(_, row)| row.entries).collect();
        let left_out = entries.len().saturating_sub(SHOWN);
        Ok(Some(JobView {
            events: ended.as_ref().map(|ended| ended.seq).or(record.as_ref().map(|record| record.seq)).unwrap_or(0),
            next_at: ended.is_none().then(|| next_at(record.as_ref(), &states, in_hand, self.now())).flatten(),
            cancel_requested: ended.is_none() && self.is_cancelled(key)?,
            targets: match &ended {
                Some(ended) => ended_targets(ended),
                None => {
                    states.iter().enumerate().map(|(index, state)| self.open_target(index, state, &summary)).collect()
                }
            },
            inputs: if ended.is_none() { inputs(record.as_ref(), &states) } else { Vec::new() },
            last_error: ended.as_ref().and_then(ended_error).or_else(|| last_error(&states)),
            discarded: self.discarded(key)?,
            timeline: entries.iter().skip(left_out).map(shown).collect(),
            timeline_left_out: left_out,
            summary,
        }))
    }

    fn open_target(&self, index: usize, state: &TargetState, summary: &JobSummary) -> Value {
        let system = summary.systems.get(index).map_or("", String::as_str);
        let kind = self.gates.get(system).map(|gate| gate.system().kind().as_str());
        let error = state.end.as_ref().and_then(|end| end.reason.map(|reason| error(reason, end.step)));
        let steps: Vec<Value> = state.names().map(|name| step(name, state.all(name))).collect();
        json!({
            "target": index, "system": system, "kind": kind,
            "outcome": state.end.as_ref().map(|end| end.outcome.as_str()),
            "steps": steps, "error": error,
        })
    }
}

fn time(at: At) -> Option<String> {
    (at != At::default()).then(|| at.to_rfc3339())
}

fn error(reason: Reason, step: Option<StepName>) -> Value {
    json!({
        "code": reason.code(), "reason": reason.as_str(), "sentence": reason.sentence(),
        "step": step.map(StepName::as_str), "retry": reason.retry().as_str(),
        "runbook": reason.runbook(),
    })
}

/// All items of one kind of step; the item with the least progress gives the outcome.
fn step(name: StepName, items: &[StepState]) -> Value {
    let done = items.iter().filter(|item| item.is_done() || item.answers > 0).count();
    let outcome = items.iter().find(|item| !item.is_done()).or(items.last());
    let outcome = outcome.filter(|_| name.needs_intent()).map(|item| event::step_outcome(name, item).as_str());
    let at = items.iter().map(|item| item.answered_at.max(item.last_failed_at).max(item.intent_at)).max();
    let failed = items.iter().filter(|item| item.failure.is_some()).max_by_key(|item| item.last_failed_at);
    json!({
        "step": name.as_str(), "items": items.len(), "count": done, "outcome": outcome, "at": at.and_then(time),
        "failed_attempts": items.iter().map(|item| item.attempts).sum::<u32>(),
        "not_before": items.iter().map(|item| item.not_before).max().and_then(time),
        "failure": failed.and_then(|item| item.failure).map(|(kind, reason)| json!({
            "kind": kind.as_str(), "reason": reason.as_str(), "code": reason.code(),
        })),
    })
}

fn next_at(record: Option<&JobRecord>, states: &[TargetState], in_hand: bool, now: At) -> Option<String> {
    let parked = record.and_then(|record| record.waiting).filter(|_| !in_hand).map(|(_, until)| until);
    let paused = || {
        let open = states.iter().filter(|state| state.end.is_none());
        let steps = open.flat_map(|state| state.names().flat_map(|name| state.all(name)));
        steps.filter(|step| step.failure.is_some() && step.not_before > now).map(|step| step.not_before).min()
    };
    parked.or_else(paused).map(At::to_rfc3339)
}

fn inputs(record: Option<&JobRecord>, states: &[TargetState]) -> Vec<Value> {
    let announced = record.map_or(&[][..], |record| record.announced.as_slice());
    let asked = |(target, kind): &(u16, crate::job::InputKind)| {
        let at = states.get(usize::from(*target)).and_then(|state| state.asked.get(kind)).copied();
        json!({ "target": target, "kind": kind.as_str(), "asked_at": at.and_then(time) })
    };
    let is_open = |(target, _): &&(u16, crate::job::InputKind)| {
        states.get(usize::from(*target)).is_some_and(|state| state.end.is_none())
    };
    announced.iter().filter(is_open).map(asked).collect()
}

fn ended_error(ended: &Ended) -> Option<Value> {
    let note = ended.dead_letter.as_ref()?;
    let mut error = error(note.reason, note.step);
    if let Some(object) = error.as_object_mut() {
        object.insert("system".into(), note.system.clone().into());
        object.insert("failed_attempts".into(), note.attempts.into());
        object.insert("at".into(), ended.at.to_rfc3339().into());
    }
    Some(error)
}

fn last_error(states: &[TargetState]) -> Option<Value> {
    let failures = states.iter().enumerate().flat_map(|(target, state)| {
        state.names().flat_map(move |name| {
            state.all(name).iter().filter_map(move |item| {
                item.failure.map(|(kind, reason)| (item.last_failed_at, target, name, kind, reason, item.attempts))
            })
        })
    });
    failures.max_by_key(|(at, ..)| *at).map(|(at, target, name, kind, reason, attempts)| {
        let mut error = error(reason, Some(name));
        if let Some(object) = error.as_object_mut() {
            object.insert("target".into(), target.into());
            object.insert("kind".into(), kind.as_str().into());
            object.insert("failed_attempts".into(), attempts.into());
            object.insert("at".into(), at.to_rfc3339().into());
        }
        error
    })
}

/// The targets, as in the final event.
fn ended_targets(ended: &Ended) -> Vec<Value> {
    let event: Value = serde_json::from_slice(&ended.event.body).unwrap_or_default();
    let targets = event.pointer("/data/targets").and_then(Value::as_array).cloned().unwrap_or_default();
    let repeated = |target: Value| {
        let named = TARGET_FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), target.get(*name)?.clone())));
        Value::Object(named.collect::<Map<_, _>>())
    };
    targets.into_iter().map(repeated).collect()
}

/// One entry of the journal, in words.
fn shown(entry: &Entry) -> Value {
    let mut line: BTreeMap<&str, Value> = BTreeMap::new();
    let (what, at) = match entry {
        Entry::Intent { step, at, .. } => (put_step(&mut line, "intent", *step), at),
        Entry::Answered { step, answer, at, .. } => {
            line.insert("answer", answer.as_ref().map_or("sealed", word).into());
            (put_step(&mut line, "answered", *step), at)
        }
        Entry::Failed { step, kind, reason, at, not_before, .. } => {
            line.insert("kind", kind.as_str().into());
            line.insert("reason", reason.as_str().into());
            line.insert("code", reason.code().into());
            line.insert("not_before", time(*not_before).into());
            (put_step(&mut line, "failed", *step), at)
        }
        Entry::Settled { step, done, at, .. } => {
            line.insert("done", (*done).into());
            (put_step(&mut line, "settled", *step), at)
        }
        Entry::Excused { step, works, at, not_before, .. } => {
            line.insert("system_works", (*works).into());
            line.insert("not_before", time(*not_before).into());
            (put_step(&mut line, "excused", *step), at)
        }
        Entry::Asked { kind, at, .. } => {
            line.insert("input", kind.as_str().into());
            ("asked", at)
        }
        Entry::Continued { at } => ("continued", at),
        Entry::OfferedAgain { at } => ("offered_again", at),
        Entry::Ended { end, at, .. } => {
            line.insert("outcome", end.outcome.as_str().into());
            line.insert("reason", end.reason.map(Reason::as_str).into());
            ("ended", at)
        }
        Entry::NewRun { at } => ("new_run", at),
        Entry::ApprovalNeeded { by, at } => (put_by(&mut line, "approval_needed", by), at),
        Entry::Approved { by, at } => (put_by(&mut line, "approved", by), at),
        Entry::Rejected { by, at } => (put_by(&mut line, "rejected", by), at),
        Entry::LetThrough { at, .. } => ("let_through", at),
    };
    line.insert("what", what.into());
    line.insert("at", at.to_rfc3339().into());
    line.insert("target", entry.target().into());
    json!(line)
}

fn put_by(line: &mut BTreeMap<&str, Value>, what: &'static str, by: &str) -> &'static str {
    line.insert("by", by.into());
    what
}

fn put_step(line: &mut BTreeMap<&str, Value>, what: &'static str, step: Step) -> &'static str {
    line.insert("step", step.name.as_str().into());
    line.insert("item", step.item.into());
    what
}

/// The form of an answer, without its content.
const fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done => "done",
        Answer::AlreadyDone => "already_done",
        Answer::Unclear(_) => "unclear",
        Answer::Found(_) => "found",
        Answer::Missing(_) => "missing",
        Answer::Entitlements(_) => "entitlements",
        Answer::User { .. } => "user",
        Answer::Code { .. } => "code",
        Answer::Licenses { .. } => "licenses",
        Answer::Row(_) => "row",
        Answer::Values { .. } | Answer::Left { .. } => "values",
        Answer::Connector(_) => "reading",
    }
}

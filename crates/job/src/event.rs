//! The events of a job: CloudEvents 1.0, built once and then only repeated.
//!
//! The rule it keeps: no identifier, code, token or text of a system. Every value is a count, a word of a closed
//! list, a time, or a keyed pseudonym.

mod approval;
mod connector;
mod deadline;
mod id;
mod wait;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::flow::{Ask, Rules};
use super::journal::At;
use super::kinds::{Code, Kind, Spec};
use super::model::{Job, JobKey, Mode};
use super::outcome::{JobOutcome, Reason, StepOutcome, TargetEnd, TargetOutcome};
use super::reading::Means;
use super::record::{Event, JobRecord};
use super::state::{Intent, StepState, TargetState};
use super::step::{Answer, CodeState, FailureKind, Identity, RowState, Step, StepName};

pub use super::due::Deadline;
pub use deadline::deadline;
pub use wait::{WAITING, Wait, waiting};

const SCHEMA: &str = "https://erasure-worker.example.com/schema/event/v1";
const DAYS_FOR_REFUND: i64 = 14;
const PERCENT_FOR_REFUND: f64 = 20.0;

/// The values that an event needs besides the job.
pub struct Frame<'a> {
    /// The worker's environment.
    pub environment: &'a str,
    /// The publisher's `traceparent`, if it sent one.
    pub traceparent: Option<&'a str>,
    /// The time at which the event is written.
    pub now: At,
}

/// The subject of a job's event: its id is made from it.
fn numbered(key: &JobKey, run: u32, seq: u32) -> String {
    format!("{}/{}/{run}/{seq}", key.tenant, key.job_id)
}

/// The routing key of an event.
pub fn routing_key(what: &str, tenant: &str) -> String {
    format!("job.{what}.{tenant}")
}

/// A run's last event, which gets a receipt.
pub struct Final {
    /// The event without a receipt: `receipt` is null, and the last field.
    pub event: Event,
    /// Its data.
    pub data: Map<String, Value>,
}

/// The end of a [`Final`]'s body.
const WITHOUT_RECEIPT: &[u8] = br#""receipt":null}}"#;

/// The event of a [`Final`] with a receipt and a new id; `None` for any other event.
pub fn with_receipt(event: &Event, receipt: &str) -> Option<Event> {
    let before = event.body.strip_suffix(WITHOUT_RECEIPT)?;
    // A receipt's characters need no escapes in JSON.
    let mut body = [before, br#""receipt":""#, receipt.as_bytes(), br#""}}"#].concat();
    let id = id::renew(Uuid::try_parse(&event.id).ok()?, &mut body, receipt);
    Some(Event { id: id.to_string(), body, ..event.clone() })
}

fn envelope(frame: &Frame<'_>, key: &JobKey, what: &str, about: &str, data: Value) -> Final {
    let mut event = Map::new();
    let mut insert = |name: &str, value: Value| drop(event.insert(name.into(), value));
    insert("specversion", "1.0".into());
    insert("type", format!("erasure.job.{what}.v1").into());
    insert("source", format!("/erasure-worker/{}/{}", frame.environment, key.tenant).into());
    insert("id", id::NONE.to_string().into());
    insert("time", frame.now.to_rfc3339().into());
    insert("subject", key.job_id.to_string().into());
    insert("datacontenttype", "application/json".into());
    insert("dataschema", SCHEMA.into());
    if let Some(traceparent) = frame.traceparent {
        insert("traceparent", traceparent.into());
    }
    insert("data", data);
    let mut event = Value::Object(event);
    let mut body = event.to_string().into_bytes();
    let id = id::give(about, &mut body);
    let data = event.get_mut("data").and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default();
    Final { event: Event { id: id.to_string(), what: what.to_owned(), body, at: frame.now }, data }
}

/// An event about a job's state: final (`completed`, `failed`, `cancelled`, `previewed`) or not.
pub struct About<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its record; `seq` is already the event's own number.
    pub record: &'a JobRecord,
    /// Its targets.
    pub targets: &'a [TargetState],
    /// The rules of each target's system.
    pub rules: &'a [&'a Rules],
}

impl About<'_> {
    /// The final event of a run.
    pub fn ended(&self, frame: &Frame<'_>, outcome: JobOutcome) -> Final {
        let mut data = self.data(frame, outcome.as_str(), true);
        let partial = outcome != JobOutcome::Completed && self.is_changed();
        data.insert("partial".into(), partial.into());
        self.publish(frame, outcome.as_str(), data)
    }

    /// The event that asks a person for inputs.
    pub fn needs_input(&self, frame: &Frame<'_>, asks: &[(u16, Ask)]) -> Event {
        let mut data = self.data(frame, "needs_input", false);
        data.insert("partial".into(), self.is_changed().into());
        data.insert("inputs".into(), asks.iter().map(|(target, ask)| input(*target, ask)).collect());
        self.publish(frame, "needs_input", data).event
    }

    /// The event about a job above its ceiling, which waits for an operator.
    pub fn held_by_guard<'s>(&self, frame: &Frame<'_>, scopes: impl Iterator<Item = (&'s str, &'s str)>) -> Event {
        let mut data = self.data(frame, "held_by_guard", false);
        // Nothing was read yet, so no target is described.
        data.insert("targets".into(), Value::Array(Vec::new()));
        let scopes = scopes.map(|(kind, name)| json!({ "scope": kind, "name": name })).collect();
        data.insert("guard".into(), Value::Array(scopes));
        self.publish(frame, "held_by_guard", data).event
    }

    /// True if this worker, or another one before it, changed something.
    fn is_changed(&self) -> bool {
        !self.record.lasting.changed.is_empty() || self.targets.iter().any(changed)
    }

    fn publish(&self, frame: &Frame<'_>, what: &str, data: Map<String, Value>) -> Final {
        let about = numbered(&self.job.key, self.record.run, self.record.seq);
        envelope(frame, &self.job.key, what, &about, Value::Object(data))
    }

    fn data(&self, frame: &Frame<'_>, outcome: &str, is_final: bool) -> Map<String, Value> {
        let (job, record) = (self.job, self.record);
        let mut data = Map::new();
        data.insert("job_id".into(), job.key.job_id.to_string().into());
        data.insert("tenant".into(), job.key.tenant.clone().into());
        data.insert("run".into(), record.run.into());
        data.insert("seq".into(), record.seq.into());
        data.insert("final".into(), is_final.into());
        data.insert("outcome".into(), outcome.into());
        data.insert("partial".into(), false.into());
        data.insert("subject_ref".into(), record.subject_ref.clone().into());
        data.insert("regulation".into(), job.regulation.clone().into());
        data.insert("requested_at".into(), record.requested_at.to_rfc3339().into());
        data.insert("due_at".into(), record.due_at.map(At::to_rfc3339).into());
        data.insert("finished_at".into(), if is_final { frame.now.to_rfc3339().into() } else { Value::Null });
        if let Some(approval) = approval::approval(self.targets) {
            data.insert("approval".into(), approval);
        }
        let targets = (0..job.targets.len()).map(|index| self.target(index, frame.now, is_final)).collect();
        data.insert("targets".into(), Value::Array(targets));
        data.insert("inputs".into(), Value::Array(Vec::new()));
        let follow_up = job.targets.iter().enumerate().filter(|(index, target)| {
            let well = self.targets[*index].end.as_ref().is_some_and(|end| end.outcome == TargetOutcome::Anonymised);
            target.kind == Kind::VitalSource && well
        });
        let follow_up = follow_up.map(|(index, _)| json!({ "target": index, "action": "abandon_account" })).collect();
        data.insert("follow_up".into(), Value::Array(follow_up));
        data.insert("receipt".into(), Value::Null);
        data
    }

    fn target(&self, index: usize, now: At, is_final: bool) -> Value {
        let (target, state, rules) = (&self.job.targets[index], &self.targets[index], self.rules[index]);
        let waiting = TargetEnd::well(TargetOutcome::NeedsInput);
        let end = state.end.as_ref().unwrap_or(&waiting);
        let mut steps: Vec<(At, Value)> = state.names().filter_map(|name| steps(state, name)).collect();
        steps.sort_by_key(|(at, _)| *at);
        let steps: Vec<Value> = steps.into_iter().map(|(_, step)| step).collect();
        let error = end.reason.map(|reason| {
            let mut error = json!({
                "code": reason.code(), "reason": reason.as_str(),
                "step": end.step.map(StepName::as_str), "retry": reason.retry().as_str(),
            });
            // Named, so that they can be ended at their manager.
            if matches!(reason, Reason::ActiveEntitlement | Reason::ExternallyManaged)
                && let Some(object) = error.as_object_mut()
            {
                let left = state.entitlements.iter().filter(|row| row.gives_access).map(entitlement);
                object.insert("entitlements".into(), left.collect());
            }
            error
        });
        let mut value = json!({
            "target": index, "system": target.system, "kind": target.kind.as_str(),
            "outcome": end.outcome.as_str(), "identity": identity(target.kind, state),
            "steps": steps,
            "preserved": if end.outcome == TargetOutcome::Erased { preserved(rules) } else { Vec::new() },
            "refunds": refunds(&target.spec, state, now),
            "error": error,
        });
        if let (Some(plan), Some(object)) = (&rules.plan, value.as_object_mut()) {
            connector::tell(plan, end, object);
        }
        // The approver must see the findings.
        let is_shown = self.job.mode == Mode::Preview || (state.approving.is_needed() && !is_final);
        if is_shown && let Some(object) = value.as_object_mut() {
            object.insert("preview".into(), preview(&target.spec, state, rules));
        }
        value
    }
}

/// True if we changed something in the system, or may have: a call in doubt, or a row of a deletion file, which
/// cannot be undone.
pub fn changed(state: &TargetState) -> bool {
    let by_us = |name, step: &StepState| match step_outcome(name, step) {
        StepOutcome::Erased | StepOutcome::Anonymised | StepOutcome::AlreadyErased => true,
        _ => {
            let is_taken = matches!(name, StepName::QueueImportRow | StepName::ConnectorAct) && step.is_done();
            step.intent == Intent::Doubt || is_taken
        }
    };
    let destructive = state.names().filter(|name| name.is_destructive());
    destructive.into_iter().any(|name| state.all(name).iter().any(|step| by_us(name, step)))
}

/// `checked`: a read compared the identifiers with a person who was found. `nobody`: the reads found nobody.
/// Otherwise `unchecked`.
fn identity(kind: Kind, state: &TargetState) -> &'static str {
    let answers = || state.all(StepName::Resolve).iter().filter_map(|state| state.answer.as_ref());
    let is_nobody = |answer: &Answer| {
        matches!(answer, Answer::Missing(_) | Answer::Found(Identity::Blank))
            || matches!(answer.means(), Some(Means::Gone(_)))
    };
    if answers().next().is_some() && answers().all(is_nobody) {
        return "nobody";
    }
    let resolved = match state.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref()) {
        Some(Answer::Found(identity) | Answer::User { identity, .. }) => *identity == Identity::Same,
        Some(Answer::Connector(reading)) => reading.means == Means::Found(Identity::Same),
        _ => false,
    };
    let codes = state.all(StepName::ReadCode).iter().all(|code| {
        !matches!(
            code.answer,
            Some(Answer::Code { owner: Identity::Unreadable | Identity::Blank, state: CodeState::Active })
        )
    });
    if resolved && (kind != Kind::VitalSource || codes) { "checked" } else { "unchecked" }
}

/// One line for each kind of step: outcome, count and last time.
fn steps(state: &TargetState, name: StepName) -> Option<(At, Value)> {
    let items = state.all(name);
    let is_shown = name.is_destructive()
        || matches!(name, StepName::ReadBack | StepName::ImportResult | StepName::ConnectorReadBack);
    // A row in a deletion file erases nobody; only the platform's result counts.
    if !is_shown || name == StepName::QueueImportRow {
        return None;
    }
    let done: Vec<_> = items.iter().filter(|item| item.is_done() || item.answer.is_some()).collect();
    let worst = items.iter().map(|item| step_outcome(name, item)).max_by_key(|outcome| weight(*outcome))?;
    // The step that caused a failed or refused target has that outcome, whatever its last answer was.
    let outcome = match &state.end {
        Some(TargetEnd { outcome: TargetOutcome::Failed, step: Some(step), .. }) if *step == name => {
            StepOutcome::Failed
        }
        Some(TargetEnd { outcome: TargetOutcome::Refused, step: Some(step), .. }) if *step == name => {
            StepOutcome::Refused
        }
        // Only reads that show what was expected end a connector's target as erased.
        Some(TargetEnd { outcome: TargetOutcome::Erased, .. })
            if name.is_connectors() && worst == StepOutcome::Pending =>
        {
            StepOutcome::Erased
        }
        _ => worst,
    };
    let at = items.iter().map(|item| item.answered_at.max(item.last_failed_at).max(item.intent_at)).max()?;
    let count = if matches!(name, StepName::ReadBack | StepName::ConnectorReadBack) {
        items.iter().map(|item| item.answers as usize).sum()
    } else {
        done.len()
    };
    Some((at, json!({ "step": name.as_str(), "outcome": outcome.as_str(), "count": count, "at": at.to_rfc3339() })))
}

/// The worst outcome counts for all items of a kind.
const fn weight(outcome: StepOutcome) -> u8 {
    match outcome {
        StepOutcome::Absent => 0,
        StepOutcome::AlreadyErased => 1,
        StepOutcome::Erased | StepOutcome::Anonymised => 2,
        StepOutcome::Pending => 3,
        StepOutcome::NeedsInput => 4,
        StepOutcome::Refused => 5,
        StepOutcome::Failed => 6,
    }
}

/// A step's outcome, in the word of the events.
pub fn step_outcome(name: StepName, state: &StepState) -> StepOutcome {
    let done = match name {
        StepName::DeleteCustomer | StepName::OverwriteUser => StepOutcome::Anonymised,
        // A row in a file is not a deletion.
        StepName::QueueImportRow => StepOutcome::Pending,
        _ => StepOutcome::Erased,
    };
    // A connector's act is settled after its own answer too, when a read shows the effect.
    let says_done = matches!(state.answer.as_ref().and_then(Answer::means), Some(Means::Done | Means::Accepted));
    if state.settled_done && !says_done {
        return if state.is_ours() { StepOutcome::AlreadyErased } else { StepOutcome::Absent };
    }
    match (&state.answer, state.failure) {
        (Some(Answer::Done), _) => done,
        (Some(Answer::AlreadyDone), _) if state.is_ours() => StepOutcome::AlreadyErased,
        (Some(Answer::AlreadyDone), _) => StepOutcome::Absent,
        (Some(Answer::Missing { .. }), _) => StepOutcome::Erased,
        (Some(Answer::Found(Identity::Other | Identity::Blank)), _) => StepOutcome::Erased,
        (Some(Answer::Values { stand: true }), _) => StepOutcome::Anonymised,
        (Some(Answer::Row(row)), _) => match row {
            RowState::Waiting => StepOutcome::NeedsInput,
            RowState::Deleted => StepOutcome::Erased,
            RowState::Skipped => StepOutcome::Absent,
            RowState::Missing => StepOutcome::Failed,
        },
        (Some(Answer::Connector(reading)), _) => connector::outcome(reading.means, state),
        (Some(Answer::Found(_) | Answer::Values { .. } | Answer::Left { .. } | Answer::Unclear(_)), _) => {
            StepOutcome::Pending
        }
        (_, Some((FailureKind::Refused, _))) => StepOutcome::Refused,
        (_, Some((FailureKind::UnauthorisedTheirs(_), _))) => StepOutcome::NeedsInput,
        (_, Some(_)) => StepOutcome::Failed,
        (_, None) => StepOutcome::Pending,
    }
}

/// For each code, by index: whether a refund is expected. Both facts come from the requester's records.
fn refunds(spec: &Spec, state: &TargetState, now: At) -> Vec<Value> {
    let Spec::VitalSource { codes, .. } = spec else { return Vec::new() };
    let refund = |(index, code): (usize, &Code)| {
        let revoked = state.all(StepName::RevokeCode).get(index).filter(|step| step.is_done());
        let at = revoked.map_or(now, |step| step.answered_at.max(step.intent_at));
        let young = code.redeemed_at.map(|redeemed| at.0 - At::from(redeemed).0 < DAYS_FOR_REFUND * 86_400_000);
        let unread = code.percent_read.map(|percent| percent < PERCENT_FOR_REFUND);
        let expected: Value = match (young, unread) {
            (Some(true), Some(true)) => true.into(),
            (Some(false), _) | (_, Some(false)) => false.into(),
            _ => "unknown".into(),
        };
        json!({ "code": index, "refund_expected": expected })
    };
    codes.iter().enumerate().map(refund).collect()
}

fn preview(spec: &Spec, state: &TargetState, rules: &Rules) -> Value {
    // Unknown if the system was not asked, for example about a member known by a token alone.
    let found = match state.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref()) {
        Some(Answer::Missing { .. } | Answer::Found(Identity::Blank)) => Some(false),
        Some(Answer::Connector(reading)) => Some(!matches!(reading.means, Means::Gone(_))),
        Some(_) => Some(true),
        None => None,
    };
    let offers: Vec<_> = state.entitlements.iter().map(entitlement).collect();
    let codes = if let Spec::VitalSource { codes, .. } = spec { codes.len() } else { 0 };
    let active = state
        .all(StepName::ReadCode)
        .iter()
        .filter(|code| matches!(code.answer, Some(Answer::Code { state: CodeState::Active, .. })));
    let mut value = json!({
        "found": found, "entitlements": offers, "entitlements_with_access": state.with_access.len(),
        "codes": codes, "codes_active": active.count(),
    });
    if let (Some(plan), Some(object)) = (&rules.plan, value.as_object_mut()) {
        object.insert("acts".into(), connector::acts(plan, state));
    }
    value
}

/// The data that a system keeps, by its owner's settings and its connector.
fn preserved(rules: &Rules) -> Vec<String> {
    let by_plan = rules.plan.iter().flat_map(|plan| &plan.preserved);
    rules.preserved.iter().chain(by_plan).cloned().collect()
}

fn entitlement(row: &super::step::Entitlement) -> Value {
    json!({ "offer_id": row.shown_offer_id(), "status": row.status, "externally_managed": row.externally_managed })
}

fn input(target: u16, ask: &Ask) -> Value {
    let mut value = json!({ "target": target, "kind": ask.kind.as_str() });
    if let Some(object) = value.as_object_mut() {
        object.insert("expires_at".into(), ask.expires_at.map(At::to_rfc3339).into());
        object.insert("entitlements".into(), ask.entitlements.iter().map(entitlement).collect());
    }
    value
}

/// The event about a message that was not accepted. `is_final` is false if a job with that id was accepted: its own
/// events report its end.
pub fn rejected(
    frame: &Frame<'_>,
    key: &JobKey,
    reason: Reason,
    detail: &str,
    body_sha256: &str,
    is_final: bool,
) -> Final {
    let what = if is_final { "rejected" } else { "rejected-beside" };
    let about = format!("{}/{}/{what}/{body_sha256}", key.tenant, key.job_id);
    let data = json!({
        "job_id": key.job_id.to_string(), "tenant": key.tenant, "run": 0, "seq": 0,
        "final": is_final, "outcome": "rejected", "partial": false,
        "body_sha256": body_sha256, "targets": [], "inputs": [], "follow_up": [],
        "error": { "code": reason.code(), "reason": reason.as_str(), "detail": detail, "step": null, "retry": reason.retry().as_str() },
        "receipt": null,
    });
    envelope(frame, key, "rejected", &about, data)
}

/// The event about a cancellation that was too late.
pub fn cancel_refused(frame: &Frame<'_>, key: &JobKey, run: u32, seq: u32) -> Event {
    let reason = Reason::CancelRefused;
    let data = json!({
        "job_id": key.job_id.to_string(), "tenant": key.tenant, "run": run, "seq": seq,
        "final": false, "outcome": "cancel_refused", "partial": false,
        "error": { "code": reason.code(), "reason": reason.as_str(), "step": null, "retry": reason.retry().as_str() },
    });
    envelope(frame, key, "cancel_refused", &numbered(key, run, seq), data).event
}

/// The event about a cancellation whose sender has no right to it; it had no effect.
pub fn cancel_unauthorised(frame: &Frame<'_>, key: &JobKey, detail: &str, body_sha256: &str) -> Event {
    let reason = Reason::Unauthorised;
    let about = format!("{}/{}/cancel_refused/{body_sha256}", key.tenant, key.job_id);
    let data = json!({
        "job_id": key.job_id.to_string(), "tenant": key.tenant, "run": 0, "seq": 0,
        "final": false, "outcome": "cancel_refused", "partial": false, "body_sha256": body_sha256,
        "error": { "code": reason.code(), "reason": reason.as_str(), "detail": detail, "step": null, "retry": reason.retry().as_str() },
    });
    envelope(frame, key, "cancel_refused", &about, data).event
}

/// A dead letter that will be removed.
pub struct Expiring {
    /// Its run; 0 if the message never became a job.
    pub run: u32,
    /// The time at which it was written.
    pub letter_at: At,
    /// The earliest time of its removal.
    pub expires_at: At,
    /// The reason why it is a dead letter.
    pub reason: Option<Reason>,
}

/// The event about a job's dead letter that will be removed soon: with it the last copy of the job is lost. Every
/// worker makes the same event for the same letter.
pub fn dead_letter_expires(frame: &Frame<'_>, key: &JobKey, letter: &Expiring) -> Event {
    let about = format!("{}/{}/{}/dead-letter/{}", key.tenant, key.job_id, letter.run, letter.letter_at.0);
    let error = letter.reason.map(|reason| {
        json!({ "code": reason.code(), "reason": reason.as_str(), "step": null, "retry": reason.retry().as_str() })
    });
    let data = json!({
        "job_id": key.job_id.to_string(), "tenant": key.tenant, "run": letter.run, "seq": 0,
        "final": false, "outcome": "at_risk", "cause": "dead_letter_expires",
        "expires_at": letter.expires_at.to_rfc3339(), "error": error,
    });
    envelope(frame, key, "at_risk", &about, data).event
}

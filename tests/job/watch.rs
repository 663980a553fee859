//! Watches a run: the order of its calls, and the calls in doubt.
//!
//! The rule it keeps: it judges by the calls that were made and the batches that survived, never by the flow's own
//! state.

use std::time::Duration;

use erasure_worker::job::plan::Lost;
use erasure_worker::job::{Answer, At, CodeState, Entry, FailureKind, Means, Mode, Step, StepName, TargetState};

use crate::scenario::Scenario;
use crate::world::Said;

/// A call with an unknown effect, until a read-back settles it.
#[derive(Debug, Clone)]
struct Doubt {
    step: Step,
    /// The batch with its answer, if there is one.
    answered_in: Option<usize>,
    /// The answer settles the doubt.
    is_clear: bool,
    /// The batch with a later read-back.
    read_back_in: Option<usize>,
}

/// The observed calls of a run.
#[derive(Debug, Default)]
pub struct Watch {
    /// Every call, in order.
    pub made: Vec<StepName>,
    doubts: Vec<Doubt>,
    /// The times at which one-time passwords may have been sent.
    sent: Vec<At>,
    /// The times of continuations and of new runs.
    asked_anew: Vec<At>,
    finished: Vec<Step>,
}

/// The read-back of a step; `None` if its repeat is harmless or has a rule of its own.
fn read_back_of(scenario: &Scenario, step: Step) -> Option<Step> {
    match step.name {
        StepName::DeleteCustomer | StepName::DeleteMember | StepName::DeleteAccount | StepName::OverwriteUser => {
            Some(Step::one(StepName::ReadBack))
        }
        StepName::TerminateEntitlement => Some(Step::item(StepName::ListEntitlements, 1)),
        StepName::RevokeCode => Some(Step::item(StepName::ReadBackCode, step.item)),
        StepName::ConnectorAct => match &scenario.rules.plan.as_ref()?.acts[step.place()].lost {
            Lost::Read(expect) => Some(Step::of_connector(StepName::ConnectorReadBack, expect[0].read, step.member())),
            // No read can settle it, so it is never repeated.
            Lost::Unproven => Some(Step::one(StepName::TellRequester)),
            Lost::Recognised | Lost::Harmless => None,
        },
        _ => None,
    }
}

impl Watch {
    /// The promise that a call would break, if there is one.
    pub fn before_call(&mut self, scenario: &Scenario, step: Step, durable: &[Vec<Entry>], now: At) -> Option<String> {
        let destroys = step.name.is_destructive();
        if destroys && scenario.job.mode == Mode::Preview {
            return Some(format!("a preview calls {step:?}"));
        }
        if destroys && scenario.is_mismatch {
            return Some(format!("{step:?} is called although the identifiers name two persons"));
        }
        if self.finished.contains(&step) {
            return Some(format!("{step:?} was finished in an earlier run and is called again"));
        }
        if step.name.needs_intent() && !has_open_intent(durable, step) {
            return Some(format!("{step:?} is called without a durable intent"));
        }
        if read_back_of(scenario, step).is_some()
            && self.doubts.iter().any(|doubt| doubt.step == step && !doubt.is_clear && doubt.read_back_in.is_none())
        {
            return Some(format!("{step:?} is repeated without a read-back of its first call"));
        }
        let must_not_repeat = read_back_of(scenario, step).is_some() || step.name == StepName::ConnectorAct;
        if must_not_repeat && !is_harmless(step) && was_done(durable, step) {
            return Some(format!("{step:?} was answered as done, and is repeated"));
        }
        if step.name == StepName::RequestOtp
            && let Some(sent) = self.sent.last()
            && !self.asked_anew.iter().any(|at| at > sent && at.since(*sent) >= Duration::from_secs(60))
        {
            return Some(format!("a second one-time password is sent, {:?} after the first", now.since(*sent)));
        }
        None
    }

    /// A call was made. Its answer will be written as batch `batch`.
    pub fn made(&mut self, scenario: &Scenario, step: Step, said: &Said, now: At, batch: usize) {
        self.made.push(step.name);
        let unsent = |kind: &FailureKind| {
            matches!(
                kind,
                FailureKind::Unavailable
                    | FailureKind::RateLimited
                    | FailureKind::UnauthorisedOurs
                    | FailureKind::UnauthorisedTheirs(_)
                    | FailureKind::Refused
                    | FailureKind::Rejected
            )
        };
        let is_clear = match said {
            Ok(answer) => matches!(answer, Answer::Done | Answer::AlreadyDone) || is_taken(answer),
            Err(failure) => unsent(&failure.kind),
        };
        if step.name == StepName::RequestOtp && !matches!(said, Err(failure) if unsent(&failure.kind)) {
            self.sent.push(now);
        }
        if read_back_of(scenario, step).is_some() {
            self.doubts.push(Doubt { step, answered_in: Some(batch), is_clear, read_back_in: None });
        }
        // Another field was filled in: the overwrite is repeated.
        if matches!(said, Ok(Answer::Left { .. })) {
            self.finished.retain(|step| step.name != StepName::OverwriteUser);
        }
        // A write without an effect, whose repeat is harmless, may be repeated.
        if let Ok(Answer::Values { stand: false } | Answer::Code { state: CodeState::Active, .. }) = said {
            self.finished.retain(|done| !is_harmless(*done) || read_back_of(scenario, *done) != Some(step));
        }
        if said.is_ok() {
            for doubt in &mut self.doubts {
                if read_back_of(scenario, doubt.step) == Some(step) && doubt.read_back_in.is_none() {
                    doubt.read_back_in = Some(batch);
                }
            }
        }
    }

    /// Entries were written.
    pub fn wrote(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::Continued { at } = entry {
                self.asked_anew.push(*at);
            }
        }
    }

    /// The process crashed; this many batches are left.
    pub fn crashed(&mut self, left: usize) {
        for doubt in &mut self.doubts {
            if doubt.answered_in.is_some_and(|batch| batch >= left) {
                doubt.answered_in = None;
                doubt.is_clear = false;
            }
            if doubt.read_back_in.is_some_and(|batch| batch >= left) {
                doubt.read_back_in = None;
            }
        }
    }

    /// A new run begins: done steps must not be repeated. A row of the deletion file may be queued again: that is
    /// idempotent.
    pub fn new_run(&mut self, state: &TargetState, at: At) {
        self.asked_anew.push(at);
        for name in state.names().filter(|name| name.needs_intent() && *name != StepName::QueueImportRow) {
            let done = state.numbered(name).into_iter().filter(|(_, state)| state.is_done());
            self.finished.extend(done.map(|(step, _)| step));
        }
    }

    /// The promise that an ended run broke, if there is one.
    pub fn last_word(&self, scenario: &Scenario, batches: &[Vec<Entry>]) -> Option<String> {
        let mut failed: Vec<(Step, u32)> = Vec::new();
        for entry in batches.iter().flatten() {
            match entry {
                Entry::Failed { step, kind, .. } if !matches!(kind, FailureKind::UnauthorisedTheirs(_)) => {
                    match failed.iter_mut().find(|(failed, _)| failed == step) {
                        Some((_, count)) => *count += 1,
                        None => failed.push((*step, 1)),
                    }
                }
                Entry::Answered { step, .. } => failed.retain(|(failed, _)| failed != step),
                Entry::NewRun { .. } => failed.clear(),
                _ => {}
            }
            if let Some((step, count)) = failed.iter().find(|(_, count)| *count > scenario.limits.max_attempts) {
                return Some(format!("{step:?} had {count} attempts"));
            }
        }
        None
    }
}

/// The repeat writes the same values, or the system recognises it. This list does not use the program's own, because
/// it judges the program.
fn is_harmless(step: Step) -> bool {
    matches!(step.name, StepName::OverwriteUser | StepName::RevokeCode)
}

/// A connector's system has taken the call.
fn is_taken(answer: &Answer) -> bool {
    matches!(answer.means(), Some(Means::Done | Means::DoneBefore | Means::Accepted))
}

/// True if the step was answered as done in this run.
fn was_done(durable: &[Vec<Entry>], step: Step) -> bool {
    let of_run = durable.iter().flatten().rev().take_while(|entry| !matches!(entry, Entry::NewRun { .. }));
    of_run.into_iter().any(|entry| match entry {
        Entry::Answered { step: of, answer: Some(answer), .. } if *of == step => {
            *answer == Answer::Done || is_taken(answer)
        }
        _ => false,
    })
}

/// True if the latest durable entry about a step is an intent.
fn has_open_intent(durable: &[Vec<Entry>], step: Step) -> bool {
    let word = durable.iter().flatten().rev().find_map(|entry| match entry {
        Entry::Intent { step: of, .. } if *of == step => Some(true),
        Entry::Answered { step: of, .. } | Entry::Failed { step: of, .. } | Entry::Settled { step: of, .. }
            if *of == step =>
        {
            Some(false)
        }
        _ => None,
    });
    word == Some(true)
}

//! Looks over a run's shoulder: what was called after what, and what of it is in doubt.
//!
//! The rule it keeps: it judges by the calls that were made and the batches that survived, never by
//! the state that the flow sees.

use std::time::Duration;

use erasure_worker::job::{Answer, At, CodeState, Entry, FailureKind, Mode, Step, StepName, TargetState};

use crate::scenario::Scenario;
use crate::world::Said;

/// A call of which nobody knows what came of it, until a look settles it.
#[derive(Debug, Clone)]
struct Doubt {
    step: Step,
    /// The batch that holds its answer; `None` where there is none.
    answered_in: Option<usize>,
    /// The answer settles the matter.
    is_clear: bool,
    /// The batch that holds a later look.
    looked_in: Option<usize>,
}

/// What was seen of a run.
#[derive(Debug, Default)]
pub struct Watch {
    /// Every call, in order.
    pub made: Vec<StepName>,
    doubts: Vec<Doubt>,
    /// When one-time passwords may have been sent.
    sent: Vec<At>,
    /// When continuations were delivered, and new runs began.
    asked_anew: Vec<At>,
    finished: Vec<Step>,
}

/// Where a doubt about a step can be settled by looking; `None` where its repeat is harmless or has a
/// rule of its own.
fn look_for(step: Step) -> Option<Step> {
    match step.name {
        StepName::DeleteCustomer | StepName::DeleteMember | StepName::DeleteAccount | StepName::OverwriteUser => {
            Some(Step::one(StepName::ReadBack))
        }
        StepName::TerminateEntitlement => Some(Step::item(StepName::ListEntitlements, 1)),
        StepName::RevokeCode => Some(Step::item(StepName::ReadBackCode, step.item)),
        _ => None,
    }
}

impl Watch {
    /// Before a call: what is wrong with making it.
    pub fn before_call(&mut self, scenario: &Scenario, step: Step, durable: &[Vec<Entry>], now: At) -> Option<String> {
        let destroys = step.name.is_destructive();
        if destroys && scenario.job.mode == Mode::Preview {
            return Some(format!("a preview calls {step:?}"));
        }
        if destroys && scenario.is_mismatch {
            return Some(format!("{step:?} is called though the identifiers name two persons"));
        }
        if self.finished.contains(&step) {
            return Some(format!("{step:?} was finished in an earlier run and is called again"));
        }
        if step.name.needs_intent() && !has_open_intent(durable, step) {
            return Some(format!("{step:?} is called without a durable intent"));
        }
        if look_for(step).is_some()
            && self.doubts.iter().any(|doubt| doubt.step == step && !doubt.is_clear && doubt.looked_in.is_none())
        {
            return Some(format!("{step:?} is repeated though nobody looked what came of it"));
        }
        if look_for(step).is_some() && !is_harmless(step) && was_done(durable, step) {
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
    pub fn made(&mut self, step: Step, said: &Said, now: At, batch: usize) {
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
            Ok(answer) => matches!(answer, Answer::Done | Answer::AlreadyDone),
            Err(failure) => unsent(&failure.kind),
        };
        if step.name == StepName::RequestOtp && !matches!(said, Err(failure) if unsent(&failure.kind)) {
            self.sent.push(now);
        }
        if look_for(step).is_some() {
            self.doubts.push(Doubt { step, answered_in: Some(batch), is_clear, looked_in: None });
        }
        // Something was filled in beside what was overwritten: the overwrite is made again.
        if matches!(said, Ok(Answer::Left { .. })) {
            self.finished.retain(|step| step.name != StepName::OverwriteUser);
        }
        // A write whose repeat is harmless, and which did not take, may be made again.
        if let Ok(Answer::Values { stand: false } | Answer::Code { state: CodeState::Active, .. }) = said {
            self.finished.retain(|done| !is_harmless(*done) || look_for(*done) != Some(step));
        }
        if said.is_ok() {
            for doubt in &mut self.doubts {
                if look_for(doubt.step) == Some(step) && doubt.looked_in.is_none() {
                    doubt.looked_in = Some(batch);
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

    /// The process died; this many batches are left.
    pub fn crashed(&mut self, left: usize) {
        for doubt in &mut self.doubts {
            if doubt.answered_in.is_some_and(|batch| batch >= left) {
                doubt.answered_in = None;
                doubt.is_clear = false;
            }
            if doubt.looked_in.is_some_and(|batch| batch >= left) {
                doubt.looked_in = None;
            }
        }
    }

    /// A new run begins: what is done is not to be done again. A row of the deletion file may be
    /// queued again, which is idempotent.
    pub fn new_run(&mut self, state: &TargetState, at: At) {
        self.asked_anew.push(at);
        for name in state.names().filter(|name| name.needs_intent() && *name != StepName::QueueImportRow) {
            let done = state.all(name).iter().enumerate().filter(|(_, state)| state.is_done());
            self.finished.extend(done.map(|(item, _)| Step::item(name, item as u32)));
        }
    }

    /// What is wrong with a run that has come to its end.
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

/// Writes the same values, or is recognised by the system. Not asked of the program: it is what is judged.
fn is_harmless(step: Step) -> bool {
    matches!(step.name, StepName::OverwriteUser | StepName::RevokeCode)
}

/// True where the step was answered as done in this run.
fn was_done(durable: &[Vec<Entry>], step: Step) -> bool {
    let of_run = durable.iter().flatten().rev().take_while(|entry| !matches!(entry, Entry::NewRun { .. }));
    of_run
        .into_iter()
        .any(|entry| matches!(entry, Entry::Answered { step: of, answer: Some(Answer::Done), .. } if *of == step))
}

/// True where the latest durable word on a step is an intent.
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

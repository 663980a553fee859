//! Whose fault a failure is: the person's whom a job is about, or everybody's.
//!
//! The rule it keeps: a job fails only by what speaks of its person. Before that its call is made once
//! more, between two looks at the system that both find it working; and what fails for one job after
//! another, or for a harmless read too, spends no attempt.

use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::gate::Gate;
use super::in_hand::Run;
use super::interrupted::Interrupted;
use super::line::Rank;
use super::rests::Rest;
use crate::job::state::TargetState;
use crate::job::wait::Waiting;
use crate::job::{Answer, At, Entry, Failure, FailureKind, Reason, Step, StepName, Target, TargetEnd, TargetOutcome};

/// What a failed call means for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It spends an attempt, as a failure of this kind and reason.
    Attempt(FailureKind, Reason),
    /// It is everybody's.
    Not,
}

/// A job's last call is made no later than this after the one before it.
const LAST_CALL_AFTER: Duration = Duration::from_secs(30);

/// True for a step whose call does not go to the system: the requester's own endpoint, the worker's own
/// disk. No read at the system tells anything of it.
pub(super) const fn is_elsewhere(step: StepName) -> bool {
    matches!(step, StepName::TellRequester | StepName::QueueImportRow | StepName::ImportResult)
}

/// A failure that may pass, or be another's: the call is made once more before the job fails by it. A proof
/// that was refused is not offered twice.
const fn is_repeated(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SystemUnavailable | Reason::UnreadableReply | Reason::RequestRejected | Reason::EmailNotValid
    )
}

impl Engine {
    /// Whether a failed call spends an attempt of its job.
    pub(super) async fn counts(&self, run: &Run<'_>, gate: &Gate, step: Step, failure: &Failure) -> Counts {
        let counted = Counts::Attempt(failure.kind, failure.reason);
        match failure.kind {
            // The gate makes everyone wait.
            FailureKind::RateLimited => Counts::Not,
            _ if is_elsewhere(step.name) => counted,
            // A refusal is told at once: everybody's holds the system, this person's is an attempt.
            FailureKind::UnauthorisedOurs if self.works(run, gate).await => {
                Counts::Attempt(FailureKind::Unavailable, Reason::RequestRejected)
            }
            FailureKind::UnauthorisedTheirs(_) if self.works(run, gate).await => counted,
            FailureKind::UnauthorisedOurs | FailureKind::UnauthorisedTheirs(_) => Counts::Not,
            _ if gate.is_in_trouble() => Counts::Not,
            _ => counted,
        }
    }

    /// Whether the system works, as far as is known or a harmless read tells; false where the run must stop,
    /// and where an operator has paused the system, which then is not read either.
    async fn works(&self, run: &Run<'_>, gate: &Gate) -> bool {
        if self.pauses.has_system(gate.system().name()) {
            return false;
        }
        tokio::select! {
            biased;
            () = run.lost.cancelled() => false,
            () = self.draining.cancelled() => false,
            works = gate.works_since(Instant::now()) => works,
        }
    }

    /// Where a target rests instead of ending so: `None` where the end speaks of its person.
    pub(super) async fn not_theirs(
        &self,
        run: &Run<'_>,
        index: usize,
        gate: &Gate,
        end: &TargetEnd,
    ) -> Result<Option<Rest>, Interrupted> {
        let (Some(name), Some(reason)) = (end.step, end.reason) else { return Ok(None) };
        if reason == Reason::InputNeverCame {
            return Ok(None);
        }
        let (steps, lasts) = run.journal.with(|state| blamed(&state.targets[index], name, reason));
        if steps.is_empty() {
            return Ok(None);
        }
        let works = is_elsewhere(name) || self.works(run, gate).await;
        if self.must_stop(run) {
            return Ok(Some(Rest::Stopped));
        }
        let now = self.now();
        if let Some(paused) = self.paused(run, &run.job.targets[index]).filter(|_| !works) {
            return Ok(Some(Rest::Waits { until: now.plus(paused.wait), why: paused.why }));
        }
        let key = &run.job.key;
        if !works {
            let rank = Rank::of(true, run.job.due_at.map(At::from));
            let away = gate.stay_away(key, rank);
            // A system that only asks to be left alone has said nothing of what failed before.
            if gate.is_in_trouble() {
                tracing::warn!(system = gate.name(), step = name.as_str(), "a job does not fail by a system's trouble");
                self.excuse(run, index, &steps, false, now, now)?;
            }
            return Ok(Some(Rest::Waits { until: now.plus(away.wait), why: away.why }));
        }
        let limits = &self.settings.limits;
        let may_wait = lasts < limits.max_elapsed;
        let soon = gate.probe_interval().min(LAST_CALL_AFTER);
        let is_elsewhere = is_elsewhere(name) && reason == Reason::SystemUnavailable;
        let is_shared = may_wait && (is_elsewhere || gate.fails_for_all(name));
        let is_again = is_shared || (is_repeated(reason) && gate.is_to_be_repeated(key, index, name));
        if !is_again {
            return Ok(None);
        }
        // What fails for others too is tried again after about as long as it has failed.
        let wait = if is_shared { lasts.clamp(soon, limits.max_interval.max(soon)) } else { soon };
        tracing::warn!(
            system = gate.name(),
            step = name.as_str(),
            reason = reason.as_str(),
            is_shared,
            "a call is made once more before its job fails"
        );
        let until = now.plus(wait);
        self.excuse(run, index, &steps, true, now, until)?;
        Ok(Some(Rest::Waits { until, why: Waiting::Retry }))
    }

    /// Notes that what came of these steps spends no attempt.
    pub(super) fn excuse(
        &self,
        run: &Run<'_>,
        index: usize,
        steps: &[Step],
        works: bool,
        at: At,
        not_before: At,
    ) -> Result<(), Interrupted> {
        let target = u16::try_from(index).unwrap_or(u16::MAX);
        let entry = |step: &Step| Entry::Excused { target, step: *step, works, at, not_before };
        run.journal.append(&*self.store, steps.iter().map(entry).collect())?;
        Ok(())
    }
}

/// That nobody is found by an identifier that no person can have says nothing of the person. Jobs with such
/// identifiers were accepted by an earlier release.
pub(super) fn believed(target: &Target, end: TargetEnd) -> TargetEnd {
    if end.outcome != TargetOutcome::Absent || !target.names_nobody() {
        return end;
    }
    TargetEnd { outcome: TargetOutcome::Failed, reason: Some(Reason::Invalid), step: Some(StepName::Resolve) }
}

/// The steps of this kind whose failures ended the target, and how long they have failed.
fn blamed(state: &TargetState, name: StepName, reason: Reason) -> (Vec<Step>, Duration) {
    let unproven = |answer: &Answer| matches!(answer, Answer::Unclear(_));
    let mut steps = Vec::new();
    let mut lasts = Duration::ZERO;
    for (item, step) in (0..).zip(state.all(name)) {
        let is_blamed =
            step.failure.is_some() || (reason == Reason::Unproven && step.answer.as_ref().is_some_and(unproven));
        if is_blamed {
            steps.push(Step::item(name, item));
            lasts = lasts.max(step.last_failed_at.since(step.first_failed_at));
        }
    }
    (steps, lasts)
}

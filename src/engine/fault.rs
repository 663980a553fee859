//! The cause of a failure: it concerns the job's person, or all jobs.
//!
//! The rule it keeps: a job fails only by a failure that concerns its person. Before that its call is made once more,
//! between two harmless reads that both work. A failure of job after job, or of a harmless read too, spends no
//! attempt.

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

/// The meaning of a failed call for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// The call spends an attempt, with this kind and reason.
    Attempt(FailureKind, Reason),
    /// The failure concerns all jobs: no attempt.
    Not,
}

/// The longest pause before a job's last call.
const LAST_CALL_AFTER: Duration = Duration::from_secs(30);

/// True for a step whose call does not go to the system, but to the requester's endpoint or the worker's disk. A read
/// of the system says nothing about it.
pub(super) const fn is_elsewhere(step: StepName) -> bool {
    matches!(step, StepName::TellRequester | StepName::QueueImportRow | StepName::ImportResult)
}

/// True for a failure that may pass, or that may concern all jobs: the call is made once more before the job fails. A
/// refused proof is not sent twice.
const fn is_repeated(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SystemUnavailable | Reason::UnreadableReply | Reason::RequestRejected | Reason::EmailNotValid
    )
}

impl Engine {
    /// Decides whether a failed call spends an attempt of its job.
    pub(super) async fn counts(&self, run: &Run<'_>, gate: &Gate, step: Step, failure: &Failure) -> Counts {
        let counted = Counts::Attempt(failure.kind, failure.reason);
        match failure.kind {
            // The gate makes all jobs wait.
            FailureKind::RateLimited => Counts::Not,
            _ if is_elsewhere(step.name) => counted,
            // A refusal is decided at once: if it concerns all jobs, the system is held; if only this person, it is
            // an attempt.
            FailureKind::UnauthorisedOurs if self.works(run, gate).await => {
                Counts::Attempt(FailureKind::Unavailable, Reason::RequestRejected)
            }
            FailureKind::UnauthorisedTheirs(_) if self.works(run, gate).await => counted,
            FailureKind::UnauthorisedOurs | FailureKind::UnauthorisedTheirs(_) => Counts::Not,
            _ if gate.is_in_trouble() => Counts::Not,
            _ => counted,
        }
    }

    /// Asks whether the system works: a recent answer or a harmless read decides. False if the run must stop, or if
    /// an operator has paused the system, since a paused system is not read either.
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

    /// The wait of a target instead of this end; `None` if the end concerns its person.
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
            // A system that only asked for a pause says nothing about the earlier failures.
            if gate.is_in_trouble() {
                tracing::warn!(
                    system = gate.name(),
                    step = name.as_str(),
                    "a system is in trouble; the job does not fail and waits"
                );
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
        // A call that fails for other jobs too is tried again after about the time for which it has failed.
        let wait = if is_shared { lasts.clamp(soon, limits.max_interval.max(soon)) } else { soon };
        tracing::warn!(
            system = gate.name(),
            step = name.as_str(),
            reason = reason.as_str(),
            is_shared,
            "a call is repeated once before its job fails"
        );
        let until = now.plus(wait);
        self.excuse(run, index, &steps, true, now, until)?;
        Ok(Some(Rest::Waits { until, why: Waiting::Retry }))
    }

    /// Notes that the failures of these steps spend no attempt.
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

/// No person can have such an identifier, so an empty search says nothing about the person. Jobs with such
/// identifiers were accepted by an earlier release.
pub(super) fn believed(target: &Target, end: TargetEnd) -> TargetEnd {
    if end.outcome != TargetOutcome::Absent || !target.names_nobody() {
        return end;
    }
    TargetEnd { outcome: TargetOutcome::Failed, reason: Some(Reason::Invalid), step: Some(StepName::Resolve) }
}

/// The steps of this kind whose failures ended the target, and the time for which they have failed.
fn blamed(state: &TargetState, name: StepName, reason: Reason) -> (Vec<Step>, Duration) {
    let unproven = |answer: &Answer| matches!(answer, Answer::Unclear(_));
    let mut steps = Vec::new();
    let mut lasts = Duration::ZERO;
    for (numbered, step) in state.numbered(name) {
        let is_blamed =
            step.failure.is_some() || (reason == Reason::Unproven && step.answer.as_ref().is_some_and(unproven));
        if is_blamed {
            steps.push(numbered);
            lasts = lasts.max(step.last_failed_at.since(step.first_failed_at));
        }
    }
    (steps, lasts)
}

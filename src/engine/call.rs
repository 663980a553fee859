//! One call to a system, and the checkpoint of its answer.
//!
//! The rule it keeps: an answer is checkpointed before any work that depends on it; a run that lost its delivery
//! starts no new call.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tracing::Instrument as _;

use super::fault::{self, Counts};
use super::gate::{Gate, StayAway};
use super::in_hand::Run;
use super::interrupted::Interrupted;
use super::line::Rank;
use super::{Engine, RetryPolicy};
use crate::crash::{self, Point};
use crate::job::wait::Waiting;
use crate::job::{Answer, At, Entry, Failure, FailureKind, Field, Reason, Step, Target};
use crate::systems::{Call, Facts};
use crate::trace;

/// Beside the time limit of a call: for its beginning.
const CALL_MARGIN: Duration = Duration::from_secs(2);
/// The pause between looks at the store's lease.
const VOUCHED_AGAIN: Duration = Duration::from_millis(200);

impl Engine {
    /// Makes one call and records its result. `Some`: the gate is closed for longer than a job may wait in hand.
    pub(super) async fn call(
        &self,
        run: &Run<'_>,
        index: usize,
        gate: &Arc<Gate>,
        step: Step,
    ) -> Result<Option<StayAway>, Interrupted> {
        run.journal.hand_over(&*self.store);
        crash::point(Point::AfterCheckpoint, step.name.as_str()).await;
        let target = &run.job.targets[index];
        if let Some(paused) = self.paused(run, target) {
            return Ok(Some(paused));
        }
        let system = gate.system();
        let endpoints = system.endpoints(&target.spec, step);
        let has_begun = run.journal.with(|state| state.targets[index].names().next().is_some());
        let rank = Rank::of(has_begun, run.job.due_at.map(At::from));
        let pass = tokio::select! {
            biased;
            pass = gate.enter(&run.job.key, rank, endpoints, self.settings.inline_wait_max) => pass,
            () = run.lost.cancelled() => return Ok(None),
            () = self.draining.cancelled() => return Ok(None),
        };
        let pass = match pass {
            Ok(pass) => pass,
            Err(away) => return Ok(Some(away)),
        };
        // During the wait for the pass the delivery may be lost, or an operator may pause the system. The unused pass
        // says nothing about the system.
        if self.must_stop(run) {
            drop(pass);
            return Ok(None);
        }
        if let Some(paused) = self.paused(run, target) {
            drop(pass);
            return Ok(Some(paused));
        }
        if step.name.needs_intent() && !self.is_vouched_for(run, gate).await {
            drop(pass);
            return Ok(None);
        }
        let attempt = run.journal.with(|state| state.targets[index].get(step).map_or(0, |state| state.attempts)) + 1;
        let facts = self.facts(run, index, step);
        let span = tracing::debug_span!("attempt", system = %target.system, step = step.name.as_str(), item = step.item, attempt);
        // The call keeps this client; a credential renewed meanwhile is for the next call.
        let client = gate.client();
        let credential = client.system.credential();
        let was_proven = credential.is_proven();
        let call = Call { job: run.job, target, index, step, facts: &facts };
        crash::point(Point::BeforeCall, step.name.as_str()).await;
        let traced = trace::attempt(&target.system, step.name.as_str(), step.item, attempt);
        let result = client.system.call(call).instrument(span.clone()).instrument(traced.clone()).await;
        crash::point(Point::AfterCall, step.name.as_str()).await;
        if fault::is_elsewhere(step.name) {
            gate.ended_elsewhere(pass);
        } else {
            gate.ended(pass, result.as_ref().err());
        }
        gate.step_ended(&run.job.key, step.name, result.as_ref().err());
        run.arrived.life.notify_one();
        let is_unproven = matches!(&result, Ok(Answer::Unclear(Reason::Unproven))) && !step.name.needs_intent();
        let is_paused = self.pauses.has_system(&target.system);
        if is_unproven && !is_paused && credential.knows_somebody() {
            // A harmless read of the configured person, who always exists, decides whose fault it is. The call is
            // then made again.
            if let Err(failure) = client.system.probe().instrument(span.clone()).await {
                span.in_scope(|| {
                    tracing::warn!(
                        system = %target.system,
                        %failure,
                        "the harmless read of the configured person failed"
                    )
                });
            }
        }
        if !was_proven && credential.is_proven() {
            self.remember_proven_credential(gate, &client);
        }
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let now = self.now();
        match result {
            Ok(answer) => {
                self.figures.label("system_requests", &target.system, "ok");
                span.in_scope(|| tracing::debug!("answered"));
                if step.name.needs_intent() {
                    run.arrived.progress.notify_one();
                }
                run.journal.append(
                    &*self.store,
                    vec![Entry::Answered { target: number, step, answer: Some(answer), at: now }],
                )?;
                crash::point(Point::AfterAnswer, step.name.as_str()).await;
            }
            Err(failure) => {
                trace::failed(&traced, failure.kind.as_str());
                self.figures.label("system_requests", &target.system, failure.kind.as_str());
                let counts = self.counts(run, gate, step, &failure).instrument(span.clone()).await;
                span.in_scope(|| self.note_failure(run, index, step, attempt, &failure, counts))?;
                crash::point(Point::AfterFailure, step.name.as_str()).await;
            }
        }
        Ok(None)
    }

    /// Waits until no other process can take the store over before a call of this system has ended: it would read the
    /// system while the call is on the wire. False: no call may start any more.
    async fn is_vouched_for(&self, run: &Run<'_>, gate: &Gate) -> bool {
        let needed = gate.timeout() + CALL_MARGIN;
        while self.store.vouched_for().is_some_and(|left| left < needed) {
            if self.must_stop(run) {
                return false;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(VOUCHED_AGAIN) => {}
                () = run.lost.cancelled() => return false,
                () = self.draining.cancelled() => return false,
            }
        }
        true
    }

    /// The wait of the job if an operator has paused its system or tenant.
    pub(super) fn paused(&self, run: &Run<'_>, target: &Target) -> Option<StayAway> {
        let wait = self.pauses.stay_away(&run.job.key.tenant, &target.system, self.now())?;
        Some(StayAway { wait, why: Waiting::Paused })
    }

    fn note_failure(
        &self,
        run: &Run<'_>,
        index: usize,
        step: Step,
        attempt: u32,
        failure: &Failure,
        counts: Counts,
    ) -> Result<(), Interrupted> {
        let system = &run.job.targets[index].system;
        let now = self.now();
        let Counts::Attempt(kind, reason) = counts else {
            // No attempt: the gate makes all jobs wait.
            tracing::debug!(
                %system,
                step = step.name.as_str(),
                %failure,
                "a call failed without spending an attempt; the job waits"
            );
            if matches!(failure.kind, FailureKind::Ambiguous | FailureKind::Unreadable) && step.name.needs_intent() {
                self.excuse(run, index, &[step], false, now, now)?;
            }
            return Ok(());
        };
        self.figures.count(&self.figures.failed_attempts);
        tracing::warn!(%system, step = step.name.as_str(), item = step.item, attempt, %failure, "attempt failed");
        let pause = pause(&self.settings.retry, attempt, (self.chance)()).max(failure.retry_after.unwrap_or_default());
        let target = u16::try_from(index).unwrap_or(u16::MAX);
        let entry = Entry::Failed { target, step, kind, reason, at: now, not_before: now.plus(pause) };
        run.journal.append(&*self.store, vec![entry])?;
        Ok(())
    }

    fn facts(&self, run: &Run<'_>, index: usize, step: Step) -> Facts {
        let key = &run.job.key;
        let (job_id, target) = (key.job_id.to_string(), u32::try_from(index).unwrap_or(u32::MAX));
        let values =
            |guid: &str, field: Field| self.keyring.replacements(guid, field.as_str(), (&key.tenant, &job_id, target));
        run.journal.with(|state| Facts::of(run.job, index, &state.targets[index], step, &values))
    }
}

/// The pause after a failed attempt: exponential with full jitter, from zero to the policy's limit.
pub(crate) fn pause(policy: &RetryPolicy, attempt: u32, chance: f64) -> Duration {
    let mut backoff = ExponentialBackoff {
        initial_interval: policy.initial_interval,
        current_interval: policy.initial_interval,
        max_interval: policy.max_interval,
        multiplier: policy.multiplier,
        // The library's own jitter would start at half of the limit.
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut bound = Duration::ZERO;
    for _ in 0..attempt.clamp(1, 64) {
        bound = backoff.next_backoff().unwrap_or(policy.max_interval);
    }
    bound.mul_f64(chance)
}

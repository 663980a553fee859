//! One run of a job: its targets side by side, each doing what its flow says next.
//!
//! The rule it keeps: an intent is durable before its call; an answer is checkpointed before the
//! job goes on to what depends on it; a run that lost its delivery starts no new call.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::fault::{self, Counts};
use super::gate::{Gate, StayAway};
use super::intake::{Arrived, Interrupted};
use super::journal::Journal;
use super::line::Rank;
use super::{Engine, RetryPolicy};
use crate::crash::{self, Point};
use crate::job::flow::{self, Ask, Next, Why};
use crate::job::record::Waiting;
use crate::job::{
    Answer, At, Entry, Failure, FailureKind, Field, InputKind, Job, Reason, Step, StepName, Target, TargetEnd,
    TargetOutcome,
};
use crate::systems::{Call, Facts};
use crate::trace;

/// A job being worked on.
pub(crate) struct Run<'a> {
    pub job: &'a Job,
    pub journal: &'a Journal,
    /// The delivery's channel is gone.
    pub lost: &'a CancellationToken,
    /// A cancellation came.
    pub cancelled: &'a CancellationToken,
    /// Its delivery's arrival.
    pub arrived: &'a Arrived,
}

/// Where a target rests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// It ended.
    Ended,
    /// It waits until then.
    Waits { until: At, why: Waiting },
    /// It waits for a person.
    Asks(Vec<Ask>),
    /// The run was told to stop.
    Stopped,
}

/// Where the whole job rests.
pub(crate) enum Rests {
    /// Every target ended.
    Ended,
    /// It was cancelled before anything destructive.
    Cancelled,
    /// It waits.
    Waits(Waits),
    /// The delivery is lost.
    Lost,
    /// The worker drains.
    Drained,
}

/// A job's wait.
pub(crate) struct Waits {
    pub until: At,
    pub why: Waiting,
    /// The target for which it does, where it is one.
    pub target: Option<u16>,
    /// What persons are asked for.
    pub asks: Vec<(u16, Ask)>,
}

impl Engine {
    /// Carries all targets as far as they go.
    pub(crate) async fn targets(&self, run: &Run<'_>) -> Result<Rests, Interrupted> {
        loop {
            let result = self.each_target(run).await;
            // Also where it failed: the job may come back to another worker, and never leave here.
            for gate in self.gates.values() {
                gate.leave(&run.job.key);
            }
            let rests = result?;
            let has_ended = rests.iter().all(|rest| *rest == Rest::Ended);
            if run.lost.is_cancelled() || !has_ended {
                run.journal.hand_over_all(&*self.store);
            }
            if run.lost.is_cancelled() {
                return Ok(Rests::Lost);
            }
            if run.cancelled.is_cancelled() && self.can_cancel(run) {
                return Ok(Rests::Cancelled);
            }
            if has_ended {
                return Ok(Rests::Ended);
            }
            if self.draining.is_cancelled() {
                return Ok(Rests::Drained);
            }
            let waits = self.soonest(run, &rests);
            let wait = waits.until.since(self.now());
            let inline =
                wait <= self.settings.inline_wait_max && waits.why != Waiting::Input && waits.why != Waiting::Renewal;
            if !inline {
                return Ok(Rests::Waits(waits));
            }
            self.pause(run, wait).await;
        }
    }

    /// Carries the targets side by side to where each rests.
    pub(super) async fn each_target(&self, run: &Run<'_>) -> Result<Vec<Rest>, Interrupted> {
        let count = run.job.targets.len();
        if count == 1 {
            return Ok(vec![self.target(run, 0).await?.1]);
        }
        let mut working: FuturesUnordered<_> = (0..count).map(|index| self.target(run, index)).collect();
        let mut rests = vec![Rest::Stopped; count];
        while let Some(result) = working.next().await {
            let (index, rest) = result?;
            rests[index] = rest;
        }
        Ok(rests)
    }

    /// When the job is worth looking at again, why it waits, and whom it waits for.
    fn soonest(&self, run: &Run<'_>, rests: &[Rest]) -> Waits {
        let now = self.now();
        // A job that is held is held as a whole.
        let guarded = rests.iter().find_map(|rest| match rest {
            Rest::Waits { until, why: Waiting::Guard } => Some(*until),
            _ => None,
        });
        if let Some(until) = guarded {
            return Waits { until, why: Waiting::Guard, target: None, asks: Vec::new() };
        }
        let mut asks = Vec::new();
        let mut soonest: Option<(At, Waiting, Option<u16>)> = None;
        for (index, rest) in rests.iter().enumerate() {
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            match rest {
                Rest::Ended => {}
                // It looks when the one before it has ended, which may be long after.
                Rest::Waits { .. } if twin_before(run.job, index).is_some_and(|twin| rests[twin] != Rest::Ended) => {}
                Rest::Stopped => soonest = Some((now, Waiting::Renewal, None)),
                Rest::Waits { until, why } => {
                    if soonest.is_none_or(|(at, ..)| *until < at) {
                        soonest = Some((*until, *why, Some(number)));
                    }
                }
                Rest::Asks(wanted) => asks.extend(wanted.iter().cloned().map(|ask| (number, ask))),
            }
        }
        let (until, why, target) = soonest.unwrap_or_else(|| {
            // Nobody but a person can move it: look again after about as long as it has waited, so
            // that what comes early is seen early and a long wait costs little.
            let asked = run.journal.with(|state| {
                state.targets.iter().filter(|target| target.end.is_none()).flat_map(|t| t.asked.values()).min().copied()
            });
            let until = now.plus(now.since(asked.unwrap_or(now)).max(Duration::from_secs(5)));
            (until, Waiting::Input, asks.first().map(|(target, _)| *target))
        });
        Waits { until, why, target, asks }
    }

    pub(crate) fn can_cancel(&self, run: &Run<'_>) -> bool {
        run.journal.with(|state| {
            let lasting = &state.record.lasting;
            lasting.touched.is_empty()
                && lasting.cancel_refused.is_none()
                && !state.targets.iter().any(|target| target.touched)
        })
    }

    pub(super) fn must_stop(&self, run: &Run<'_>) -> bool {
        run.lost.is_cancelled()
            || self.draining.is_cancelled()
            || (run.cancelled.is_cancelled() && self.can_cancel(run))
    }

    async fn pause(&self, run: &Run<'_>, wait: Duration) {
        run.journal.hand_over_all(&*self.store);
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => {}
            () = run.lost.cancelled() => {}
            () = self.draining.cancelled() => {}
            () = run.cancelled.cancelled(), if !run.cancelled.is_cancelled() => {}
        }
    }

    async fn target(&self, run: &Run<'_>, index: usize) -> Result<(usize, Rest), Interrupted> {
        let target = &run.job.targets[index];
        let Some(gate) = self.gates.get(&target.system) else { return Ok((index, Rest::Stopped)) };
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let twin = twin_before(run.job, index);
        loop {
            let ended = run.journal.with(|state| state.targets[index].end.is_some());
            if ended {
                return Ok((index, Rest::Ended));
            }
            if self.must_stop(run) {
                return Ok((index, Rest::Stopped));
            }
            if run.arrived.at.elapsed() >= self.settings.in_hand_max {
                return Ok((index, Rest::Waits { until: self.now(), why: Waiting::Renewal }));
            }
            // The same identity twice: the second one looks when the first has ended.
            if let Some(twin) = twin
                && run.journal.with(|state| state.targets[twin].end.is_none())
            {
                let until = self.now().plus(Duration::from_secs(1));
                return Ok((index, Rest::Waits { until, why: Waiting::Pending }));
            }
            let now = self.now();
            let next = run.journal.with(|state| {
                flow::next(run.job, index, &state.targets[index], gate.rules(), &self.settings.limits, now)
            });
            match next {
                Next::End(end) => {
                    if !end.outcome.is_erased()
                        && let Some(rest) = self.not_theirs(run, index, gate, &end).await?
                    {
                        return Ok((index, rest));
                    }
                    let end = believed(&run.job.targets[index], end);
                    log_end(index, &target.system, &end);
                    run.journal.append(&*self.store, vec![Entry::Ended { target: number, end, at: now }])?;
                    gate.target_ended();
                    if run.job.targets.len() > 1 {
                        // The others may still take long.
                        run.journal.hand_over(&*self.store);
                    }
                }
                Next::Settle { step, done } => {
                    run.journal.append(&*self.store, vec![Entry::Settled { target: number, step, done, at: now }])?;
                }
                Next::Intend(mut steps) => {
                    for step in steps.iter_mut().filter(|step| step.name == StepName::RequestOtp) {
                        match run.journal.sends(number, *step) {
                            Some(announced) => *step = announced,
                            None => return Ok((index, Rest::Waits { until: now, why: Waiting::Renewal })),
                        }
                    }
                    if let Some(until) = self.guard_before_acting(run)? {
                        return Ok((index, Rest::Waits { until, why: Waiting::Guard }));
                    }
                    let name = steps.first().map_or("", |step| step.name.as_str());
                    crash::point(Point::BeforeIntent, name).await;
                    let entries =
                        steps.into_iter().map(|step| Entry::Intent { target: number, step, at: now }).collect();
                    run.journal.append(&*self.store, entries)?;
                    run.journal.durable().await?;
                    crash::point(Point::AfterIntent, name).await;
                }
                Next::Wait { until, why } => {
                    let wait = until.since(now);
                    if wait > self.settings.inline_wait_max {
                        let why = match why {
                            Why::Retry => Waiting::Retry,
                            Why::Pending => Waiting::Pending,
                        };
                        return Ok((index, Rest::Waits { until, why }));
                    }
                    self.pause(run, wait).await;
                }
                Next::Ask(asks) => {
                    if asks.iter().any(|ask| ask.kind == InputKind::ManualDeletion)
                        && let Some(until) = self.guard_before_acting(run)?
                    {
                        return Ok((index, Rest::Waits { until, why: Waiting::Guard }));
                    }
                    let new: Vec<_> = run.journal.with(|state| {
                        let asked = &state.targets[index].asked;
                        asks.iter().filter(|ask| !asked.contains_key(&ask.kind)).map(|ask| ask.kind).collect()
                    });
                    if !new.is_empty() {
                        let entries = new.into_iter().map(|kind| Entry::Asked { target: number, kind, at: now });
                        run.journal.append(&*self.store, entries.collect())?;
                    }
                    return Ok((index, Rest::Asks(asks)));
                }
                Next::Call(step) => {
                    if let Some(away) = self.call(run, index, gate, step).await? {
                        let until = self.now().plus(away.wait);
                        return Ok((index, Rest::Waits { until, why: away.why }));
                    }
                }
            }
        }
    }

    /// Makes one call and notes what came of it. `Some`: the gate is closed for longer than is
    /// waited in hand.
    async fn call(
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
        let endpoints = gate.system().endpoints(&target.spec, step);
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
        // The wait for the pass may have outlasted the delivery, or an operator's patience. The pass goes
        // unused, which says nothing of the system.
        if self.must_stop(run) {
            drop(pass);
            return Ok(None);
        }
        if let Some(paused) = self.paused(run, target) {
            drop(pass);
            return Ok(Some(paused));
        }
        let attempt = run.journal.with(|state| state.targets[index].get(step).map_or(0, |state| state.attempts)) + 1;
        let facts = self.facts(run, index, step);
        let span = tracing::debug_span!("attempt", system = %target.system, step = step.name.as_str(), item = step.item, attempt);
        // A credential that is renewed meanwhile is the next call's.
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
            // One harmless read of somebody who is always there settles it; this answer is asked for again.
            if let Err(failure) = client.system.probe().instrument(span.clone()).await {
                span.in_scope(
                    || tracing::warn!(system = %target.system, %failure, "the person who is always there is not found"),
                );
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

    /// How long to stay away, where an operator has paused this.
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
            // Not an attempt: the gate makes everyone wait.
            tracing::debug!(%system, step = step.name.as_str(), %failure, "the system is not to be called for now");
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

/// That nobody is found by an identifier that no person can have says nothing of the person. Jobs with such
/// identifiers were accepted by an earlier release.
fn believed(target: &Target, end: TargetEnd) -> TargetEnd {
    if end.outcome != TargetOutcome::Absent || !target.names_nobody() {
        return end;
    }
    TargetEnd { outcome: TargetOutcome::Failed, reason: Some(Reason::Invalid), step: Some(StepName::Resolve) }
}

/// Work done well is told once, with the job; anything else is worth a line of its own.
fn log_end(index: usize, system: &str, end: &TargetEnd) {
    let (outcome, reason) = (end.outcome, end.reason.map(Reason::as_str));
    if end.outcome.is_erased() {
        tracing::debug!(index, system, %outcome, reason, "target ended");
    } else {
        tracing::info!(index, system, %outcome, reason, "target ended");
    }
}

/// An earlier target with the same identity.
pub(crate) fn twin_before(job: &Job, index: usize) -> Option<usize> {
    if job.targets.len() < 2 {
        return None;
    }
    let mine = job.target_identity(index);
    (0..index).find(|earlier| job.target_identity(*earlier) == mine)
}

/// The pause after a failed attempt: exponential with full jitter, from zero to the policy's bound.
pub(crate) fn pause(policy: &RetryPolicy, attempt: u32, chance: f64) -> Duration {
    let mut backoff = ExponentialBackoff {
        initial_interval: policy.initial_interval,
        current_interval: policy.initial_interval,
        max_interval: policy.max_interval,
        multiplier: policy.multiplier,
        // Its own spread starts at half of the bound.
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

//! One run of a job: its targets side by side, each with the next action of its flow.
//!
//! The rule it keeps: an intent is durable before its call; an answer is checkpointed before any work that depends on
//! it; a run that lost its delivery starts no new call.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Engine;
use super::delivery::Done;
use super::ending::{log_end, open_targets, outcome};
use super::fault;
use super::in_hand::{Received, Run};
use super::interrupted::Interrupted;
use super::rests::{Rest, Rests, Waits, twin_before};
use crate::crash::{self, Point};
use crate::job::flow::{self, Next, Why};
use crate::job::wait::Waiting;
use crate::job::{Entry, InputKind, JobOutcome, StepName};

impl Engine {
    /// Carries a job as far as possible now: to its end, or to a wait queue.
    pub(super) async fn carry(&self, run: &Run<'_>, received: &Received<'_>) -> Result<Done<'static>, Interrupted> {
        crash::point(Point::AfterOpen, "").await;
        let carried = self.carry_on(run, received).await;
        if let Err(interrupted) = &carried {
            self.fall_back(run, interrupted).await;
        }
        carried
    }

    async fn carry_on(&self, run: &Run<'_>, received: &Received<'_>) -> Result<Done<'static>, Interrupted> {
        self.publish_owed(run, received).await?;
        if self.is_cancelled(&run.job.key)? {
            run.cancelled.cancel();
        }
        let rests = match self.held_by_ceiling(run)? {
            // No other write is needed: the write of the park also records that the ceiling holds the job, even if
            // the write that accepted the job was refused.
            Some(until) if !run.cancelled.is_cancelled() => {
                Rests::Waits(Waits { until, why: Waiting::Guard, target: None, asks: Vec::new() })
            }
            _ => {
                self.heed_approval(run)?;
                // After the approval's decision: it refers to the earlier reads.
                run.journal.forget_distrusted();
                self.targets(run).await?
            }
        };
        let rests = self.ask_when_complete(run, rests);
        match rests {
            Rests::Ended => self.finish(run, received, outcome(run)).await,
            Rests::Cancelled => {
                let open = open_targets(run);
                self.look_before_cancelling(run, &open).await?;
                self.cancel_targets(run, open)?;
                self.finish(run, received, JobOutcome::Cancelled).await
            }
            Rests::Waits(waits) => self.park(run, received, &waits).await,
            Rests::Lost => {
                self.note_unsent(run)?;
                run.journal.durable().await?;
                Err(Interrupted::Lost)
            }
            Rests::Drained => {
                self.note_unsent(run)?;
                run.journal.durable().await?;
                Ok(Done::Drained { lock: None })
            }
        }
    }

    /// Carries all targets as far as possible now.
    pub(crate) async fn targets(&self, run: &Run<'_>) -> Result<Rests, Interrupted> {
        loop {
            let result = self.each_target(run).await;
            // Also after an error: the job may be redelivered to another worker and never leave the line here.
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

    /// Carries the targets side by side until each one ends or must wait.
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

    pub(super) async fn pause(&self, run: &Run<'_>, wait: Duration) {
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
            // Two targets with the same identity in one system: the second one starts after the end of the first.
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
                    let end = fault::believed(&run.job.targets[index], end);
                    log_end(index, &target.system, &end);
                    run.journal.append(&*self.store, vec![Entry::Ended { target: number, end, at: now }])?;
                    gate.target_ended();
                    if run.job.targets.len() > 1 {
                        // The other targets may still take long.
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
                    if let Some(until) = self.count_before_acting(run)? {
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
                        && let Some(until) = self.count_before_acting(run)?
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
}

//! The watch over a system: harmless reads that show whether it works, and the report of its troubles.
//!
//! The rule it keeps: one harmless read at a time answers all that wait for one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::super::trouble::{self, Impairment};
use super::{Client, Gate, Rank, StayAway, UNKNOWN_WAIT};
use crate::job::wait::Waiting;
use crate::job::{Failure, JobKey, StepName};
use crate::systems::System;

impl Gate {
    /// Notes the result of a job's step.
    pub fn step_ended(&self, job: &JobKey, step: StepName, failure: Option<&Failure>) {
        let mut state = self.lock();
        match failure {
            None => state.trouble.step_works(step),
            Some(failure) if trouble::may_be_everybodys(failure) => {
                state.trouble.step_failed(step, job, failure, Instant::now());
                drop(state);
                self.changed.notify_one();
            }
            Some(_) => {}
        }
    }

    /// True if a failure certainly concerns all jobs: the system is held, or a harmless read fails too.
    pub fn is_in_trouble(&self) -> bool {
        self.lock().trouble.is_certain()
    }

    /// True if the step has failed for several jobs in a row.
    pub fn fails_for_all(&self, step: StepName) -> bool {
        self.lock().trouble.fails_for_all(step)
    }

    /// True the first time, see [`Trouble::is_to_be_repeated`].
    pub fn is_to_be_repeated(&self, job: &JobKey, target: usize, step: StepName) -> bool {
        self.lock().trouble.is_to_be_repeated(job, target, step)
    }

    /// The wait of a job that found the system in trouble.
    pub fn stay_away(&self, job: &JobKey, rank: Rank) -> StayAway {
        let now = Instant::now();
        match self.closed(&mut self.lock(), job, rank, now) {
            Err(away) => away,
            Ok(_) => StayAway { wait: UNKNOWN_WAIT, why: Waiting::Held },
        }
    }

    /// True if a call that began after `since` was answered, or if a harmless read works now. Otherwise the gate is
    /// closed.
    pub async fn works_since(&self, since: Instant) -> bool {
        let _one = self.probing.lock().await;
        let known = self.lock().trouble.works_since(since, Instant::now());
        match known {
            Some(works) => works,
            None => self.probe().await,
        }
    }

    /// Uses another client, with a renewed credential, after a harmless read with it has worked. That also ends a
    /// hold.
    ///
    /// # Errors
    /// The failure of the harmless read: the former client stays in use.
    pub async fn renew(&self, client: Client) -> Result<(), Failure> {
        let _one = self.probing.lock().await;
        self.wait_for_a_place(&*client.system).await;
        let began = Instant::now();
        client.system.probe().await?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(client);
        self.note_probe(began, &Ok(()));
        Ok(())
    }

    fn note_probe(&self, began: Instant, result: &Result<(), Failure>) {
        let pauses = (self.settings.breaker_pause, self.settings.hold_probe_interval);
        self.lock().trouble.probed(began, result, pauses, Instant::now());
        self.changed.notify_one();
    }

    /// Waits for a place within the rate limits, for each request of a harmless read.
    async fn wait_for_a_place(&self, system: &dyn System) {
        let now = Instant::now();
        let start = {
            let (mut state, endpoints) = (self.lock(), system.probe_endpoints());
            let start = self.start_of(&mut state, endpoints, now);
            self.count(&mut state, endpoints, start);
            start
        };
        if start > now {
            tokio::time::sleep_until(start).await;
        }
    }

    /// Makes one harmless read.
    async fn probe(&self) -> bool {
        let system = self.system();
        self.wait_for_a_place(&*system).await;
        let began = Instant::now();
        let result = system.probe().await;
        self.note_probe(began, &result);
        result.is_ok()
    }

    /// Makes the harmless reads that end a trouble, and logs troubles: at once, then at growing intervals. Never
    /// returns.
    pub async fn watch(&self) {
        self.is_watched.store(true, Ordering::Release);
        loop {
            let line = self.lock().trouble.line(Instant::now());
            if let Some(first) = line {
                self.log(first.as_ref());
            }
            if self.lock().trouble.is_probe_due(Instant::now()) {
                let _one = self.probing.lock().await;
                // Another task may just have made one.
                if self.lock().trouble.is_probe_due(Instant::now()) {
                    self.probe().await;
                }
                continue;
            }
            let next = self.lock().trouble.next_look(Instant::now());
            match next {
                None => self.changed.notified().await,
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, self.changed.notified()).await;
                }
            }
        }
    }

    fn log(&self, first: Option<&Impairment>) {
        let system = self.name();
        match first {
            Some(Impairment { what: trouble::ImpairmentKind::Held, detail, lasts }) => {
                tracing::error!(
                    system,
                    %detail,
                    lasts_s = lasts.as_secs(),
                    "system held: our credential or address is refused"
                );
            }
            Some(Impairment { what, detail, lasts }) => {
                let what = what.as_str();
                tracing::warn!(
                    system,
                    what,
                    %detail,
                    lasts_s = lasts.as_secs(),
                    "a system is in trouble; its jobs wait"
                );
            }
            None => tracing::info!(system, "the system works again"),
        }
    }
}

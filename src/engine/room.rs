//! Intake stops while the disk is full, the store's database is away, or a publish fails.
//!
//! The rule it keeps: intake resumes as soon as there is no such reason, and not before. Neither a full disk nor a
//! database that is away ends a job or the process, at the start, in the middle or at the stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::interrupted::Interrupted;
use crate::store::StoreError;

/// The pause between checks for room.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// True while intake is stopped. Every change of a reason calls `turn_valve`, which applies all reasons together.
#[derive(Debug, Default)]
pub(crate) struct Valve(tokio::sync::Mutex<bool>);

impl Engine {
    /// Stops intake if there is a reason, and resumes it if there is none.
    pub(crate) async fn turn_valve(&self) {
        let mut is_shut = self.valve.0.lock().await;
        let should = self.is_stalled();
        if should != *is_shut && !self.draining.is_cancelled() {
            *is_shut = should;
            if should {
                self.terms.end();
                self.broker.pause_intake().await;
                // A delivery on its way may have begun another one.
                self.terms.end();
            } else {
                self.broker.resume_intake().await;
            }
        }
    }

    pub(crate) async fn store_trouble(&self, error: &Interrupted) {
        if self.stop_for_room(error).await {
            return self.wait_for_room().await;
        }
        match error.store() {
            Some(fault) if fault.is_passing() => {}
            Some(fault) if fault.is_fatal() => self.fail(fault.to_string()),
            _ => tracing::error!(%error, "a job could not be processed; it is requeued"),
        }
    }

    /// Stops intake if the store is full. True if no task waits for room yet: then the caller must wait.
    pub(crate) async fn stop_for_room(&self, error: &Interrupted) -> bool {
        if !error.store().is_some_and(StoreError::is_passing) {
            return false;
        }
        let is_first = !self.stalled.swap(true, Ordering::AcqRel);
        if is_first {
            tracing::error!(%error, "intake stops until the store can be written");
        }
        self.turn_valve().await;
        is_first
    }

    /// Waits until a test write and its sync succeed; then intake resumes.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.draining.cancelled() => return,
            }
            let checked = tokio::select! {
                biased;
                checked = self.store.check() => checked,
                () = self.draining.cancelled() => return,
            };
            match checked {
                Ok(()) if self.cancel_waits.load(Ordering::Acquire) => {}
                Ok(()) => break,
                Err(fault) if fault.is_fatal() => return self.fail(fault.to_string()),
                Err(_) => {}
            }
        }
        self.stalled.store(false, Ordering::Release);
        tracing::info!("the store can be written again");
        self.turn_valve().await;
    }

    /// Repeats a write until there is room for it; `None` if the worker must stop first.
    pub(crate) async fn once_there_is_room<T, F>(&self, attempt: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match attempt().await {
                Err(error) if error.is_passing() => {
                    if self.stop_for_room(&error.into()).await {
                        self.wait_for_room().await;
                    } else {
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(LOOK_EVERY) => {}
                            () = self.draining.cancelled() => {}
                        }
                    }
                }
                settled => return settled.map(Some),
            }
            if self.draining.is_cancelled() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
#[path = "room/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

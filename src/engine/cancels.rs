//! Cancellations: read from the control stream together with operators' decisions, stored, and carried out at the
//! job's next delivery.
//!
//! The rule it keeps: only the run that holds the job's delivery cancels it, and only before anything irreversible.
//! Otherwise an event reports to the publisher that the cancellation was too late.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::in_hand::Run;
use super::journal::{JournalError, ended_of};
use super::stream_place::StreamPlace;
use super::{Engine, retention};
use crate::broker::Control;
use crate::job::event::{self, Frame};
use crate::job::{Cancel, JobKey, JobOutcome};
use crate::store::{Batch, Table};

impl Engine {
    /// True if a cancellation of the job is stored.
    pub(crate) fn is_cancelled(&self, key: &JobKey) -> Result<bool, JournalError> {
        Ok(self.store.get(Table::Cancel, &key.to_bytes())?.is_some())
    }

    /// Stores a cancellation and cancels the copy in hand. `Ok(false)`: the job has ended.
    async fn take_cancel(&self, key: &JobKey, batch: Batch) -> Result<bool, JournalError> {
        Ok(self.take_cancels(std::slice::from_ref(key), batch).await?.contains(&true))
    }

    /// As [`Engine::take_cancel`], for several jobs in one write.
    pub(crate) async fn take_cancels(&self, keys: &[JobKey], mut batch: Batch) -> Result<Vec<bool>, JournalError> {
        let open = keys.iter().map(|key| self.put_cancel(key, &mut batch)).collect::<Result<Vec<_>, _>>()?;
        self.store.submit(batch).await?;
        for (key, open) in keys.iter().zip(&open) {
            if *open && self.job_locks.cancel(key) {
                tracing::info!(job = %key, "a cancellation arrived for a job in hand");
            }
        }
        Ok(open)
    }

    /// Puts a cancellation into a batch. `false`: the job has ended with another outcome.
    pub(crate) fn put_cancel(&self, key: &JobKey, batch: &mut Batch) -> Result<bool, JournalError> {
        let ended = ended_of(&*self.store, key)?;
        Ok(match ended {
            None => {
                batch.put(Table::Cancel, key.to_bytes(), self.now().0.to_be_bytes());
                retention::expire_cancel(batch, key, self.now());
                true
            }
            Some(ended) if ended.outcome == JobOutcome::Cancelled => true,
            Some(mut ended) => {
                ended.seq += 1;
                let frame = Frame { environment: &self.accepts.environment, traceparent: None, now: self.now() };
                let event = event::cancel_refused(&frame, key, ended.run, ended.seq);
                self.owe(batch, key, &event);
                batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
                false
            }
        })
    }

    /// Reports to the publisher that the cancellation was too late. The event is stored only after no other worker
    /// can still cancel the job: after the confirm of the final event, or of a copy that says so.
    pub(crate) fn refuse_cancel(&self, batch: &mut Batch, key: &JobKey, (run, seq): (u32, u32), trace: Option<&str>) {
        let frame = Frame { environment: &self.accepts.environment, traceparent: trace, now: self.now() };
        self.owe(batch, key, &event::cancel_refused(&frame, key, run, seq));
        batch.remove(Table::Cancel, key.to_bytes());
        tracing::info!("a cancellation was too late; it is refused");
    }

    /// True while nothing irreversible has begun.
    pub(crate) fn can_cancel(&self, run: &Run<'_>) -> bool {
        run.journal.with(|state| {
            let lasting = &state.record.lasting;
            lasting.touched.is_empty()
                && lasting.cancel_refused.is_none()
                && !state.targets.iter().any(|target| target.touched)
        })
    }

    /// True if no further call may start.
    pub(super) fn must_stop(&self, run: &Run<'_>) -> bool {
        run.lost.is_cancelled()
            || self.draining.is_cancelled()
            || (run.cancelled.is_cancelled() && self.can_cancel(run))
    }

    /// Reads the control stream from the place that this store has reached.
    pub(crate) async fn cancel_loop(self: Arc<Self>) {
        let mut reading = match self.once_there_is_room(|| async { StreamPlace::recall(&*self.store) }).await {
            Ok(Some(reading)) => reading,
            Ok(None) => return,
            Err(error) => return self.fail(format!("the stored place in the control stream cannot be read: {error}")),
        };
        loop {
            let control = tokio::select! {
                biased;
                control = self.broker.next_control(reading.place()) => control,
                () = self.draining.cancelled() => return,
            };
            let Some(control) = control else { return };
            if reading.reach(&control) {
                self.figures.count(&self.figures.control_replaced);
                if let Err(error) = self.publish_pauses_anew().await {
                    tracing::warn!(
                        %error,
                        "standing pauses could not be published in the new control stream; the next start \
                         publishes them"
                    );
                }
            }
            // The message is tried again until it is stored: the offset of the next message would skip it.
            while let Err(error) = self.take_control(&control, &reading).await {
                if !matches!(&error, JournalError::Store(error) if error.is_passing()) {
                    self.store_trouble(&error.into()).await;
                    break;
                }
                // Intake resumes only after this cancellation is stored: its job may be delivered next.
                self.cancel_waits.store(true, Ordering::Release);
                let engine = Arc::clone(&self);
                tokio::spawn(async move { engine.store_trouble(&error.into()).await });
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    () = self.draining.cancelled() => return,
                }
            }
            self.cancel_waits.store(false, Ordering::Release);
        }
    }

    /// True if the message is a cancellation of a job that has not ended. A message that was taken before is taken
    /// again only then: otherwise its sender has the answer.
    fn could_matter(&self, control: &Control) -> Result<bool, JournalError> {
        match Cancel::parse(&control.body) {
            Ok(cancel) => Ok(ended_of(&*self.store, &cancel.key)?.is_none()),
            Err(_) => Ok(false),
        }
    }

    async fn take_control(&self, control: &Control, reading: &StreamPlace) -> Result<(), JournalError> {
        let mut batch = Batch::new();
        self.note_mended("control", &control.properties);
        reading.note(&mut batch, control, self.now());
        if reading.is_taken(&*self.store, control)? && !self.could_matter(control)? {
            tracing::debug!(offset = control.offset, "taken before");
            return Ok(self.store.submit(batch).await?);
        }
        let Some(mut batch) = self.take_if_decision(control, batch).await? else { return Ok(()) };
        match Cancel::parse(&control.body) {
            Ok(cancel) if self.admit_cancel(control, &cancel, &mut batch) => {
                self.take_cancel(&cancel.key, batch).await.map(|_| ())
            }
            Ok(_) => Ok(self.store.submit(batch).await?),
            Err(invalid) => {
                let (refusal, certain) = self.no_cancel(control, invalid);
                tracing::warn!(invalid = %refusal.invalid, "a cancellation is invalid");
                self.keep_unreadable(control, refusal, &mut batch)?;
                match certain {
                    Some(key) => drop(self.take_cancel(&key, batch).await?),
                    None => self.store.submit(batch).await?,
                }
                self.unreadable.notify_one();
                Ok(())
            }
        }
    }
}

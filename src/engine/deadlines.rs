//! Due times: `at_risk` some time before, `overdue` at the due time.
//!
//! The rule it keeps: each event is published once a run, by the same outbox as all others, and only by the active
//! worker. A job in hand is not waited for: it is checked again a minute later.

use super::Engine;
use super::in_hand::JobLock;
use super::journal::{JournalError, ended_of, folded, forget_checkpoints};
use super::retention::{IN_HAND_PAUSE, forget_due_time, look_at_due};
use crate::job::event::{Deadline, Frame, deadline};
use crate::job::{At, JobKey, JobRecord};
use crate::store::{Batch, Table};

impl Engine {
    /// Notes the time at which the job's due time is checked, if it has one.
    pub(crate) fn watch_deadline(&self, batch: &mut Batch, key: &JobKey, due_at: Option<At>) {
        if let Some(due) = due_at {
            look_at_due(batch, key, due.minus(self.settings.at_risk_before));
        }
    }

    /// Checks the due time of a redelivered job: an event that was due while another worker may have had the job is
    /// published now.
    pub(super) fn watch_again(&self, key: &JobKey, record: &JobRecord) -> Result<(), JournalError> {
        let now = self.now();
        if self.is_owed(record, now).is_some() {
            let mut batch = Batch::new();
            look_at_due(&mut batch, key, now);
            drop(self.store.submit(batch));
        }
        Ok(())
    }

    /// The event about the due time that is required now and was not published in this run.
    fn is_owed(&self, record: &JobRecord, now: At) -> Option<Deadline> {
        let due = record.due_at?;
        if now < due.minus(self.settings.at_risk_before) {
            return None;
        }
        let which = if due <= now { Deadline::Overdue } else { Deadline::AtRisk };
        (record.lasting.reported < Some((record.run, which))).then_some(which)
    }

    /// Removes the check of a job that has ended: a million useless rows would otherwise stay until their due times.
    pub(crate) fn unwatch_deadline(&self, batch: &mut Batch, key: &JobKey, due_at: Option<At>) {
        if let Some(due) = due_at {
            let at_risk_at = due.minus(self.settings.at_risk_before);
            forget_due_time(batch, key, if self.now() < at_risk_at { at_risk_at } else { due });
        }
    }

    /// Checks an open job's due time and stores the event, if one is due. The returned lock is held until the batch
    /// is in the store.
    pub(crate) fn report_deadline(
        &self,
        batch: &mut Batch,
        key: &JobKey,
        now: At,
    ) -> Result<Option<JobLock<'_>>, JournalError> {
        let Some(lock) = self.job_locks.try_take(key) else {
            look_at_due(batch, key, now.plus(IN_HAND_PAUSE));
            return Ok(None);
        };
        if ended_of(&*self.store, key)?.is_some() {
            return Ok(None);
        }
        let Some(stored) = self.store.get(Table::Job, &key.to_bytes())? else { return Ok(None) };
        let mut record = JobRecord::from_bytes(&stored)?;
        if !self.terms.has(&record, now) {
            return self.not_ours(batch, key, stored, record, now).map(|()| Some(lock));
        }
        let Some(due) = record.due_at else { return Ok(None) };
        let at_risk_at = due.minus(self.settings.at_risk_before);
        if now < at_risk_at {
            // The due time was moved to later.
            look_at_due(batch, key, at_risk_at);
            return Ok(None);
        }
        let Some(which) = self.is_owed(&record, now) else { return Ok(None) };
        if which == Deadline::AtRisk {
            look_at_due(batch, key, due);
        }
        record.lasting.reported = Some((record.run, which));
        record.seq += 1;
        let targets = folded(&*self.store, key, record.systems.len())?;
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now };
        let event = deadline(&frame, key, &record, &targets, which);
        self.owe(batch, key, &event);
        batch.put(Table::Job, key.to_bytes(), record.to_bytes());
        // A run that lost its delivery may have submitted a newer record.
        batch.expect(Table::Job, key.to_bytes(), Some(stored));
        tracing::warn!(job = %key, due_at = %due.to_rfc3339(), "the job is {}", which.as_str());
        Ok(Some(lock))
    }

    /// Another worker may have the job, or may have ended it: no event about it. The job is forgotten if no copy of
    /// it arrives here for as long as a failed job is kept; a later copy carries what is needed.
    fn not_ours(
        &self,
        batch: &mut Batch,
        key: &JobKey,
        stored: Vec<u8>,
        mut record: JobRecord,
        now: At,
    ) -> Result<(), JournalError> {
        batch.expect(Table::Job, key.to_bytes(), Some(stored));
        if record.seen.at == At::default() {
            // The row of an earlier release: the time counts from now.
            record.seen.at = now;
            batch.put(Table::Job, key.to_bytes(), record.to_bytes());
        }
        let until = record.seen.at.plus(self.settings.retain_failed);
        if now < until {
            look_at_due(batch, key, until);
            return Ok(());
        }
        self.forget_mirrored(key, batch)?;
        forget_checkpoints(&*self.store, key, batch)?;
        tracing::info!(
            job = %key,
            "a job without a delivery for a long time is forgotten here: another worker has it, or had it"
        );
        Ok(())
    }
}

#[cfg(test)]
#[path = "deadlines/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

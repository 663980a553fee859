//! Jobs whose term runs out: `at_risk` some time before, `overdue` when it has.
//!
//! The rule it keeps: each is told once a run, by the same outbox as every other event, and by the active
//! worker alone; a job in hand is not waited for, but looked at again a minute later.

use super::Engine;
use super::in_hand::Hand;
use super::journal::{JournalError, ended_of, folded, forget_checkpoints};
use super::retention::{IN_HAND_PAUSE, forget_due_time, look_at_due};
use crate::job::event::{Deadline, Frame, deadline};
use crate::job::{At, JobKey, JobRecord};
use crate::store::{Batch, Table};

impl Engine {
    /// Notes when the job's due time is to be looked at, where it has one.
    pub(crate) fn watch_deadline(&self, batch: &mut Batch, key: &JobKey, due_at: Option<At>) {
        if let Some(due) = due_at {
            look_at_due(batch, key, due.minus(self.settings.at_risk_before));
        }
    }

    /// A job is back: what was not told of its due time while another worker may have had it is told now.
    pub(super) fn watch_again(&self, key: &JobKey, record: &JobRecord) -> Result<(), JournalError> {
        let now = self.now();
        if self.is_owed(record, now).is_some() {
            let mut batch = Batch::new();
            look_at_due(&mut batch, key, now);
            drop(self.store.submit(batch));
        }
        Ok(())
    }

    /// What is to be told of the due time now and was not told in this run.
    fn is_owed(&self, record: &JobRecord, now: At) -> Option<Deadline> {
        let due = record.due_at?;
        if now < due.minus(self.settings.at_risk_before) {
            return None;
        }
        let which = if due <= now { Deadline::Overdue } else { Deadline::AtRisk };
        (record.lasting.told < Some((record.run, which))).then_some(which)
    }

    /// Takes that back for a job that has ended: it would be looked at in vain, and a million of them would
    /// stay until then.
    pub(crate) fn unwatch_deadline(&self, batch: &mut Batch, key: &JobKey, due_at: Option<At>) {
        if let Some(due) = due_at {
            let at_risk_at = due.minus(self.settings.at_risk_before);
            forget_due_time(batch, key, if self.now() < at_risk_at { at_risk_at } else { due });
        }
    }

    /// Looks at an open job's due time and owes the event that it asks for. The hand, where there is
    /// one, is kept until the batch is in the store.
    pub(crate) fn tell_deadline(
        &self,
        batch: &mut Batch,
        key: &JobKey,
        now: At,
    ) -> Result<Option<Hand<'_>>, JournalError> {
        let Some(hand) = self.hands.try_take(key) else {
            look_at_due(batch, key, now.plus(IN_HAND_PAUSE));
            return Ok(None);
        };
        if ended_of(&*self.store, key)?.is_some() {
            return Ok(None);
        }
        let Some(stored) = self.store.get(Table::Job, &key.to_bytes())? else { return Ok(None) };
        let mut record = JobRecord::from_bytes(&stored)?;
        if !self.terms.has(&record, now) {
            return self.not_ours(batch, key, stored, record, now).map(|()| Some(hand));
        }
        let Some(due) = record.due_at else { return Ok(None) };
        let at_risk_at = due.minus(self.settings.at_risk_before);
        if now < at_risk_at {
            // It was put off since.
            look_at_due(batch, key, at_risk_at);
            return Ok(None);
        }
        let Some(which) = self.is_owed(&record, now) else { return Ok(None) };
        if which == Deadline::AtRisk {
            look_at_due(batch, key, due);
        }
        record.lasting.told = Some((record.run, which));
        record.seq += 1;
        let targets = folded(&*self.store, key, record.systems.len())?;
        let frame = Frame { environment: &self.accepts.environment, traceparent: None, now };
        let event = deadline(&frame, key, &record, &targets, which);
        self.owe(batch, key, &event);
        batch.put(Table::Job, key.to_bytes(), record.to_bytes());
        // One that lost its delivery may have left a newer record on its way.
        batch.expect(Table::Job, key.to_bytes(), Some(stored));
        tracing::warn!(job = %key, due_at = %due.to_rfc3339(), "the job is {}", which.as_str());
        Ok(Some(hand))
    }

    /// A job that another worker may have, or may have ended: nothing is told of it. It is forgotten when no
    /// copy of it came here for as long as a failed job is kept; a copy brings along what it must.
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
            // Of an earlier release: it is counted from now on.
            record.seen.at = now;
            batch.put(Table::Job, key.to_bytes(), record.to_bytes());
        }
        let until = record.seen.at.plus(self.settings.retain_failed);
        if now < until {
            look_at_due(batch, key, until);
            return Ok(());
        }
        self.ceilings.lock(&*self.store)?.forget(key, batch);
        self.approvals.lock(&*self.store)?.forget(key, batch);
        forget_checkpoints(&*self.store, key, batch)?;
        tracing::info!(job = %key, "a job that no copy came of for long is forgotten: another worker has it, or had");
        Ok(())
    }
}

#[cfg(test)]
#[path = "deadlines/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

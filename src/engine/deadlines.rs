//! Jobs whose term runs out: `at_risk` some time before, `overdue` when it has.
//!
//! The rule it keeps: each is told once a run, by the same outbox as every other event; a job in hand
//! is not waited for, but looked at again a minute later.

use super::Engine;
use super::intake::Hand;
use super::journal::{JournalError, ended_of, folded};
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
        let Some(due) = record.due_at else { return Ok(None) };
        let at_risk_at = due.minus(self.settings.at_risk_before);
        if now < at_risk_at {
            // It was put off since.
            look_at_due(batch, key, at_risk_at);
            return Ok(None);
        }
        let which = if due <= now { Deadline::Overdue } else { Deadline::AtRisk };
        if which == Deadline::AtRisk {
            look_at_due(batch, key, due);
        }
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
}

#[cfg(test)]
#[path = "deadlines/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

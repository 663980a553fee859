//! The parts of a job that must not go back: collected for the copies that are published, adopted from the copies
//! that are delivered.
//!
//! The rule it keeps: of copy and record, the newer knowledge counts, and it is adopted before any decision about the
//! job. Another worker, with another store, may have worked on the job.

use std::collections::BTreeSet;
use std::time::Duration;

use super::decisions::{Authenticity, Decided, What};
use super::envelope::{Origin, Unsealed};
use super::journal::{JobState, Journal, JournalError, ended_of, forget_checkpoints, record_of};
use super::{Engine, retention, rows};
use crate::job::state::LetThrough;
use crate::job::{Carried, Codes, Entry, Job, JobKey, JobRecord, Lasting, Step, StepName, event};
use crate::store::{Batch, Table};

impl Engine {
    /// Adopts knowledge that is newer in the copy than in the record, and notes the one-time passwords that this
    /// process may send. True if the copy held new knowledge.
    pub(super) fn adopt(&self, job: &Job, journal: &Journal, unsealed: &Unsealed) -> Result<bool, JournalError> {
        // A job that this store has counted is not counted again, even after the count was undone.
        let was_counted = journal.with(|state| state.record.lasting.counted.is_some());
        let is_new = journal.change_record(|record| {
            let Origin::Ours { run, park, carried, .. } = &unsealed.origin else { return false };
            let known = |record: &JobRecord| (record.park_written, record.park_confirmed, Carried::of(record));
            let before = known(record);
            if *run == record.run {
                // The copy exists, so somebody published it: older copies are stale.
                record.park_written = record.park_written.max(*park);
                record.park_confirmed = record.park_confirmed.max(*park);
            }
            record.seq = record.seq.max(carried.seq);
            record.lasting.adopt(&carried.lasting);
            record.stands.adopt(&carried.stands);
            before != known(record)
        });
        let mut entries = self.codes_sent_elsewhere(journal);
        let mut batch = Batch::new();
        let counted = journal.with(|state| {
            let is_open = state.targets.first().is_some_and(|target| target.let_through.is_none());
            state.record.lasting.counted.filter(|_| is_open && !was_counted)
        });
        // Held until the batch is submitted.
        let mut turn = self.ceilings.lock(&*self.store)?;
        if let Some(at) = counted {
            turn.count_then(job, at, self.now(), &mut batch);
            entries.push(Entry::LetThrough { counted: true, at });
        }
        if is_new || !entries.is_empty() {
            journal.write(&*self.store, entries, batch)?;
        }
        drop(turn);
        Ok(is_new)
    }

    /// A one-time password that another process sent, or had announced, counts as sent: a second password would make
    /// the person's first one invalid.
    fn codes_sent_elsewhere(&self, journal: &Journal) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut ours = BTreeSet::new();
        journal.with(|state| {
            for (target, codes) in &state.record.lasting.codes {
                let Some(known) = state.targets.get(usize::from(*target)) else { continue };
                let known = u32::try_from(known.all(StepName::RequestOtp).len()).unwrap_or(u32::MAX);
                let is_ours = codes.by.as_ref() == Some(&self.process);
                if is_ours && known < codes.count {
                    ours.insert((*target, codes.count - 1));
                }
                for item in known..codes.count.saturating_sub(u32::from(is_ours)) {
                    let (target, step, at) = (*target, Step::item(StepName::RequestOtp, item), codes.at);
                    entries.push(Entry::Intent { target, step, at });
                    entries.push(Entry::Settled { target, step, done: true, at });
                }
            }
        });
        journal.may_send(ours);
        entries
    }

    /// The knowledge that a copy of the job carries and the record keeps.
    pub(super) fn lasting(&self, state: &JobState) -> Lasting {
        let mut lasting = state.record.lasting.clone();
        if let Some(LetThrough::Counted(at)) = state.targets.first().and_then(|target| target.let_through) {
            lasting.counted = Some(at);
        }
        for (index, target) in state.targets.iter().enumerate() {
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            if target.touched {
                lasting.touched.insert(number);
            }
            if event::changed(target) {
                lasting.changed.insert(number);
            }
            let sends = target.all(StepName::RequestOtp);
            let count = u32::try_from(sends.len()).unwrap_or(u32::MAX);
            if state.announces.contains(&number) {
                let by = Some(self.process.clone());
                lasting.codes.insert(number, Codes { count: count.saturating_add(1), at: self.now(), by });
            } else if let Some(last) = sends.last() {
                lasting.codes.insert(number, Codes { count, at: last.intent_at, by: None });
            }
        }
        lasting
    }

    /// The knowledge about a job that is not in hand, from its record and a copy of it.
    pub(super) fn carried_of(&self, key: &JobKey, unsealed: &Unsealed) -> Result<Carried, JournalError> {
        let mut known = match &unsealed.origin {
            Origin::Ours { carried, .. } => (**carried).clone(),
            Origin::Publisher => Carried::default(),
        };
        if let Some(record) = record_of(&*self.store, key)? {
            known.adopt(&Carried::of(&record));
        }
        Ok(known)
    }
}

/// Jobs that other workers ended while older copies of them were on the broker.
const ENDED: &[u8] = rows::ENDED_ELSEWHERE.prefix;
/// Longer than a copy stays on the longest wait queue and then in line.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Ends that other workers must learn of after the confirm of the final event.
const TO_TELL: &[u8] = rows::ENDED_TO_REPORT.prefix;

fn to_report_row(key: &JobKey) -> Vec<u8> {
    [TO_TELL, &key.to_bytes()].concat()
}

fn ended_row(key: &JobKey) -> Vec<u8> {
    [ENDED, &key.to_bytes()].concat()
}

impl Engine {
    /// Puts into a job's last batch the message that stops other workers from working on an older copy. There may be
    /// such a copy if the publisher's message, sent again, ended the job.
    pub(super) fn will_report_ended(&self, key: &JobKey, record: &JobRecord, batch: &mut Batch) {
        if self.broker.has_control() && record.copy > 0 && record.copy == record.park_written {
            let what = What::Ended { jobs: vec![key.clone()], run: record.run, park: record.copy };
            let row = to_report_row(key);
            retention::expire_fact(batch, self.now().plus(KEPT), &row);
            batch.put(Table::Meta, row, self.decided("", "", what).to_body(&self.keyring));
        }
    }

    /// Publishes the end after the confirms of the final event and the dead letter. Before them it would be too
    /// early: if this delivery were lost, another worker would ack the job's last copy, and nobody would learn of the
    /// end. True if there is an end to publish.
    pub(super) fn report_ended(&self, key: &JobKey, batch: &mut Batch) -> Result<bool, JournalError> {
        let row = to_report_row(key);
        let Some(body) = self.store.get(Table::Meta, &row)? else { return Ok(false) };
        batch.remove(Table::Meta, row);
        if let Authenticity::Ours(decided) = Decided::read(&body, &self.keyring) {
            self.keep_decision(&decided, batch);
        }
        Ok(true)
    }

    /// Another worker ended the job: its rows here are removed, unless the job went further here.
    pub(super) fn take_ended(&self, key: &JobKey, run: u32, park: u64, batch: &mut Batch) -> Result<(), JournalError> {
        let row = ended_row(key);
        let value = [&run.to_be_bytes()[..], &park.to_be_bytes()].concat();
        retention::expire_fact(batch, self.now().plus(KEPT), &row);
        batch.put(Table::Meta, row, value);
        let known = record_of(&*self.store, key)?;
        let Some(_lock) = self.job_locks.try_take(key) else { return Ok(()) };
        if known.is_some_and(|record| (record.run, record.park_written) < (run, park))
            && ended_of(&*self.store, key)?.is_none()
        {
            self.forget_mirrored(key, batch)?;
            forget_checkpoints(&*self.store, key, batch)?;
        }
        Ok(())
    }

    /// True if another worker published an end of the job that is newer than this copy.
    pub(super) fn ended_elsewhere(&self, key: &JobKey, unsealed: &Unsealed) -> Result<bool, JournalError> {
        let Origin::Ours { run, park, .. } = &unsealed.origin else { return Ok(false) };
        let Some(value) = self.store.get(Table::Meta, &ended_row(key))? else { return Ok(false) };
        let ended = value
            .split_first_chunk::<4>()
            .and_then(|(run, park)| Some((u32::from_be_bytes(*run), u64::from_be_bytes(park.try_into().ok()?))));
        Ok(ended.is_some_and(|ended| (*run, *park) < ended))
    }
}

/// True if a copy holds newer knowledge than the record, apart from its number.
pub(super) fn is_further_on(unsealed: &Unsealed, record: &JobRecord) -> bool {
    let Origin::Ours { carried, .. } = &unsealed.origin else { return false };
    let known = Carried::of(record);
    let mut both = known.clone();
    both.adopt(carried);
    both != known
}

#[cfg(test)]
#[path = "adoption/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

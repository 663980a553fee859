//! What of a job must not go back: gathered for the copies that are published, adopted from those that
//! are taken.
//!
//! The rule it keeps: whoever takes a copy adopts whatever is further on, of the copy and of its own
//! record, before it decides anything about the job. Another worker, with another store, may have had it.

use std::collections::BTreeSet;

use super::Engine;
use super::envelope::{Letter, Origin};
use super::journal::{JobState, Journal, JournalError, record_of};
use crate::job::{Carried, Codes, Entry, JobKey, JobRecord, Lasting, Step, StepName, event};
use crate::store::Batch;

impl Engine {
    /// Adopts what is further on in a copy than in the job's record, and notes which one-time passwords
    /// this process may send. Returns whether the copy told anything new.
    pub(super) fn adopt(&self, journal: &Journal, letter: &Letter) -> Result<bool, JournalError> {
        let is_new = journal.change_record(|record| {
            let Origin::Ours { run, park, carried, .. } = &letter.origin else { return false };
            let before = (record.seq, record.park_written, record.park_confirmed, record.lasting.clone());
            if *run == record.run {
                // It is there, so it was published, by whomever: older ones are stale.
                record.park_written = record.park_written.max(*park);
                record.park_confirmed = record.park_confirmed.max(*park);
            }
            record.seq = record.seq.max(carried.seq);
            record.lasting.adopt(&carried.lasting);
            before != (record.seq, record.park_written, record.park_confirmed, record.lasting.clone())
        });
        let sent = self.codes_sent_elsewhere(journal);
        if is_new || !sent.is_empty() {
            journal.write(&*self.store, sent, Batch::new())?;
        }
        Ok(is_new)
    }

    /// A one-time password that another process sent, or was about to send when it was last heard of,
    /// counts as sent: a second one would make the first worthless in the person's hands.
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

    /// What a copy of the job is to carry, and the record is to keep. `announced`: the targets for which
    /// this process is about to send a one-time password.
    pub(super) fn lasting(&self, state: &JobState, announced: &[u16]) -> Lasting {
        let mut lasting = state.record.lasting.clone();
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
            if announced.contains(&number) {
                let by = Some(self.process.clone());
                lasting.codes.insert(number, Codes { count: count.saturating_add(1), at: self.now(), by });
            } else if let Some(last) = sends.last() {
                lasting.codes.insert(number, Codes { count, at: last.intent_at, by: None });
            }
        }
        lasting
    }

    /// What is known of a job that is not in hand, from its record and from a copy of it.
    pub(super) fn carried_of(&self, key: &JobKey, letter: &Letter) -> Result<Carried, JournalError> {
        let mut known = match &letter.origin {
            Origin::Ours { carried, .. } => (**carried).clone(),
            Origin::Publisher => Carried::default(),
        };
        if let Some(record) = record_of(&*self.store, key)? {
            known.seq = known.seq.max(record.seq);
            known.lasting.adopt(&record.lasting);
        }
        Ok(known)
    }
}

/// Whether a copy is further on than the record in anything but its number.
pub(super) fn is_further_on(letter: &Letter, record: &JobRecord) -> bool {
    let Origin::Ours { carried, .. } = &letter.origin else { return false };
    let mut lasting = record.lasting.clone();
    lasting.adopt(&carried.lasting);
    carried.seq > record.seq || lasting != record.lasting
}

//! The engine's data in the store, typed: job records, journals, endings.
//!
//! The rule it keeps: a private answer enters the store only sealed with the job's own key. That key is derived from
//! the message and never stored.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::named;
use super::receipts::row;
use crate::job::record::{Appended, Event, Undecodable};
use crate::job::{Answer, At, Ended, Entry, JobKey, JobRecord, Step, TargetState};
use crate::seal;
use crate::store::{Batch, Store, StoreError, Table, Ticket};

/// The reason why a job's records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be decoded.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A sealed answer does not open, though the identity is the same.
    #[error("a sealed answer cannot be opened: {0}")]
    Sealed(#[from] seal::SealError),
}

/// Purpose words of keyed digests.
pub(crate) const IDENTITY: &str = "identity";
pub(crate) const BODY: &str = "body";

/// Reads the record of an open job, or the rest of an ended job's record.
pub fn record_of(store: &dyn Store, key: &JobKey) -> Result<Option<JobRecord>, JournalError> {
    let bytes = store.get(Table::Job, &key.to_bytes())?;
    Ok(bytes.map(|bytes| JobRecord::from_bytes(&bytes)).transpose()?)
}

/// Reads an ended job, with its final event.
pub fn ended_of(store: &dyn Store, key: &JobKey) -> Result<Option<Ended>, JournalError> {
    let row = key.to_bytes();
    let Some(bytes) = store.get(Table::Ended, &row)? else { return Ok(None) };
    let mut ended = Ended::from_bytes(&bytes)?;
    ended.published = ended.is_published(store.get(Table::Job, &row)?.is_some());
    if let Some(certified) = &ended.certified {
        let Some(carrier) = row::carrier(store, certified.number)? else {
            // Receipts are forgotten no earlier than their jobs.
            tracing::warn!(job = %key, "the job's receipt was forgotten; the job counts as forgotten too");
            return Ok(None);
        };
        ended.event = Event { id: carrier.id, what: carrier.what, body: carrier.body, at: ended.event.at };
    }
    Ok(Some(ended))
}

/// Reads a job's entries in order, without the content of sealed answers.
pub fn entries_of(store: &dyn Store, key: &JobKey) -> Result<Vec<(Vec<u8>, Appended)>, JournalError> {
    const PAGE: usize = 512;
    let prefix = key.to_bytes();
    let mut all = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(Table::Journal, &prefix, after.as_deref(), PAGE)?;
        let full = page.len() == PAGE;
        for (key, value) in page {
            after = Some(key.clone());
            all.push((key, Appended::from_bytes(&value)?));
        }
        if !full {
            return Ok(all);
        }
    }
}

/// Removes everything from which a job could continue: its record, its journal, the names by which it is found. It
/// needs the keys of the rows alone, so undecodable rows are removed too.
pub(crate) fn forget_checkpoints(store: &dyn Store, key: &JobKey, batch: &mut Batch) -> Result<(), StoreError> {
    const PAGE: usize = 512;
    batch.remove(Table::Job, key.to_bytes());
    named::forget(key, batch);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(Table::Journal, &key.to_bytes(), after.as_deref(), PAGE)?;
        let full = page.len() == PAGE;
        for (row, _) in page {
            after = Some(row.clone());
            batch.remove(Table::Journal, row);
        }
        if !full {
            return Ok(());
        }
    }
}

/// A job in memory: its record and the state of its targets.
pub struct JobState {
    /// The record.
    pub record: JobRecord,
    /// The targets in order.
    pub targets: Vec<TargetState>,
    next_seq: u64,
    keys: Vec<Vec<u8>>,
    tail: Option<Tail>,
    is_distrusted: bool,
    /// True once a write with the record is known to be durable.
    is_recorded: bool,
    /// The one-time passwords that this process announced and has not sent, by target and item.
    pub may_send: BTreeSet<(u16, u32)>,
    /// The targets whose next copy must announce a one-time password.
    pub announces: BTreeSet<u16>,
    /// The time at which the ceilings counted the job, in the write that opened this journal.
    pub counted_at: Option<At>,
    /// True if a ceiling held the job when it was parked.
    pub was_above: bool,
    /// Writes that are not known to be durable yet. On a full disk a later write may find room after an earlier one
    /// did not.
    pending: Vec<Ticket>,
}

/// The journal's last row. Its newest entries wait for the job's next write. Nothing that depends on them
/// becomes durable before them, and a write for them alone would be wasted.
struct Tail {
    row: Vec<u8>,
    appended: Appended,
    /// The number of entries not written yet.
    unwritten: usize,
    since: Instant,
    is_urgent: bool,
    /// The row's bytes at its last write.
    size: usize,
}

impl Tail {
    /// A small row is written again with the next entries: one key less to write and to remove.
    fn takes_more(&self) -> bool {
        self.unwritten > 0 || self.size < ROW_LEAST
    }
}

/// A row of at least this many bytes is followed by another.
const ROW_LEAST: usize = 768;

/// Most entries that wait to be written: a crash costs at most so many repeated reads.
const UNWRITTEN_MOST: usize = 16;
/// Longest time that an entry waits while more entries of the job arrive.
const UNWRITTEN_LONGEST: Duration = Duration::from_millis(500);

/// The journal of a job in hand. All its writes go through here, in order.
pub struct Journal {
    key: JobKey,
    sealer: seal::JobSecret,
    state: Mutex<JobState>,
}

impl Journal {
    /// A new job's journal.
    pub fn new(key: JobKey, sealer: seal::JobSecret, record: JobRecord, targets: usize) -> Journal {
        let targets = vec![TargetState::default(); targets];
        Journal {
            key,
            sealer,
            state: Mutex::new(JobState {
                record,
                targets,
                next_seq: 1,
                keys: Vec::new(),
                tail: None,
                is_distrusted: false,
                is_recorded: false,
                may_send: BTreeSet::new(),
                announces: BTreeSet::new(),
                counted_at: None,
                was_above: false,
                pending: Vec::new(),
            }),
        }
    }

    /// Loads a known job's journal and folds it. Intents without an answer become doubts.
    pub fn load(
        store: &dyn Store,
        key: JobKey,
        sealer: seal::JobSecret,
        record: JobRecord,
        targets: usize,
    ) -> Result<Journal, JournalError> {
        let journal = Journal::new(key, sealer, record, targets);
        {
            let mut guard = journal.lock();
            let state = &mut *guard;
            state.is_recorded = true;
            for (row, mut appended) in entries_of(store, &journal.key)? {
                // The number is read from the row: a full disk may have refused a row before it.
                state.next_seq = number_of(&row).unwrap_or(state.next_seq).max(state.next_seq);
                for (position, sealed) in &appended.sealed {
                    // Sealed with a retired master key. The answer is read from the system again.
                    let opened = journal.sealer.open(&journal.key.to_bytes(), sealed).map(zeroize::Zeroizing::new);
                    let Some(answer) = opened.ok().and_then(|plain| Answer::from_bytes(&plain).ok()) else {
                        tracing::warn!("a sealed answer cannot be opened; it is read from the system again");
                        continue;
                    };
                    if let Some(Entry::Answered { answer: slot, .. }) = appended.entries.get_mut(*position as usize) {
                        *slot = Some(answer);
                    }
                }
                for entry in &appended.entries {
                    fold(&mut state.targets, entry, state.next_seq);
                    state.next_seq += 1;
                }
                state.keys.push(row);
            }
            for target in &mut state.targets {
                target.doubt_open_intents();
            }
        }
        Ok(journal)
    }

    /// Reads the state.
    pub fn with<T>(&self, look: impl FnOnce(&JobState) -> T) -> T {
        look(&self.lock())
    }

    /// Marks the reads as outdated: another worker may have had the job since, or an operator ended its wait. Until
    /// [`Journal::forget_distrusted`] they still show the data that the operator has seen.
    pub fn distrust_reads(&self) {
        self.lock().is_distrusted = true;
    }

    /// Notes that another worker may have worked on the job, and that no copy here carries its changes.
    pub fn note_elsewhere(&self) {
        self.lock().record.seen.elsewhere = true;
    }

    /// True if another worker may have made a change that is unknown here.
    pub fn was_elsewhere(&self) -> bool {
        self.lock().record.seen.elsewhere
    }

    /// Forgets outdated reads, see [`TargetState::forget_first_reads`].
    pub fn forget_distrusted(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_distrusted) {
            state.targets.iter_mut().for_each(TargetState::forget_first_reads);
        }
    }

    /// Changes the record in memory; the next [`Journal::write`] carries it.
    pub fn change_record<T>(&self, change: impl FnOnce(&mut JobRecord) -> T) -> T {
        change(&mut self.lock().record)
    }

    /// Notes the one-time passwords that this process announced on the copy in hand.
    pub fn may_send(&self, codes: BTreeSet<(u16, u32)>) {
        self.lock().may_send = codes;
    }

    /// Notes that a ceiling held the job until this delivery.
    pub fn note_above(&self) {
        self.lock().was_above = true;
    }

    /// The step as which a one-time password may be sent now. If none may be sent, the job's next copy announces it:
    /// then every worker that gets the copy knows of it, whatever its store.
    ///
    /// A password announced again after a failed send has the next number, so knowledge about earlier numbers stays
    /// true.
    pub fn sends(&self, target: u16, step: Step) -> Option<Step> {
        let mut state = self.lock();
        let next = Step::item(step.name, step.item.saturating_add(1));
        let may = [step, next].into_iter().find(|step| state.may_send.contains(&(target, step.item)));
        if may.is_none() {
            state.announces.insert(target);
        }
        may
    }

    /// Notes that the ceilings counted the job in the write that opens it.
    pub fn note_counted(&self, at: Option<At>) {
        self.lock().counted_at = at;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds entries to the state. Answers and ends wait for the job's next write: they are durable before
    /// everything that depends on them, because they go before it or with it. All other entries go to the store at
    /// once, together with the earlier ones.
    pub fn append(&self, store: &dyn Store, entries: Vec<Entry>) -> Result<(), JournalError> {
        let mut guard = self.lock();
        let can_wait = entries.iter().all(|entry| matches!(entry, Entry::Answered { .. } | Entry::Ended { .. }));
        self.hold(&mut guard, entries)?;
        let is_full = |tail: &Tail| {
            tail.unwritten >= UNWRITTEN_MOST || (tail.unwritten > 0 && tail.since.elapsed() >= UNWRITTEN_LONGEST)
        };
        if !can_wait || guard.tail.as_ref().is_some_and(is_full) {
            submit_held(&mut guard, store);
        }
        Ok(())
    }

    /// Writes the unwritten entries if one of them records a change that must not be made twice. It is called before a
    /// call, so that a crash leaves as few doubts as possible.
    pub fn hand_over(&self, store: &dyn Store) {
        let mut guard = self.lock();
        if guard.tail.as_ref().is_some_and(|tail| tail.is_urgent) {
            submit_held(&mut guard, store);
        }
    }

    /// Writes all unwritten entries: the job ends or waits.
    pub fn hand_over_all(&self, store: &dyn Store) {
        submit_held(&mut self.lock(), store);
    }

    /// Writes the record, further entries and the rest of the batch in one step.
    pub fn write(&self, store: &dyn Store, entries: Vec<Entry>, mut batch: Batch) -> Result<(), JournalError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        self.hold(state, entries)?;
        put_held(state, &mut batch);
        batch.put(Table::Job, self.key.to_bytes(), state.record.to_bytes());
        state.pending.push(store.submit(batch));
        Ok(())
    }

    /// Writes the batch that ends the job. With `forget` the journal is removed too, and the record after the final
    /// event's confirm. Returns the tickets of everything not known to be durable, this batch last. If the store
    /// refuses the batch, it may be written again with other bytes.
    pub fn end(&self, store: &dyn Store, mut batch: Batch, forget: bool) -> Vec<Ticket> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if forget {
            state.tail = None;
            for row in &state.keys {
                batch.remove(Table::Journal, row.clone());
            }
        } else {
            // Includes entries from an earlier batch that the store refused.
            put_tail(state, &mut batch);
        }
        // An ended job without a record counts as published. So a record that found no room before is written now.
        if !forget || !state.is_recorded {
            batch.put(Table::Job, self.key.to_bytes(), state.record.to_bytes());
        }
        let mut tickets = std::mem::take(&mut state.pending);
        tickets.push(store.submit(batch));
        tickets
    }

    /// Takes the tickets of the writes that are not known to be durable.
    pub fn pending(&self) -> Vec<Ticket> {
        std::mem::take(&mut self.lock().pending)
    }

    /// Waits until everything written so far is durable.
    pub async fn durable(&self) -> Result<(), StoreError> {
        Ticket::all(self.pending()).await?;
        self.lock().is_recorded = true;
        Ok(())
    }

    /// Adds entries to the state and to the unwritten entries.
    fn hold(&self, state: &mut JobState, entries: Vec<Entry>) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        if !state.tail.as_ref().is_some_and(Tail::takes_more) {
            let mut row = self.key.to_bytes();
            row.extend_from_slice(&state.next_seq.to_be_bytes());
            let appended = Appended { entries: Vec::new(), sealed: Vec::new() };
            state.tail = Some(Tail { row, appended, unwritten: 0, since: Instant::now(), is_urgent: false, size: 0 });
        }
        let Some(tail) = state.tail.as_mut() else { return Ok(()) };
        if tail.unwritten == 0 {
            tail.since = Instant::now();
        }
        for entry in entries {
            fold(&mut state.targets, &entry, state.next_seq);
            state.next_seq += 1;
            tail.unwritten += 1;
            tail.is_urgent |= matches!(&entry, Entry::Answered { step, .. }
                if step.name.needs_intent() && !step.name.repeat_is_recognised());
            let position = tail.appended.entries.len();
            tail.appended.entries.push(match entry {
                Entry::Answered { target, step, answer: Some(answer), at } if answer.is_private() => {
                    let plain = zeroize::Zeroizing::new(answer.to_bytes());
                    let bytes = self.sealer.seal(&self.key.to_bytes(), &plain)?;
                    tail.appended.sealed.push((u32::try_from(position).unwrap_or(u32::MAX), bytes));
                    Entry::Answered { target, step, answer: None, at }
                }
                entry => entry,
            });
        }
        Ok(())
    }
}

fn number_of(row: &[u8]) -> Option<u64> {
    row.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// Puts the unwritten entries into a batch, with the rest of their row.
fn put_held(state: &mut JobState, batch: &mut Batch) {
    if state.tail.as_ref().is_some_and(|tail| tail.unwritten > 0) {
        put_tail(state, batch);
    }
}

/// Puts the last row into a batch.
fn put_tail(state: &mut JobState, batch: &mut Batch) {
    if let Some(tail) = state.tail.as_mut() {
        let bytes = tail.appended.to_bytes();
        if tail.size == 0 {
            state.keys.push(tail.row.clone());
        }
        tail.size = bytes.len();
        tail.unwritten = 0;
        tail.is_urgent = false;
        batch.put(Table::Journal, tail.row.clone(), bytes);
    }
}

fn submit_held(state: &mut JobState, store: &dyn Store) {
    if state.tail.as_ref().is_some_and(|tail| tail.unwritten > 0) {
        let mut batch = Batch::new();
        put_held(state, &mut batch);
        state.pending.push(store.submit(batch));
    }
}

fn fold(targets: &mut [TargetState], entry: &Entry, seq: u64) {
    match entry.target() {
        Some(target) => {
            if let Some(state) = targets.get_mut(usize::from(target)) {
                state.apply(entry, seq);
            }
        }
        None => targets.iter_mut().for_each(|state| state.apply(entry, seq)),
    }
}

/// The states of a job's targets without the job's key: an operator may see these.
pub fn folded(store: &dyn Store, key: &JobKey, targets: usize) -> Result<Vec<TargetState>, JournalError> {
    let mut states = vec![TargetState::default(); targets];
    let mut seq = 0;
    for (_, appended) in entries_of(store, key)? {
        for entry in &appended.entries {
            seq += 1;
            fold(&mut states, entry, seq);
        }
    }
    Ok(states)
}

//! All batches of one folder, and the jobs of their rows.
//!
//! The rule it keeps: memory always has the same content as the files. Nothing is acknowledged before its files are
//! synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::batch::Batch;
use super::disk::{Failed, private, private_dir};
use super::line::{Claim, Digest, KeyedDigest, digest_of};
use super::result::{self, Verdict};
use super::{BatchId, BatchStatus, ExportedBatch, ImportSettings, LedgerError, SettleError, Settlement};
use crate::job::{Failure, JobKey, MemberKey, RowState};

/// The deletion files of one system. Its methods block.
pub struct ImportLedger {
    settings: ImportSettings,
    keyed: KeyedDigest,
    state: Mutex<State>,
    /// Held by the caller that syncs, for all writes before.
    syncing: Mutex<()>,
    broken: AtomicBool,
    _lock: File,
}

impl std::fmt::Debug for ImportLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportLedger").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    batches: BTreeMap<BatchId, Batch>,
    /// The batch that takes rows.
    open: Option<BatchId>,
    /// The row of each value in a file that was not exported: another job may share it.
    joinable: HashMap<Digest, (BatchId, u32)>,
    /// The rows of each value in exported files without a result, oldest first.
    exported: HashMap<Digest, Vec<(BatchId, u32)>>,
    /// The state of each claim's latest row.
    claims: HashMap<Digest, (BatchId, RowState)>,
    /// The number of writes to the open batch, and of those that are synced.
    written: u64,
    synced: u64,
}

impl ImportLedger {
    /// Opens (or creates) the folder, and repairs files that a crash has cut.
    ///
    /// `keyed` must give the same bytes for the same value after every start. With another key, batches without a
    /// result are read from their deletion file; settled batches only have their counts, and [`ImportLedger::state`]
    /// returns `Missing`.
    ///
    /// # Errors
    /// [`LedgerError`]: settings that cannot work, a folder in use, or files with damage that a crash does not cause.
    pub fn open(settings: ImportSettings, keyed: KeyedDigest) -> Result<ImportLedger, LedgerError> {
        if !matches!(settings.key, MemberKey::IntegrationId | MemberKey::MemberId | MemberKey::Email) {
            return Err(LedgerError::Setting { problem: "key must be integration_id, member_id or email" });
        }
        if settings.max_rows == 0 {
            return Err(LedgerError::Setting { problem: "max_rows must be at least 1" });
        }
        private_dir(&settings.dir).map_err(LedgerError::io("create"))?;
        let lock = private().write(true).create(true).truncate(false).open(settings.dir.join("lock"));
        let lock = lock.map_err(LedgerError::io("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::Locked { dir: settings.dir.clone() },
            TryLockError::Error(error) => LedgerError::io("lock")(error),
        })?;
        let state = State::load(&settings, &keyed)?;
        Ok(ImportLedger {
            settings,
            keyed,
            state: Mutex::new(state),
            syncing: Mutex::new(()),
            broken: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// True if the deletion file uses this kind of id.
    pub fn accepts(&self, key: MemberKey) -> bool {
        self.settings.key == key
    }

    /// Writes a member into the deletion file, once. A repetition of the same claim gets its row, while the row has no
    /// result. Another job for the same member shares the row only before the export: a result proves nothing for a
    /// later request. If this claim was settled as deleted, nothing is written; if it was settled otherwise, a new row
    /// is. Returns when the row survives a power cut.
    ///
    /// # Errors
    /// `Rejected` for a value that cannot be written into the file; `Unavailable` if the folder fails: a repetition is
    /// harmless.
    pub fn queue(
        &self,
        job: &JobKey,
        target: usize,
        value: &SecretString,
        now: Timestamp,
    ) -> Result<RowState, Failure> {
        let value = value.expose_secret();
        if value.trim().is_empty() || value.contains(char::is_control) {
            return Err(LedgerError::Value.into());
        }
        let digest = digest_of(&self.keyed, self.settings.key, value);
        let claim = Claim::new(job, target);
        let claimed = claim.digest(&self.keyed, &digest);
        let written = {
            let mut state = self.lock()?;
            match state.claims.get(&claimed) {
                Some((_, RowState::Deleted)) => return Ok(RowState::Deleted),
                Some((_, RowState::Waiting)) => {}
                Some((_, RowState::Skipped | RowState::Missing)) | None => {
                    let batch = self.place(&mut state, value, digest, claim, now)?;
                    state.claims.insert(claimed, (batch, RowState::Waiting));
                }
            }
            state.written
        };
        self.commit(written)?;
        Ok(RowState::Waiting)
    }

    /// A claim's state; `Missing` also for a claim that was never queued or is forgotten.
    pub fn state(&self, job: &JobKey, target: usize, value: &SecretString) -> Result<RowState, Failure> {
        let digest = digest_of(&self.keyed, self.settings.key, value.expose_secret());
        let claimed = Claim::new(job, target).digest(&self.keyed, &digest);
        let state = self.lock()?;
        Ok(state.claims.get(&claimed).map_or(RowState::Missing, |(_, row)| *row))
    }

    /// Closes the open batch if it is full or old enough.
    pub fn close_due(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.close_if_due(&mut *self.lock()?, now)
    }

    /// Exports a deletion file. `None`: closes the open batch, then exports the oldest batch that was never exported, if
    /// there is one. A number: exports that batch, also again, if it is closed and has no result.
    ///
    /// # Errors
    /// [`LedgerError`] if the folder fails.
    pub fn export(&self, id: Option<BatchId>, now: Timestamp) -> Result<Option<ExportedBatch>, LedgerError> {
        let mut state = self.lock()?;
        if id.is_none() {
            self.close(&mut state, now)?;
        }
        let wanted = state.batches.values_mut().find(|batch| {
            let ready = batch.closed_at.is_some() && batch.settled_at.is_none();
            ready && id.map_or(batch.exported_at.is_none(), |id| id == batch.id)
        });
        let Some(batch) = wanted else { return Ok(None) };
        let path = batch.csv_path();
        let csv = Zeroizing::new(fs::read(&path).map_err(LedgerError::io("read"))?);
        let exported = ExportedBatch { id: batch.id, path, rows: batch.count, csv };
        if batch.exported_at.is_none() {
            self.checked("write", batch.mark_exported(now))?;
            state.mark_exported(exported.id);
        }
        Ok(Some(exported))
    }

    /// Reads the platform's result of an import, and settles the exported batch with the same members. The result needs
    /// a header row with the key column and one column whose heading ends in status, result or outcome. A settlement is
    /// final, and removes the deletion file.
    ///
    /// | status | row |
    /// |---|---|
    /// | deleted, success, ok, processed | `Deleted` |
    /// | skipped…, not found…, failed…, error… | `Skipped` |
    /// | anything else, or an incomplete record | `Missing`, counted as doubtful |
    /// | no record | `Missing` |
    ///
    /// Of several records for one member the worst counts.
    ///
    /// # Errors
    /// [`SettleError`]; nothing is settled then.
    pub fn settle(&self, result: impl Read, now: Timestamp) -> Result<Settlement, SettleError> {
        let key = self.settings.key;
        let rows = self.lock()?.exported.clone();
        let mut reported: BTreeMap<BatchId, HashMap<u32, Verdict>> = BTreeMap::new();
        let (mut known, mut unknown) = (BTreeSet::new(), 0);
        let is_ours = |value: &str| rows.contains_key(&digest_of(&self.keyed, key, value));
        result::read(result, key, is_ours, |value, verdict| {
            let digest = digest_of(&self.keyed, key, value);
            let Some(places) = rows.get(&digest) else { return unknown += 1 };
            known.insert(digest);
            for (batch, row) in places {
                let before = reported.entry(*batch).or_default().entry(*row).or_insert(verdict);
                *before = verdict.max(*before);
            }
        })?;
        let batches = reported.keys().map(BatchId::to_string).collect::<Vec<_>>().join(", ");
        // Of several files with all members of the result, the oldest: later requests wait for their own result.
        reported.retain(|_, reported| reported.len() == known.len());
        let Some((id, reported)) = reported.pop_first() else {
            let several = !known.is_empty();
            return Err(if several {
                SettleError::SeveralBatches { batches }
            } else {
                SettleError::NothingMatches { unknown }
            });
        };
        let mut state = self.lock()?;
        let batch = state.batches.get_mut(&id).filter(|batch| batch.settled_at.is_none());
        let Some(batch) = batch else { return Err(SettleError::NothingMatches { unknown }) };
        let states: Vec<RowState> = (0..).take(batch.count).map(|row| state_of(reported.get(&row))).collect();
        self.checked("settle", batch.settle(now, &states))?;
        let count = |wanted| states.iter().filter(|row| **row == wanted).count();
        let settlement = Settlement {
            batch: id,
            deleted: count(RowState::Deleted),
            skipped: count(RowState::Skipped),
            missing: count(RowState::Missing),
            doubtful: reported.values().filter(|verdict| **verdict == Verdict::Doubtful).count(),
            unknown,
        };
        batch.states = states;
        state.index(id, &self.keyed);
        Ok(settlement)
    }

    /// Removes all data of batches settled before a time, and returns their number. A batch stays while a job
    /// (`tenant/id`) of its rows is open: the job may still ask for its row.
    pub fn forget(&self, settled_before: Timestamp, is_open: impl Fn(&str) -> bool) -> Result<usize, LedgerError> {
        let mut state = self.lock()?;
        let old = state.batches.values().filter(|batch| batch.settled_at.is_some_and(|at| at < settled_before));
        let old = old.filter(|batch| batch.jobs().is_ok_and(|jobs| !jobs.iter().any(|job| is_open(job))));
        let old: Vec<BatchId> = old.map(|batch| batch.id).collect();
        let mut failed = None;
        let mut gone = BTreeSet::new();
        for id in old {
            match state.batches.get(&id).map(Batch::remove_log) {
                Some(Err(error)) => failed = Some(error),
                _ => drop(gone.insert(id)),
            }
        }
        state.batches.retain(|id, _| !gone.contains(id));
        state.claims.retain(|_, (batch, _)| !gone.contains(batch));
        failed.map_or(Ok(gone.len()), |error| Err(LedgerError::io("remove")(error)))
    }

    /// All batches, oldest first.
    pub fn batches(&self) -> Result<Vec<BatchStatus>, LedgerError> {
        let status = |batch: &Batch| BatchStatus {
            id: batch.id,
            rows: batch.count,
            opened_at: batch.opened_at,
            closed_at: batch.closed_at,
            exported_at: batch.exported_at,
            settled_at: batch.settled_at,
        };
        Ok(self.lock()?.batches.values().map(status).collect())
    }

    /// Adds the claim to the value's row, or writes a new row.
    fn place(
        &self,
        state: &mut State,
        value: &str,
        digest: Digest,
        claim: Claim,
        now: Timestamp,
    ) -> Result<BatchId, LedgerError> {
        if let Some((id, row)) = state.joinable.get(&digest).copied() {
            let batch = state.batches.get_mut(&id).ok_or(LedgerError::Broken)?;
            self.checked("write", batch.share_row(row, claim))?;
            state.written += 1;
            return Ok(id);
        }
        self.close_if_due(state, now)?;
        let id = match state.open {
            Some(id) => id,
            None => {
                let id = BatchId(state.batches.last_key_value().map_or(1, |(last, _)| last.0 + 1));
                let batch = Batch::create(&self.settings.dir, id, self.settings.key, &self.keyed, now);
                let batch = self.checked("create", batch)?;
                state.batches.insert(id, batch);
                state.open = Some(id);
                id
            }
        };
        let batch = state.batches.get_mut(&id).ok_or(LedgerError::Broken)?;
        let row = u32::try_from(batch.count).map_err(|_| LedgerError::Broken)?;
        self.checked("write", batch.add_row(value, digest, claim))?;
        state.joinable.insert(digest, (id, row));
        state.written += 1;
        self.close_if_due(state, now)?;
        Ok(id)
    }

    fn close_if_due(&self, state: &mut State, now: Timestamp) -> Result<(), LedgerError> {
        let max_age = SignedDuration::try_from(self.settings.max_age).unwrap_or(SignedDuration::MAX);
        let due = state.open.and_then(|id| state.batches.get(&id)).is_some_and(|batch| {
            batch.count >= self.settings.max_rows as usize || now.duration_since(batch.opened_at) >= max_age
        });
        if due { self.close(state, now) } else { Ok(()) }
    }

    fn close(&self, state: &mut State, now: Timestamp) -> Result<(), LedgerError> {
        let Some(batch) = state.open.and_then(|id| state.batches.get_mut(&id)).filter(|batch| batch.count > 0) else {
            return Ok(());
        };
        self.checked("close", batch.close(now))?;
        state.open = None;
        state.synced = state.written;
        Ok(())
    }

    /// Returns when everything up to a write is synced. One caller syncs for all writes before.
    fn commit(&self, written: u64) -> Result<(), LedgerError> {
        let _syncing = self.syncing.lock().map_err(|_| LedgerError::Broken)?;
        let (upto, files) = {
            let state = self.lock()?;
            if state.synced >= written {
                return Ok(());
            }
            let open = state.open.and_then(|id| state.batches.get(&id));
            (state.written, open.map(Batch::files).unwrap_or_default())
        };
        for file in files {
            self.checked("sync", file.sync_data().map_err(Failed::unknown))?;
        }
        let mut state = self.lock()?;
        state.synced = state.synced.max(upto);
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, LedgerError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(LedgerError::Broken);
        }
        self.state.lock().map_err(|_| LedgerError::Broken)
    }

    /// After a failure that leaves the files in an unknown state, the ledger refuses every further call.
    fn checked<T>(&self, what: &'static str, result: Result<T, Failed>) -> Result<T, LedgerError> {
        result.map_err(|failed| {
            if !failed.undone {
                self.broken.store(true, Ordering::Release);
            }
            LedgerError::io(what)(failed.source)
        })
    }
}

/// A row's state, from its verdict in the result.
fn state_of(verdict: Option<&Verdict>) -> RowState {
    match verdict {
        Some(Verdict::Deleted) => RowState::Deleted,
        Some(Verdict::Skipped) => RowState::Skipped,
        Some(Verdict::Doubtful) | None => RowState::Missing,
    }
}

impl State {
    fn load(settings: &ImportSettings, keyed: &KeyedDigest) -> Result<State, LedgerError> {
        let mut found = std::collections::BTreeSet::new();
        for entry in fs::read_dir(&settings.dir).map_err(LedgerError::io("read"))? {
            let name = entry.map_err(LedgerError::io("read"))?.file_name();
            found.extend(name.to_str().and_then(BatchId::of_file));
        }
        let mut state = State::default();
        for id in found {
            if let Some(batch) = Batch::load(&settings.dir, id, settings.key, keyed)? {
                if batch.closed_at.is_none() && batch.settled_at.is_none() {
                    let before = state.open.replace(id).and_then(|before| state.batches.get_mut(&before));
                    // Only a damaged folder has two open batches: the older one is closed.
                    before
                        .map_or(Ok(()), |before| before.close(batch.opened_at))
                        .map_err(|failed| LedgerError::io("close")(failed.source))?;
                }
                state.batches.insert(id, batch);
                state.index(id, keyed);
            }
        }
        Ok(state)
    }

    /// Adds a batch's rows to the indexes; drops the rows of a settled batch.
    fn index(&mut self, id: BatchId, keyed: &KeyedDigest) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        let settled = batch.settled_at.is_some();
        for (index, row) in (0..).zip(&batch.rows) {
            let state = batch.states.get(index as usize).copied().unwrap_or(RowState::Waiting);
            if settled {
                if let Some(places) = self.exported.get_mut(&row.digest) {
                    places.retain(|(batch, _)| *batch != id);
                    if places.is_empty() {
                        self.exported.remove(&row.digest);
                    }
                }
            } else if batch.exported_at.is_some() {
                self.exported.entry(row.digest).or_default().push((id, index));
            } else {
                self.joinable.insert(row.digest, (id, index));
            }
            for claim in row.claims.iter().filter(|_| batch.is_readable) {
                self.claims.insert(claim.digest(keyed, &row.digest), (id, state));
            }
        }
        if settled {
            batch.rows = Vec::new();
            batch.states = Vec::new();
        }
    }

    /// Notes that a batch was exported: its rows are no longer shared, and a result may settle them.
    fn mark_exported(&mut self, id: BatchId) {
        let Some(batch) = self.batches.get(&id) else { return };
        for (index, row) in (0..).zip(&batch.rows) {
            self.joinable.remove(&row.digest);
            self.exported.entry(row.digest).or_default().push((id, index));
        }
    }
}

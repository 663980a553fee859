//! All batches of one folder, and who waits in which.
//!
//! The rule it keeps: what is in memory is what reading the files again would give; nothing is
//! acknowledged before its files were synced.

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
use super::result::{self, Said};
use super::{BatchId, BatchStatus, ExportedBatch, ImportSettings, LedgerError, SettleError, Settlement};
use crate::job::{Failure, JobKey, MemberKey, RowState};

/// The deletion files of one system. Its methods block.
pub struct ImportLedger {
    settings: ImportSettings,
    keyed: KeyedDigest,
    state: Mutex<State>,
    /// Held by the one caller that syncs for all who wrote before it.
    turn: Mutex<()>,
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
    /// Where each value waits that was not handed out yet: there another job may join it.
    joinable: HashMap<Digest, (BatchId, u32)>,
    /// Where each value stands in files that were handed out and have no result, oldest first.
    handed_out: HashMap<Digest, Vec<(BatchId, u32)>>,
    /// What became of each claim; of a repeated one the latest.
    claims: HashMap<Digest, (BatchId, RowState)>,
    /// Writes to the open batch, and how many of them were synced.
    written: u64,
    synced: u64,
}

impl ImportLedger {
    /// Opens (or makes) the folder, and mends what a crash left.
    ///
    /// `keyed` must give the same bytes for the same value on every start. Under another key
    /// batches without a result are read from their deletion file; of settled ones only the
    /// counts are left, and [`ImportLedger::state`] says `Missing`.
    ///
    /// # Errors
    /// [`LedgerError`]: settings that cannot work, a folder in use, files no crash can explain.
    pub fn open(settings: ImportSettings, keyed: KeyedDigest) -> Result<ImportLedger, LedgerError> {
        if !matches!(settings.key, MemberKey::IntegrationId | MemberKey::MemberId | MemberKey::Email) {
            return Err(LedgerError::Setting { problem: "key must be integration_id, member_id or email" });
        }
        if settings.max_rows == 0 {
            return Err(LedgerError::Setting { problem: "max_rows must be at least 1" });
        }
        private_dir(&settings.dir).map_err(LedgerError::io("make"))?;
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
            turn: Mutex::new(()),
            broken: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// Whether the deletion file is keyed by this kind of id.
    pub fn accepts(&self, key: MemberKey) -> bool {
        self.settings.key == key
    }

    /// Puts a member into the deletion file, once: a repeat gets the row that is there while it has no
    /// result, another job for the same member only while the file was not handed out: its result proves
    /// nothing that was asked for later. Where this very claim was settled as
    /// deleted, says so and writes nothing; where it was settled otherwise, a new row is written.
    /// Returns when the row survives a power cut.
    ///
    /// # Errors
    /// `Rejected` for a value that cannot stand in the file; `Unavailable` where the folder fails:
    /// asking again is harmless.
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

    /// Where a claim stands; `Missing` also where it was never queued or is forgotten.
    pub fn state(&self, job: &JobKey, target: usize, value: &SecretString) -> Result<RowState, Failure> {
        let digest = digest_of(&self.keyed, self.settings.key, value.expose_secret());
        let claimed = Claim::new(job, target).digest(&self.keyed, &digest);
        let state = self.lock()?;
        Ok(state.claims.get(&claimed).map_or(RowState::Missing, |(_, row)| *row))
    }

    /// Closes the open batch where it is full or old enough.
    pub fn close_due(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.close_if_due(&mut *self.lock()?, now)
    }

    /// Hands out a deletion file. With `None` the open batch is closed, and the oldest that was
    /// never handed out is given, if there is one; with a number that batch, again if need be,
    /// as long as it is closed and has no result.
    ///
    /// # Errors
    /// [`LedgerError`] where the folder fails.
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
            self.done("write", batch.mark_exported(now))?;
            state.hand_out(exported.id);
        }
        Ok(Some(exported))
    }

    /// Takes the platform's result of an import. It belongs to the exported batch whose members it
    /// names. Needs a header row with the key column and one column whose heading ends in status,
    /// result or outcome. A batch once settled stays so, and its deletion file is removed.
    ///
    /// | status | row |
    /// |---|---|
    /// | deleted, success, ok, processed | `Deleted` |
    /// | skipped…, not found…, failed…, error… | `Skipped` |
    /// | anything else, or a record cut off | `Missing`, counted as doubtful |
    /// | not named | `Missing` |
    ///
    /// Of several records for one member the least favourable counts.
    ///
    /// # Errors
    /// [`SettleError`]; nothing is settled then.
    pub fn settle(&self, result: impl Read, now: Timestamp) -> Result<Settlement, SettleError> {
        let key = self.settings.key;
        let rows = self.lock()?.handed_out.clone();
        let mut told: BTreeMap<BatchId, HashMap<u32, Said>> = BTreeMap::new();
        let (mut known, mut unknown) = (BTreeSet::new(), 0);
        let is_ours = |value: &str| rows.contains_key(&digest_of(&self.keyed, key, value));
        result::read(result, key, is_ours, |value, said| {
            let digest = digest_of(&self.keyed, key, value);
            let Some(places) = rows.get(&digest) else { return unknown += 1 };
            known.insert(digest);
            for (batch, row) in places {
                let before = told.entry(*batch).or_default().entry(*row).or_insert(said);
                *before = said.max(*before);
            }
        })?;
        let batches = told.keys().map(BatchId::to_string).collect::<Vec<_>>().join(", ");
        // Of files that all hold every member named, the oldest: what was asked for later waits for its own.
        told.retain(|_, told| told.len() == known.len());
        let Some((id, told)) = told.pop_first() else {
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
        let states: Vec<RowState> = (0..).take(batch.count).map(|row| state_of(told.get(&row))).collect();
        self.done("settle", batch.settle(now, &states))?;
        let count = |wanted| states.iter().filter(|row| **row == wanted).count();
        let settlement = Settlement {
            batch: id,
            deleted: count(RowState::Deleted),
            skipped: count(RowState::Skipped),
            missing: count(RowState::Missing),
            doubtful: told.values().filter(|said| **said == Said::Doubtful).count(),
            unknown,
        };
        batch.states = states;
        state.take_in(id, &self.keyed);
        Ok(settlement)
    }

    /// Forgets batches settled before a time, and gives how many: nothing of them is left. A batch is kept while a
    /// job (`tenant/id`) of its rows is open: the job may still ask for its row.
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

    /// Writes the claim into the row that its value has, else into a new one.
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
            self.done("write", batch.share_row(row, claim))?;
            state.written += 1;
            return Ok(id);
        }
        self.close_if_due(state, now)?;
        let id = match state.open {
            Some(id) => id,
            None => {
                let id = BatchId(state.batches.last_key_value().map_or(1, |(last, _)| last.0 + 1));
                let batch = Batch::create(&self.settings.dir, id, self.settings.key, &self.keyed, now);
                let batch = self.done("create", batch)?;
                state.batches.insert(id, batch);
                state.open = Some(id);
                id
            }
        };
        let batch = state.batches.get_mut(&id).ok_or(LedgerError::Broken)?;
        let row = u32::try_from(batch.count).map_err(|_| LedgerError::Broken)?;
        self.done("write", batch.add_row(value, digest, claim))?;
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
        self.done("close", batch.close(now))?;
        state.open = None;
        state.synced = state.written;
        Ok(())
    }

    /// Returns once everything up to a write is synced; one caller syncs for all who wrote before.
    fn commit(&self, written: u64) -> Result<(), LedgerError> {
        let _turn = self.turn.lock().map_err(|_| LedgerError::Broken)?;
        let (upto, files) = {
            let state = self.lock()?;
            if state.synced >= written {
                return Ok(());
            }
            let open = state.open.and_then(|id| state.batches.get(&id));
            (state.written, open.map(Batch::files).unwrap_or_default())
        };
        for file in files {
            self.done("sync", file.sync_data().map_err(Failed::lasting))?;
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

    /// After a failure that leaves the files unknown nothing more is done or believed.
    fn done<T>(&self, what: &'static str, result: Result<T, Failed>) -> Result<T, LedgerError> {
        result.map_err(|failed| {
            if !failed.undone {
                self.broken.store(true, Ordering::Release);
            }
            LedgerError::io(what)(failed.source)
        })
    }
}

/// What a row's state is by what the result says of it.
fn state_of(said: Option<&Said>) -> RowState {
    match said {
        Some(Said::Deleted) => RowState::Deleted,
        Some(Said::Skipped) => RowState::Skipped,
        Some(Said::Doubtful) | None => RowState::Missing,
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
                    // Only a damaged folder has two: the older takes no more rows.
                    before
                        .map_or(Ok(()), |before| before.close(batch.opened_at))
                        .map_err(|failed| LedgerError::io("close")(failed.source))?;
                }
                state.batches.insert(id, batch);
                state.take_in(id, keyed);
            }
        }
        Ok(state)
    }

    /// Makes a batch's rows findable, and lets go of what a settled one no longer needs.
    fn take_in(&mut self, id: BatchId, keyed: &KeyedDigest) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        let settled = batch.settled_at.is_some();
        for (index, row) in (0..).zip(&batch.rows) {
            let state = batch.states.get(index as usize).copied().unwrap_or(RowState::Waiting);
            if settled {
                if let Some(places) = self.handed_out.get_mut(&row.digest) {
                    places.retain(|(batch, _)| *batch != id);
                    if places.is_empty() {
                        self.handed_out.remove(&row.digest);
                    }
                }
            } else if batch.exported_at.is_some() {
                self.handed_out.entry(row.digest).or_default().push((id, index));
            } else {
                self.joinable.insert(row.digest, (id, index));
            }
            for claim in row.claims.iter().filter(|_| batch.legible) {
                self.claims.insert(claim.digest(keyed, &row.digest), (id, state));
            }
        }
        if settled {
            batch.rows = Vec::new();
            batch.states = Vec::new();
        }
    }

    /// A batch was handed out: nobody joins its rows any more, and a result may name them.
    fn hand_out(&mut self, id: BatchId) {
        let Some(batch) = self.batches.get(&id) else { return };
        for (index, row) in (0..).zip(&batch.rows) {
            self.joinable.remove(&row.digest);
            self.handed_out.entry(row.digest).or_default().push((id, index));
        }
    }
}

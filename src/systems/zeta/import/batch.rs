//! The two files of one batch: the deletion file, and a log of its rows and their jobs.
//!
//! The rule it keeps: both files only grow, and the log names no member. After a cut at any byte, reading them gives
//! only whole rows that are in both files.
//!
//! `batch-000001.csv` is the file for the platform: a header row and one column. `batch-000001.rows` has one JSON value
//! in each line: `opened`, then `row` (the value's keyed digest, the row's end in the deletion file, its job), `shared`
//! (another job for the same row), `closed`, `exported`, `settled` (one letter for each row). A settled batch has only
//! the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::disk::{Appended, Failed, private, read_or_empty, remove, sync_dir};
use super::line::{Claim, Digest, KeyedDigest, Line, Row, VERSION, digest_of, heading, record, value_of};
use super::{BatchId, LedgerError};
use crate::job::{MemberKey, RowState};

/// A batch, as read from its files.
pub(super) struct Batch {
    pub id: BatchId,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub exported_at: Option<Timestamp>,
    pub settled_at: Option<Timestamp>,
    /// The number of rows; unchanged when `rows` are dropped.
    pub count: usize,
    /// The rows; the ledger drops them after the settlement.
    pub rows: Vec<Row>,
    /// The state of each row; empty before the settlement, dropped with `rows`.
    pub states: Vec<RowState>,
    /// False if the log was written with another digest key: its rows cannot be recognised.
    pub is_readable: bool,
    dir: PathBuf,
    csv: Option<Appended>,
    log: Option<Appended>,
}

impl Batch {
    /// Creates both files of a new batch, or none. Both are durable before a row is written.
    pub fn create(
        dir: &Path,
        id: BatchId,
        key: MemberKey,
        keyed: &KeyedDigest,
        opened_at: Timestamp,
    ) -> Result<Batch, Failed> {
        let mut batch = Batch::named(dir, id, opened_at);
        let made = batch.make_files(key, keyed);
        made.map_err(|failed| Failed {
            undone: batch.remove_csv().and_then(|()| batch.remove_log()).is_ok(),
            ..failed
        })?;
        Ok(batch)
    }

    fn make_files(&mut self, key: MemberKey, keyed: &KeyedDigest) -> Result<(), Failed> {
        // The log first: so a deletion file without a log never had an acknowledged row.
        let mut log = Appended::open(&self.log_path(), true)?;
        log.append(&self.opened(key, keyed).bytes()?)?;
        log.file.sync_all()?;
        let mut csv = Appended::open(&self.csv_path(), true)?;
        csv.append(&record(heading(key))?)?;
        csv.file.sync_all()?;
        sync_dir(&self.dir)?;
        (self.csv, self.log) = (Some(csv), Some(log));
        Ok(())
    }

    fn named(dir: &Path, id: BatchId, opened_at: Timestamp) -> Batch {
        Batch {
            id,
            opened_at,
            closed_at: None,
            exported_at: None,
            settled_at: None,
            count: 0,
            rows: Vec::new(),
            states: Vec::new(),
            is_readable: true,
            dir: dir.to_owned(),
            csv: None,
            log: None,
        }
    }

    /// Reads a batch, and repairs files that a crash has cut. `None` if no row was ever acknowledged; its files are
    /// then removed.
    pub fn load(dir: &Path, id: BatchId, key: MemberKey, keyed: &KeyedDigest) -> Result<Option<Batch>, LedgerError> {
        let mut batch = Batch::named(dir, id, Timestamp::UNIX_EPOCH);
        let corrupt = || LedgerError::Corrupt { file: id.file_name("rows") };
        let log = read_or_empty(&batch.log_path()).map_err(LedgerError::io("read"))?;
        let csv = Zeroizing::new(read_or_empty(&batch.csv_path()).map_err(LedgerError::io("read"))?);
        let Some(first) = log.iter().position(|byte| *byte == b'\n') else {
            batch.remove_csv().and_then(|()| batch.remove_log()).map_err(LedgerError::io("remove"))?;
            return Ok(None);
        };
        let Some(Line::Opened { version: VERSION, key: written_for, check, opened_at }) = Line::parse(&log[..first])
        else {
            return Err(corrupt());
        };
        batch.opened_at = opened_at;
        batch.is_readable = check == batch.check(keyed);
        let whole = batch.replay(&log[first + 1..]).ok_or_else(corrupt)?;
        if batch.settled_at.is_some() {
            if batch.states.len() != batch.rows.len() {
                return Err(corrupt());
            }
            batch.remove_csv().map_err(LedgerError::io("remove"))?;
            return Ok(Some(batch));
        }
        if written_for != key.as_str() {
            return Err(LedgerError::OtherKey { file: id.file_name("csv"), key: written_for });
        }
        let logged = batch.rows.len();
        let end = batch.keep_rows_in_both_files(&csv, key, keyed);
        if batch.rows.len() < logged {
            let lost = logged - batch.rows.len();
            tracing::warn!(batch = %id, lost, "rows were dropped: they were never acknowledged, or their file is damaged");
        }
        if batch.rows.is_empty() {
            batch.remove_csv().and_then(|()| batch.remove_log()).map_err(LedgerError::io("remove"))?;
            return Ok(None);
        }
        let sound = whole && batch.is_readable && batch.rows.len() == logged && end == csv.len() as u64;
        batch.is_readable = true;
        batch.make_durable(sound, end, key, keyed).map_err(LedgerError::io("repair"))?;
        Ok(Some(batch))
    }

    /// The jobs (`tenant/id`) of its rows, from the log: a settled batch has no rows in memory.
    pub fn jobs(&self) -> io::Result<Vec<String>> {
        let log = read_or_empty(&self.log_path())?;
        let mut logged = Batch::named(&self.dir, self.id, self.opened_at);
        let first = log.iter().position(|byte| *byte == b'\n').map_or(log.len(), |end| end + 1);
        logged.replay(log.get(first..).unwrap_or_default());
        Ok(logged.rows.into_iter().flat_map(|row| row.claims).map(|claim| claim.job).collect())
    }

    /// Applies the log's lines up to the first incomplete line. `Some(false)` if lines were left out; `None` if a line
    /// contradicts the lines before it.
    fn replay(&mut self, mut log: &[u8]) -> Option<bool> {
        while let Some(end) = log.iter().position(|byte| *byte == b'\n') {
            let Some(line) = Line::parse(&log[..end]) else { break };
            log = &log[end + 1..];
            match line {
                Line::Opened { .. } => return None,
                Line::Row { digest, end, job, target } => {
                    let digest = hex::decode(digest).ok()?.try_into().ok()?;
                    self.rows.push(Row { digest, end, claims: vec![Claim { job, target }] });
                }
                // Earlier releases added jobs to rows of an exported file. The file's result proves nothing for such a
                // job: its row counts as missing.
                Line::Shared { row, .. } if self.exported_at.is_some() => drop(self.rows.get(row as usize)?),
                Line::Shared { row, job, target } => {
                    self.rows.get_mut(row as usize)?.claims.push(Claim { job, target });
                }
                Line::Closed { closed_at } => self.closed_at = Some(closed_at),
                Line::Exported { exported_at } => self.exported_at = Some(exported_at),
                Line::Settled { settled_at, states } => {
                    self.settled_at = Some(settled_at);
                    self.states = super::line::states(&states)?;
                }
            }
        }
        self.count = self.rows.len();
        Some(log.is_empty())
    }

    /// Drops the first row that is not whole in the deletion file, and all rows after it. Returns the end of the last
    /// whole row. If the digest key has changed, the digests are calculated again.
    fn keep_rows_in_both_files(&mut self, csv: &[u8], key: MemberKey, keyed: &KeyedDigest) -> u64 {
        let header = record(heading(key)).unwrap_or_default();
        let mut end = if csv.starts_with(&header) { header.len() } else { 0 };
        let mut good = 0;
        for row in &mut self.rows {
            let next = usize::try_from(row.end).unwrap_or(usize::MAX);
            let Some(value) = csv.get(end..next).filter(|_| end > 0).and_then(value_of) else { break };
            let digest = digest_of(keyed, key, &value);
            if self.is_readable && digest != row.digest {
                break;
            }
            row.digest = digest;
            (end, good) = (next, good + 1);
        }
        self.rows.truncate(good);
        self.count = good;
        end as u64
    }

    /// Syncs the files that were read: they may never have been synced, and their rows may be acknowledged only then.
    fn make_durable(&mut self, sound: bool, end: u64, key: MemberKey, keyed: &KeyedDigest) -> io::Result<()> {
        let csv = Appended::open(&self.csv_path(), false)?;
        csv.file.set_len(end)?;
        csv.file.sync_all()?;
        if !sound {
            let path = self.dir.join(self.id.file_name("tmp"));
            let mut fresh = private().write(true).create(true).truncate(true).open(&path)?;
            fresh.write_all(&self.log_bytes(key, keyed)?)?;
            fresh.sync_all()?;
            fs::rename(&path, self.log_path())?;
        }
        let log = Appended::open(&self.log_path(), false)?;
        log.file.sync_all()?;
        sync_dir(&self.dir)?;
        if self.closed_at.is_none() {
            self.csv = Some(Appended { length: end, ..csv });
            self.log = Some(log);
        }
        Ok(())
    }

    fn log_bytes(&self, key: MemberKey, keyed: &KeyedDigest) -> io::Result<Vec<u8>> {
        let mut bytes = self.opened(key, keyed).bytes()?;
        for row in &self.rows {
            if let Some(claim) = row.claims.first() {
                bytes.extend(Line::row(row, claim).bytes()?);
            }
        }
        for (index, row) in (0..).zip(&self.rows) {
            for Claim { job, target } in row.claims.iter().skip(1) {
                bytes.extend(Line::Shared { row: index, job: job.clone(), target: *target }.bytes()?);
            }
        }
        for line in [
            self.closed_at.map(|closed_at| Line::Closed { closed_at }),
            self.exported_at.map(|exported_at| Line::Exported { exported_at }),
        ] {
            bytes.extend(line.map(|line| line.bytes()).transpose()?.unwrap_or_default());
        }
        Ok(bytes)
    }

    /// Adds a row to an open batch; it is durable after a sync of [`Batch::files`]. An error shows whether both files
    /// are unchanged.
    pub(crate) fn add_row(&mut self, value: &str, digest: Digest, claim: Claim) -> Result<(), Failed> {
        let (Some(csv), Some(log)) = (&mut self.csv, &mut self.log) else { return Err(Failed::closed()) };
        let bytes = Zeroizing::new(record(value)?);
        let row = Row { digest, end: csv.length + bytes.len() as u64, claims: Vec::new() };
        let line = Line::row(&row, &claim).bytes()?;
        let before = csv.length;
        csv.append(&bytes)?;
        log.append(&line).map_err(|failed| match csv.cut(before) {
            Ok(()) => failed,
            Err(_) => Failed { undone: false, ..failed },
        })?;
        self.rows.push(Row { claims: vec![claim], ..row });
        self.count += 1;
        Ok(())
    }

    /// Adds another job to a row. In an open batch this is durable after a sync of [`Batch::files`]; in a closed batch
    /// at once.
    pub(crate) fn share_row(&mut self, row: u32, claim: Claim) -> Result<(), Failed> {
        self.write(&Line::Shared { row, job: claim.job.clone(), target: claim.target })?;
        if let Some(row) = self.rows.get_mut(row as usize) {
            row.claims.push(claim);
        }
        Ok(())
    }

    /// Closes the batch: it takes no more rows. Everything written so far is then durable.
    pub fn close(&mut self, closed_at: Timestamp) -> Result<(), Failed> {
        if let Some(csv) = &self.csv {
            csv.file.sync_data().map_err(Failed::unknown)?;
        }
        self.write(&Line::Closed { closed_at })?;
        if let Some(log) = &self.log {
            log.file.sync_data().map_err(Failed::unknown)?;
        }
        (self.csv, self.log, self.closed_at) = (None, None, Some(closed_at));
        Ok(())
    }

    /// Notes that the deletion file was exported.
    pub(crate) fn mark_exported(&mut self, exported_at: Timestamp) -> Result<(), Failed> {
        self.write(&Line::Exported { exported_at })?;
        self.exported_at = Some(exported_at);
        Ok(())
    }

    /// Notes each row's result, then removes the deletion file.
    pub fn settle(&mut self, settled_at: Timestamp, states: &[RowState]) -> Result<(), Failed> {
        self.write(&Line::Settled { settled_at, states: super::line::letters(states) })?;
        self.settled_at = Some(settled_at);
        self.remove_csv().map_err(Failed::unknown)
    }

    fn write(&mut self, line: &Line) -> Result<(), Failed> {
        let bytes = line.bytes()?;
        if let Some(log) = &mut self.log {
            return log.append(&bytes);
        }
        let mut log = Appended::open(&self.log_path(), false)?;
        log.append(&bytes)?;
        log.file.sync_data().map_err(Failed::unknown)
    }

    /// The files of an open batch, to be synced.
    pub fn files(&self) -> Vec<Arc<File>> {
        [&self.csv, &self.log].into_iter().flatten().map(|appended| appended.file.clone()).collect()
    }

    /// Removes the deletion file, durably.
    fn remove_csv(&self) -> io::Result<()> {
        remove(&self.dir, &self.csv_path())
    }

    /// Removes the log, durably.
    pub(crate) fn remove_log(&self) -> io::Result<()> {
        remove(&self.dir, &self.log_path())
    }

    /// The deletion file.
    pub(crate) fn csv_path(&self) -> PathBuf {
        self.dir.join(self.id.file_name("csv"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(self.id.file_name("rows"))
    }

    fn check(&self, keyed: &KeyedDigest) -> String {
        hex::encode(keyed(format!("batch\0{}", self.id).as_bytes()))
    }

    fn opened(&self, key: MemberKey, keyed: &KeyedDigest) -> Line {
        Line::Opened {
            version: VERSION,
            key: key.as_str().to_owned(),
            check: self.check(keyed),
            opened_at: self.opened_at,
        }
    }
}

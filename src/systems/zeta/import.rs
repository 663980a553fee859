//! The deletion files of the Loyalty platform: the members in each file, and their results.
//!
//! The rule it keeps: a member is in at most one file that was not exported, however many jobs need it. A row is
//! acknowledged only when it survives a power cut. It counts as deleted only if the platform's result says so.
//!
//! A batch is open (takes rows), then closed (by size, age or export), then settled by the platform's result. Its files
//! are plain text and independent of the main store. Everything here blocks.

mod batch;
mod disk;
mod ledger;
mod line;
mod result;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

pub use ledger::ImportLedger;
pub use line::KeyedDigest;

use crate::job::{Failure, FailureKind, MemberKey, Note, Reason};
use jiff::Timestamp;

/// The folder of the deletion files, and the limits at which they are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSettings {
    /// The folder, for this only; created with mode 0700.
    pub dir: PathBuf,
    /// The kind of id in the platform's import definition: `integration_id`, `member_id` or `email`.
    pub key: MemberKey,
    /// The number of rows at which a batch is closed; at least 1.
    pub max_rows: u32,
    /// The age of its first row at which a batch is closed.
    pub max_age: Duration,
}

/// A batch's number; part of its files' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u64);

impl BatchId {
    fn file_name(self, extension: &str) -> String {
        format!("batch-{self}.{extension}")
    }

    /// The batch of a file with this name.
    fn of_file(name: &str) -> Option<BatchId> {
        let (number, extension) = name.strip_prefix("batch-")?.split_once('.')?;
        matches!(extension, "csv" | "rows").then_some(())?;
        number.parse().ok()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl FromStr for BatchId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(BatchId)
    }
}

/// An exported deletion file. Its `Debug` form is without the file's content.
pub struct ExportedBatch {
    /// Its number.
    pub id: BatchId,
    /// The file's path.
    pub path: PathBuf,
    /// The number of members in it.
    pub rows: usize,
    /// The file's content: a header row, one column, UTF-8, `\n` line ends.
    pub csv: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ExportedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedBatch").field("id", &self.id).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A batch's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStatus {
    /// Its number.
    pub id: BatchId,
    /// The number of members in it.
    pub rows: usize,
    /// The time of its first row.
    pub opened_at: Timestamp,
    /// The time at which it was closed.
    pub closed_at: Option<Timestamp>,
    /// The time of its first export.
    pub exported_at: Option<Timestamp>,
    /// The time of its result.
    pub settled_at: Option<Timestamp>,
}

/// A batch's result. Deleted, skipped and missing rows together are all rows of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The batch.
    pub batch: BatchId,
    /// Rows that the result reports as deleted.
    pub deleted: usize,
    /// Rows that it reports as skipped, not found or failed.
    pub skipped: usize,
    /// Rows that it does not contain, or without a readable status.
    pub missing: usize,
    /// Of the missing rows, those with an unknown status.
    pub doubtful: usize,
    /// Rows of the result that are in no exported file without a result.
    pub unknown: usize,
}

/// A result was refused, and nothing is settled. Shows nothing of the file's rows.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// No column for the key, or none for the status.
    #[error("missing headers in file: needed \"{wanted}\" and a status column, found {found}")]
    MissingHeaders {
        /// The key column's heading.
        wanted: &'static str,
        /// The headings found; a heading that may be personal data only by its number.
        found: String,
    },
    /// More than one column could be the key or the status.
    #[error("more than one key or status column in file, found {found}: remove the wrong columns")]
    AmbiguousHeaders {
        /// The headings found, as above.
        found: String,
    },
    /// A record of more than 1 MiB: most often because a quote is not closed.
    #[error("a record of the file is longer than 1 MiB: is a quote not closed?")]
    RecordTooLong,
    /// A quote joins lines that look like separate records.
    #[error("lines {first} to {last} are one record, because a quote is not closed or is in the wrong place")]
    Damaged {
        /// Its first line.
        first: u64,
        /// Its last line.
        last: u64,
    },
    /// The file could not be read.
    #[error("the file could not be read: {kind}")]
    Unreadable {
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// No row belongs to a file that was exported and has no result yet.
    #[error("no row of the file is in an exported batch without a result ({unknown} rows)")]
    NothingMatches {
        /// The number of its rows.
        unknown: usize,
    },
    /// The rows belong to several batches: one platform result answers one file.
    #[error("the file has rows of several batches ({batches}): settle each batch's result separately")]
    SeveralBatches {
        /// Their numbers.
        batches: String,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// An operation of the ledger failed. Names no member.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process, or another system of this process, uses the folder.
    #[error("the import folder {dir} is in use by another process or system")]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// Settings that cannot work.
    #[error("import: {problem}")]
    Setting {
        /// The problem, in fixed words.
        problem: &'static str,
    },
    /// A batch without a result has another kind of id.
    #[error(
        "{file} has no result yet and lists members by {key}: settle it with import.key = \"{key}\", or use another \
         folder"
    )]
    OtherKey {
        /// The file.
        file: String,
        /// Its key.
        key: String,
    },
    /// A log is damaged in a way that a crash does not cause.
    #[error("{file} is damaged or of another version: restore it, or move the batch's files away")]
    Corrupt {
        /// The file.
        file: String,
    },
    /// The value cannot be written into the file: it is empty or has control characters.
    #[error("the member's id is empty or has control characters")]
    Value,
    /// Input or output failed.
    #[error("the import folder: {what} failed: {kind}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// The content of the disk is unknown: a sync or a repair failed.
    #[error("the import folder failed earlier; repair the disk, then restart the worker")]
    Broken,
}

impl LedgerError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> LedgerError {
        move |error| LedgerError::Io { what, kind: error.kind() }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        let (kind, reason) = match error {
            LedgerError::Value => (FailureKind::Rejected, Reason::RequestRejected),
            _ => (FailureKind::Unavailable, Reason::SystemUnavailable),
        };
        let note = match &error {
            LedgerError::Io { what, kind } => Note::from("the import folder: ").and(what).and(" failed: ").kind(*kind),
            LedgerError::Value => "the member's id is empty or has control characters".into(),
            _ => "the import folder cannot be used".into(),
        };
        Failure::new(kind, reason).with_note(note)
    }
}

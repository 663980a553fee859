//! The deletion file of the Loyalty platform: which members wait in which file, and what became of
//! them.
//!
//! The rule it keeps: a member stands in exactly one file that has no result yet, however many jobs
//! ask for it; a row is acknowledged only when it survives a power cut; and it counts as deleted
//! only where the platform's result names it so.
//!
//! A batch is open (takes rows), then closed (by size, by age or by an export), then settled by the
//! platform's result. Its files are plain and independent of the main store. Everything here blocks.

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

/// Where deletion files are kept, and when they are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSettings {
    /// A folder of its own; made with mode 0700.
    pub dir: PathBuf,
    /// The one kind of id that the platform's import definition is keyed by: `integration_id`,
    /// `member_id` or `email`.
    pub key: MemberKey,
    /// A batch is closed when it has this many rows; at least 1.
    pub max_rows: u32,
    /// A batch takes no more rows when its first is this old.
    pub max_age: Duration,
}

/// A batch's number, as in its files' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u64);

impl BatchId {
    fn file_name(self, extension: &str) -> String {
        format!("batch-{self}.{extension}")
    }

    /// The number of the batch that a file of this name belongs to.
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

/// A deletion file handed out. Without the file's content in its `Debug` form.
pub struct ExportedBatch {
    /// Its number.
    pub id: BatchId,
    /// Where the file lies.
    pub path: PathBuf,
    /// How many members it names.
    pub rows: usize,
    /// The file: a header row, one column, UTF-8, `\n` line ends.
    pub csv: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ExportedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedBatch").field("id", &self.id).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStatus {
    /// Its number.
    pub id: BatchId,
    /// How many members it names.
    pub rows: usize,
    /// When its first row came.
    pub opened_at: Timestamp,
    /// When it stopped taking rows.
    pub closed_at: Option<Timestamp>,
    /// When it was first handed out.
    pub exported_at: Option<Timestamp>,
    /// When its result came.
    pub settled_at: Option<Timestamp>,
}

/// What a result said of a batch. The first three add up to the batch's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The batch that the result belongs to.
    pub batch: BatchId,
    /// Rows that it names as deleted.
    pub deleted: usize,
    /// Rows that it names as skipped, not found or failed.
    pub skipped: usize,
    /// Rows that it does not name, or says nothing readable of.
    pub missing: usize,
    /// Of the missing, those that it names with a status that we do not know.
    pub doubtful: usize,
    /// Rows of the result that are none of ours.
    pub unknown: usize,
}

/// Why a result was not taken. Nothing is settled then. Shows nothing of the file's rows.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// No column for the key, or none for the status.
    #[error("missing headers in file: needed \"{wanted}\" and a status column, found {found}")]
    MissingHeaders {
        /// The key column's heading.
        wanted: &'static str,
        /// The headings found; those that may be somebody's data by number only.
        found: String,
    },
    /// More than one column could be the key or the status.
    #[error("more than one key or status column in file, found {found}: remove the columns that are not meant")]
    AmbiguousHeaders {
        /// The headings found, as above.
        found: String,
    },
    /// A record of more than 1 MiB: most often a quote that is never closed.
    #[error("a record of the file is longer than 1 MiB: is a quote not closed?")]
    RecordTooLong,
    /// A quote joins lines that look like records of their own.
    #[error("lines {first} to {last} are one record, because a quote is not closed or stands in the wrong place")]
    Damaged {
        /// Where it begins.
        first: u64,
        /// Where it ends.
        last: u64,
    },
    /// The file could not be read.
    #[error("the file could not be read: {kind}")]
    Unreadable {
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// No row belongs to a file that was exported and has no result yet.
    #[error("the file names no member of an exported batch without a result ({unknown} rows are none of ours)")]
    NothingMatches {
        /// How many rows it has.
        unknown: usize,
    },
    /// The rows belong to several batches: one platform result answers one file.
    #[error("the file names members of several batches ({batches}): give each result on its own")]
    SeveralBatches {
        /// Their numbers.
        batches: String,
    },
    /// The ledger could not do it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why the ledger could not do what was asked. Names no member.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process (or another system of this one) has the folder.
    #[error("the import folder {dir} is in use by another process or system")]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// Settings that cannot work.
    #[error("import: {problem}")]
    Setting {
        /// What is wrong, in fixed words.
        problem: &'static str,
    },
    /// A batch without a result is keyed by another kind of id.
    #[error(
        "{file} has no result yet and is keyed by {key}: settle it with import.key = \"{key}\", or use another folder"
    )]
    OtherKey {
        /// The file.
        file: String,
        /// Its key.
        key: String,
    },
    /// A log that no crash can explain.
    #[error("{file} is damaged or of another version: restore it, or move the batch's files away")]
    Corrupt {
        /// The file.
        file: String,
    },
    /// The value cannot stand in the file: empty, or with control characters.
    #[error("the member's id is empty or has control characters")]
    Value,
    /// Input or output failed.
    #[error("the import folder: {what} failed: {kind}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// What is on the disk is no longer known: a sync or a repair failed.
    #[error("the import folder failed earlier; start again once the disk is sound")]
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

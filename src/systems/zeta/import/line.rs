//! The bytes of the two files of a batch.
//!
//! The rule it keeps: a member's value is written into the deletion file only; a log line has its keyed digest.

use std::io;
use std::sync::Arc;

use csv::ReaderBuilder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::job::{JobKey, MemberKey, RowState};

/// Digests a value to 16 bytes, with a key that is never stored with the files.
pub type KeyedDigest = Arc<dyn Fn(&[u8]) -> [u8; 16] + Send + Sync>;
/// The digest of a value, or of a job's claim on it.
pub(super) type Digest = [u8; 16];

/// The log's format; any other is refused.
pub(super) const VERSION: u8 = 1;

/// A job's target that waits for a row's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Tenant and job id.
    pub job: String,
    /// The target's index.
    pub target: u32,
}

impl Claim {
    pub fn new(job: &JobKey, target: usize) -> Claim {
        Claim { job: job.to_string(), target: u32::try_from(target).unwrap_or(u32::MAX) }
    }

    /// The digest of this claim on a value.
    pub fn digest(&self, keyed: &KeyedDigest, value: &Digest) -> Digest {
        let mut bytes = b"claim\0".to_vec();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(&self.target.to_be_bytes());
        bytes.extend_from_slice(self.job.as_bytes());
        keyed(&bytes)
    }
}

/// One row of the deletion file, without its value.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub digest: Digest,
    /// Its end in the deletion file.
    pub end: u64,
    /// The targets that wait for it; never empty.
    pub claims: Vec<Claim>,
}

/// One line of a log.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Opened { version: u8, key: String, check: String, opened_at: Timestamp },
    Row { digest: String, end: u64, job: String, target: u32 },
    Shared { row: u32, job: String, target: u32 },
    Closed { closed_at: Timestamp },
    Exported { exported_at: Timestamp },
    Settled { settled_at: Timestamp, states: String },
}

impl Line {
    pub fn row(row: &Row, claim: &Claim) -> Line {
        Line::Row { digest: hex::encode(row.digest), end: row.end, job: claim.job.clone(), target: claim.target }
    }

    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a line without its line end; `None` if it is incomplete.
    pub fn parse(line: &[u8]) -> Option<Line> {
        serde_json::from_slice(line).ok()
    }
}

/// The states of a settled batch, one letter for each row.
pub(super) fn letters(states: &[RowState]) -> String {
    let letter = |state: &RowState| match state {
        RowState::Deleted => 'd',
        RowState::Skipped => 's',
        RowState::Missing => 'm',
        RowState::Waiting => 'w',
    };
    states.iter().map(letter).collect()
}

/// The reverse of [`letters`].
pub(super) fn states(letters: &str) -> Option<Vec<RowState>> {
    let state = |letter: char| match letter {
        'd' => Some(RowState::Deleted),
        's' => Some(RowState::Skipped),
        'm' => Some(RowState::Missing),
        'w' => Some(RowState::Waiting),
        _ => None,
    };
    letters.chars().map(state).collect()
}

/// The heading of the deletion file's column: the key's name on the platform's import screens.
pub(super) const fn heading(key: MemberKey) -> &'static str {
    match key {
        MemberKey::IntegrationId => "Integration ID",
        MemberKey::MemberId => "Member ID",
        MemberKey::Email => "Email",
        MemberKey::CardId => "Card ID",
        MemberKey::DatabaseId => "Database ID",
    }
}

/// One row of the deletion file, with quotes if necessary, and its line end.
pub(super) fn record(value: &str) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([value])?;
    writer.into_inner().map_err(|error| io::Error::from(error.error().kind()))
}

/// The reverse of [`record`]; `None` if it is not one whole row.
pub(super) fn value_of(record: &[u8]) -> Option<Zeroizing<String>> {
    record.last().filter(|byte| **byte == b'\n')?;
    let mut records = ReaderBuilder::new().has_headers(false).from_reader(record).into_records();
    let value = records.next()?.ok().filter(|record| record.len() == 1)?;
    records.next().is_none().then(|| Zeroizing::new(value[0].to_owned()))
}

/// The digest by which a value is recognised: without outer white space; e-mail addresses in lower case.
pub(super) fn digest_of(keyed: &KeyedDigest, key: MemberKey, value: &str) -> Digest {
    let value = value.trim();
    let value = Zeroizing::new(if key == MemberKey::Email { value.to_lowercase() } else { value.to_owned() });
    keyed(&[b"value\0", value.as_bytes()].concat())
}

//! The platform's result of an import, read row by row.
//!
//! The rule it keeps: a row counts as deleted only where a whole record says so in a word we know;
//! memory does not grow with the file, and no error shows what stands in it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};
use zeroize::Zeroize;

use super::SettleError;
use super::line::heading;
use crate::job::MemberKey;

/// No record of a result file is longer; a quote that is never closed would swallow the rest.
const RECORD_MAX: u64 = 1 << 20;

/// What the result says of a row. The order is that of caution: of two records for one row the
/// greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// Deleted.
    Deleted,
    /// Not deleted: skipped, not found, failed.
    Skipped,
    /// Something in no word that we know, or cut off.
    Doubtful,
}

/// Reads a result, calling `each` with the key and what is said of it.
pub(super) fn read(result: impl Read, key: MemberKey, mut each: impl FnMut(&str, Said)) -> Result<(), SettleError> {
    let watch = Watch::default();
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(Watched { inner: result, watch: watch.clone() });
    let mut record = ByteRecord::new();
    let mut next = |record: &mut ByteRecord| -> Result<bool, SettleError> {
        watch.since_record.set(0);
        reader.read_byte_record(record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData => SettleError::RecordTooLong,
            csv::ErrorKind::Io(error) => SettleError::Unreadable { kind: error.kind() },
            _ => SettleError::Unreadable { kind: io::ErrorKind::InvalidData },
        })
    };
    if !next(&mut record)? {
        return Err(missing(&record, key));
    }
    let columns = Columns::find(&record, key)?;
    // One record behind, because only the file's end shows whether its last record is whole.
    let mut held = ByteRecord::new();
    let mut holding = false;
    while next(&mut record)? {
        if holding {
            columns.tell(&held, false, &mut each);
        }
        std::mem::swap(&mut held, &mut record);
        holding = true;
    }
    if holding {
        let cut = !matches!(watch.last.get(), b'\n' | b'\r');
        columns.tell(&held, cut, &mut each);
    }
    Ok(())
}

struct Columns {
    key: usize,
    status: usize,
}

impl Columns {
    fn find(header: &ByteRecord, key: MemberKey) -> Result<Columns, SettleError> {
        let headings: Vec<String> = header.iter().map(plain).collect();
        let wanted = plain(heading(key).as_bytes());
        let named = |matches: &dyn Fn(&str) -> bool| -> Vec<usize> {
            headings.iter().enumerate().filter(|(_, heading)| matches(heading)).map(|(column, _)| column).collect()
        };
        let keys = named(&|heading| heading == wanted || (key == MemberKey::Email && heading == "emailaddress"));
        let statuses = named(&|heading| ["status", "result", "outcome"].iter().any(|word| heading.ends_with(word)));
        match (keys[..].first(), statuses[..].first()) {
            (None, _) | (_, None) => Err(missing(header, key)),
            (Some(_), Some(_)) if keys.len() > 1 || statuses.len() > 1 => {
                Err(SettleError::AmbiguousHeaders { found: shown(header) })
            }
            (Some(key), Some(status)) => Ok(Columns { key: *key, status: *status }),
        }
    }

    fn tell(&self, record: &ByteRecord, cut: bool, each: &mut impl FnMut(&str, Said)) {
        let Some(key) = record.get(self.key) else { return };
        let mut key = String::from_utf8_lossy(key).trim().to_owned();
        if !key.is_empty() {
            // A record cut off in its last field names another member, or says less than it did.
            let last = record.len().saturating_sub(1);
            let doubtful = cut && (self.key == last || record.get(self.status).is_none());
            let said = if doubtful { Said::Doubtful } else { record.get(self.status).map_or(Said::Doubtful, said) };
            each(&key, said);
        }
        key.zeroize();
    }
}

fn said(status: &[u8]) -> Said {
    let status = String::from_utf8_lossy(status).to_lowercase();
    let words: Vec<&str> = status.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["deleted" | "success" | "ok" | "processed"] => Said::Deleted,
        ["skipped" | "failed" | "error", ..] | ["not", "found", ..] => Said::Skipped,
        _ => Said::Doubtful,
    }
}

/// A heading by its letters and digits alone, in lower case.
fn plain(heading: &[u8]) -> String {
    String::from_utf8_lossy(heading).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn missing(header: &ByteRecord, key: MemberKey) -> SettleError {
    SettleError::MissingHeaders { wanted: heading(key), found: shown(header) }
}

/// Headings that may be shown. Where the header row is missing the first row is a member's, so
/// anything else is shown as a column number.
fn shown(header: &ByteRecord) -> String {
    const KNOWN: [&str; 15] = [
        "integrationid",
        "memberid",
        "email",
        "emailaddress",
        "cardid",
        "databaseid",
        "id",
        "status",
        "result",
        "outcome",
        "importstatus",
        "importresult",
        "message",
        "error",
        "row",
    ];
    let columns = header.iter().enumerate().map(|(column, heading)| match plain(heading) {
        known if KNOWN.contains(&known.as_str()) => known,
        _ => format!("column {} (not shown)", column + 1),
    });
    let columns: Vec<String> = columns.take(20).collect();
    if columns.is_empty() { "nothing".to_owned() } else { columns.join(", ") }
}

/// What is told of the bytes as they pass.
#[derive(Clone, Default)]
struct Watch {
    since_record: Rc<Cell<u64>>,
    last: Rc<Cell<u8>>,
}

struct Watched<R> {
    inner: R,
    watch: Watch,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.since_record.get() > RECORD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.inner.read(buffer)?;
        self.watch.since_record.set(self.watch.since_record.get() + read as u64);
        if let Some(last) = buffer[..read].last() {
            self.watch.last.set(*last);
        }
        Ok(read)
    }
}

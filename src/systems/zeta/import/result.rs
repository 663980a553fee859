//! The platform's result of an import, read row by row.
//!
//! The rule it keeps: a row counts as deleted only where a whole record says so in a word we know;
//! memory does not grow with the file, and no error shows what stands in it.

use std::io::Read;

use zeroize::{Zeroize, Zeroizing};

use super::SettleError;
use super::line::heading;
use crate::job::MemberKey;
use crate::rows::{Fault, Record, Records, decoded};

const DELIMITER: u8 = b',';

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

/// Reads a result, calling `each` with the key and what is said of it. A quote that may hide records,
/// or lend one the word of another, ends it: the file as a whole says nothing then. `is_ours` knows the
/// members that a record may speak of.
pub(super) fn read(
    result: impl Read,
    key: MemberKey,
    is_ours: impl Fn(&str) -> bool,
    mut each: impl FnMut(&str, Said),
) -> Result<(), SettleError> {
    let mut records = Records::new(decoded(result), DELIMITER);
    let mut record = Record::default();
    let mut next = |record: &mut Record| -> Result<bool, SettleError> {
        records.read(record).map_err(|error| SettleError::Unreadable { kind: error.kind() })
    };
    if !next(&mut record)? {
        return Err(missing(&record, key));
    }
    whole(&record)?;
    let columns = Columns::find(&record, key)?;
    while next(&mut record)? {
        whole(&record)?;
        if columns.hides(&record, &is_ours) {
            return Err(damaged(&record));
        }
        columns.tell(&record, &mut each);
    }
    Ok(())
}

fn damaged(record: &Record) -> SettleError {
    SettleError::Damaged { first: record.first, last: record.last }
}

/// Refuses a record whose quotes alone say that it may hold others.
fn whole(record: &Record) -> Result<(), SettleError> {
    match record.fault {
        Some(Fault::TooLong) => Err(SettleError::RecordTooLong),
        // On the last line, a record that is cut off says little, and hides none.
        Some(Fault::Unclosed | Fault::AfterQuote) if record.first < record.last => Err(damaged(record)),
        _ => Ok(()),
    }
}

struct Columns {
    key: usize,
    status: usize,
    width: usize,
}

impl Columns {
    fn find(header: &Record, key: MemberKey) -> Result<Columns, SettleError> {
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
            (Some(key), Some(status)) => Ok(Columns { key: *key, status: *status, width: header.len() }),
        }
    }

    /// True where a record may hide another: where, its quotes set aside, a line names one of ours who
    /// is not the one that the record names, or where two lines name one. A record of one line with
    /// the header's columns, and quotes as they should be, hides none.
    fn hides(&self, record: &Record, is_ours: &impl Fn(&str) -> bool) -> bool {
        if record.first == record.last && record.fault.is_none() && record.len() == self.width {
            return false;
        }
        let text = |cell: &[u8]| Zeroizing::new(String::from_utf8_lossy(cell).trim().to_owned());
        let own = record.get(self.key).map(text);
        let mut without_quotes = record.raw().split(|byte| matches!(byte, b'\r' | b'\n')).filter_map(|line| {
            let cell = line.split(|byte| *byte == DELIMITER).nth(self.key)?;
            Some(text(&cell.iter().copied().filter(|byte| *byte != b'"').collect::<Vec<u8>>()))
        });
        let is_other = |key: Zeroizing<String>| own.as_ref() != Some(&key) && is_ours(&key);
        if without_quotes.any(is_other) {
            return true;
        }
        let lines = if record.first < record.last { record.lines(DELIMITER) } else { Vec::new() };
        let keys = lines.iter().filter_map(|line| line.get(self.key)).map(|cell| text(cell));
        let ours: Vec<_> = keys.filter(|key| is_ours(key)).collect();
        ours.len() > 1 || ours.iter().any(|key| own.as_ref() != Some(key))
    }

    /// True where key and status of a record stand on different lines: the status may be another's.
    fn is_apart(&self, record: &Record) -> bool {
        let (key, status) = (record.get(self.key), record.get(self.status));
        // A status of several lines says nothing but its one word, or is in doubt for that.
        if record.first == record.last || status.is_none_or(|text| text.contains(&b'\n') || text.contains(&b'\r')) {
            return false;
        }
        let is_both = |line: &Vec<Vec<u8>>| {
            line.get(self.key).map(Vec::as_slice) == key && line.get(self.status).map(Vec::as_slice) == status
        };
        !record.lines(DELIMITER).iter().any(is_both)
    }

    fn tell(&self, record: &Record, each: &mut impl FnMut(&str, Said)) {
        let Some(key) = record.get(self.key) else { return };
        let mut key = String::from_utf8_lossy(key).trim().to_owned();
        if !key.is_empty() {
            // A record cut off in its last field names another member, or says less than it did. One
            // with a quote in the middle of a field may have its fields in other places.
            let last = record.len().saturating_sub(1);
            let is_cut = !record.has_end && (self.key == last || record.get(self.status).is_none());
            let doubtful = is_cut || record.fault.is_some() || self.is_apart(record);
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

fn missing(header: &Record, key: MemberKey) -> SettleError {
    SettleError::MissingHeaders { wanted: heading(key), found: shown(header) }
}

/// Headings that may be shown. Where the header row is missing the first row is a member's, so
/// anything else is shown as a column number.
fn shown(header: &Record) -> String {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What is said of each member; none where the file says nothing.
    fn told(text: &str) -> Option<BTreeMap<String, Said>> {
        let mut told = BTreeMap::new();
        let is_ours = |key: &str| key.starts_with("INT-");
        read(text.as_bytes(), MemberKey::IntegrationId, is_ours, |key, said| {
            let before = told.entry(key.to_owned()).or_insert(said);
            *before = said.max(*before);
        })
        .ok()?;
        Some(told)
    }

    #[test]
    fn one_or_two_quotes_anywhere_in_a_result_never_make_a_member_deleted_whom_it_calls_otherwise() {
        let heads = ["Integration ID,Status,Message", "Message,Integration ID,Status", "Status,Message,Integration ID"];
        let records = [
            ["INT-1", "deleted", ""],
            ["INT-2", "pending", "a"],
            ["X-1", "deleted", "b"],
            ["INT-1", "waits", ""],
            ["INT-3", "failed", "c"],
            ["INT-4", "ok", ""],
        ];
        let (mut tried, mut refused) = (0, 0);
        for (turn, head) in heads.iter().enumerate() {
            let line = |[id, status, message]: [&str; 3]| match turn {
                0 => format!("{id},{status},{message}\n"),
                1 => format!("{message},{id},{status}\n"),
                _ => format!("{status},{message},{id}\n"),
            };
            let text = format!("{head}\n{}", records.map(line).concat());
            let of = |told: &BTreeMap<String, Said>, wanted: Said| -> Vec<String> {
                told.iter().filter(|(_, said)| **said == wanted).map(|(id, _)| id.clone()).collect()
            };
            assert_eq!(of(&told(&text).unwrap(), Said::Deleted), ["INT-4", "X-1"]);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut damaged = text.clone();
                    damaged.insert(second, '"');
                    if second > first {
                        damaged.insert(first, '"');
                    }
                    tried += 1;
                    let Some(told) = told(&damaged) else {
                        refused += 1;
                        continue;
                    };
                    let deleted = of(&told, Said::Deleted);
                    let is_right = |id: &String| !id.starts_with("INT-") || id == "INT-4";
                    assert!(deleted.iter().all(is_right), "{deleted:?}: {damaged:?}");
                }
            }
        }
        assert!(tried > 19_000 && refused > 1_000 && refused < tried, "{refused} of {tried}");
    }

    #[test]
    fn a_message_of_several_lines_hides_nothing_and_is_taken() {
        let text = "Integration ID,Status,Message\r\nINT-1,deleted,\"gone,\r\nand, so, on\"\r\nINT-2,failed,\"a \"\"b\"\"\"\r\n";
        let told = told(text).unwrap();
        assert_eq!(told, BTreeMap::from([("INT-1".to_owned(), Said::Deleted), ("INT-2".to_owned(), Said::Skipped)]));
    }
}

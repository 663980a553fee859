//! Reads the platform's result of an import, row by row.
//!
//! The rule it keeps: a row counts as deleted only if a whole record says so with a known word. Memory does not grow
//! with the file, and no error shows its content.

use std::io::Read;

use zeroize::{Zeroize, Zeroizing};

use super::SettleError;
use super::line::heading;
use crate::csv::{Fault, Record, Records, decoded};
use crate::job::MemberKey;

const DELIMITER: u8 = b',';

/// The result's verdict on a row. The later variant is the safer one: of two records for one row the greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Deleted.
    Deleted,
    /// Not deleted: skipped, not found, failed.
    Skipped,
    /// An unknown word, or an incomplete record.
    Doubtful,
}

/// Reads a result, and calls `each` with each key and its verdict. A quote that may hide records, or give one record
/// the status of another, is an error: the whole file then counts for nothing. `is_ours` is true for the members of our
/// files.
pub(super) fn read(
    result: impl Read,
    key: MemberKey,
    is_ours: impl Fn(&str) -> bool,
    mut each: impl FnMut(&str, Verdict),
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
        columns.report(&record, &mut each);
    }
    Ok(())
}

fn damaged(record: &Record) -> SettleError {
    SettleError::Damaged { first: record.first, last: record.last }
}

/// Refuses a record whose quotes show that it may contain others.
fn whole(record: &Record) -> Result<(), SettleError> {
    match record.fault {
        Some(Fault::TooLong) => Err(SettleError::RecordTooLong),
        // An incomplete record on the last line hides no other.
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

    /// True if a record may hide another: if, without its quotes, a line names another of our members than the record
    /// does, or if two lines name one. A record of one line with the header's columns and correct quotes hides none.
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

    /// True if key and status of a record are on different lines: the status may be another member's.
    fn is_apart(&self, record: &Record) -> bool {
        let (key, status) = (record.get(self.key), record.get(self.status));
        // A status of several lines is doubtful anyway, unless it is one known word with blank lines.
        if record.first == record.last || status.is_none_or(|text| text.contains(&b'\n') || text.contains(&b'\r')) {
            return false;
        }
        let is_both = |line: &Vec<Vec<u8>>| {
            line.get(self.key).map(Vec::as_slice) == key && line.get(self.status).map(Vec::as_slice) == status
        };
        !record.lines(DELIMITER).iter().any(is_both)
    }

    fn report(&self, record: &Record, each: &mut impl FnMut(&str, Verdict)) {
        let Some(key) = record.get(self.key) else { return };
        let mut key = String::from_utf8_lossy(key).trim().to_owned();
        if !key.is_empty() {
            // A record that is cut in its last field may name another member, or have lost its status. In a record with
            // a quote in the middle of a field, the fields may be in the wrong columns.
            let last = record.len().saturating_sub(1);
            let is_cut = !record.has_end && (self.key == last || record.get(self.status).is_none());
            let doubtful = is_cut || record.fault.is_some() || self.is_apart(record);
            let verdict =
                if doubtful { Verdict::Doubtful } else { record.get(self.status).map_or(Verdict::Doubtful, verdict) };
            each(&key, verdict);
        }
        key.zeroize();
    }
}

fn verdict(status: &[u8]) -> Verdict {
    let status = String::from_utf8_lossy(status).to_lowercase();
    let words: Vec<&str> = status.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["deleted" | "success" | "ok" | "processed"] => Verdict::Deleted,
        ["skipped" | "failed" | "error", ..] | ["not", "found", ..] => Verdict::Skipped,
        _ => Verdict::Doubtful,
    }
}

/// A heading's letters and digits, in lower case.
fn plain(heading: &[u8]) -> String {
    String::from_utf8_lossy(heading).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn missing(header: &Record, key: MemberKey) -> SettleError {
    SettleError::MissingHeaders { wanted: heading(key), found: shown(header) }
}

/// The headings that may be shown. If the header row is missing, the first row is a member's: so an unknown heading is
/// shown as a column number.
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

    /// The verdict on each member; none if the file is refused.
    fn reported(text: &str) -> Option<BTreeMap<String, Verdict>> {
        let mut reported = BTreeMap::new();
        let is_ours = |key: &str| key.starts_with("INT-");
        read(text.as_bytes(), MemberKey::IntegrationId, is_ours, |key, verdict| {
            let before = reported.entry(key.to_owned()).or_insert(verdict);
            *before = verdict.max(*before);
        })
        .ok()?;
        Some(reported)
    }

    #[test]
    fn one_or_two_quotes_anywhere_in_a_result_never_make_a_member_deleted_that_it_reports_otherwise() {
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
            let of = |reported: &BTreeMap<String, Verdict>, wanted: Verdict| -> Vec<String> {
                reported.iter().filter(|(_, verdict)| **verdict == wanted).map(|(id, _)| id.clone()).collect()
            };
            assert_eq!(of(&reported(&text).unwrap(), Verdict::Deleted), ["INT-4", "X-1"]);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut damaged = text.clone();
                    damaged.insert(second, '"');
                    if second > first {
                        damaged.insert(first, '"');
                    }
                    tried += 1;
                    let Some(reported) = reported(&damaged) else {
                        refused += 1;
                        continue;
                    };
                    let deleted = of(&reported, Verdict::Deleted);
                    let is_right = |id: &String| !id.starts_with("INT-") || id == "INT-4";
                    assert!(deleted.iter().all(is_right), "{deleted:?}: {damaged:?}");
                }
            }
        }
        assert!(tried > 19_000 && refused > 1_000 && refused < tried, "{refused} of {tried}");
    }

    #[test]
    fn a_message_of_several_lines_hides_nothing_and_is_accepted() {
        let text = "Integration ID,Status,Message\r\nINT-1,deleted,\"gone,\r\nand, so, on\"\r\nINT-2,failed,\"a \"\"b\"\"\"\r\n";
        let reported = reported(text).unwrap();
        assert_eq!(
            reported,
            BTreeMap::from([("INT-1".to_owned(), Verdict::Deleted), ("INT-2".to_owned(), Verdict::Skipped)])
        );
    }
}

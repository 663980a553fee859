//! Reads a CSV file of members row by row.
//!
//! The rule it keeps: every row is a member, or is reported with its line and its fault. Damage that may hide rows is
//! reported before anything is published.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::repeats::{Repeat, SeenMembers};
use super::shape::Shape;
use super::table::{DELIMITERS, ReadError, Table};
use crate::csv::{Fault, Record};

/// One row.
pub struct Row {
    /// Its first line; the first of the file is 1.
    pub line: u64,
    /// Its last line.
    #[cfg(test)]
    pub last: u64,
    /// Its values, in the order of the requested columns; or its fault.
    pub values: Result<Vec<Zeroizing<String>>, String>,
    /// The offset of its end in the file, in bytes.
    pub offset: u64,
    /// True if it may contain other rows, or parts of them.
    pub is_damage: bool,
}

/// The SHA-256 of a file.
///
/// # Errors
/// The file cannot be read.
pub fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut sha, mut part) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(sha.finalize().into()),
            count => sha.update(&part[..count]),
        }
    }
}

/// A checked file: the form of its members, and its damage.
pub struct Reading {
    table: Table,
    shape: Shape,
    rows: usize,
    /// The first damaged rows: line and fault.
    pub damages: Vec<(u64, String)>,
    /// The number of damaged rows.
    pub damaged: u64,
    /// Possible faults.
    pub warnings: Vec<String>,
}

/// The most damaged rows that are printed.
const SHOWN: usize = 50;

impl Reading {
    /// Reads a file twice: first for the form of its members, then for damage. The first of `columns` has the members.
    ///
    /// # Errors
    /// The file cannot be read, or has no such columns, or no row.
    pub fn begin(path: &Path, columns: &[String]) -> Result<Reading, ReadError> {
        let table = Table::open(path, columns)?;
        let mut shape = Shape::default();
        let mut warnings = Vec::new();
        table.each(|record| {
            if let Ok(values) = values(record, &table) {
                shape.add(record.first, &values[0]);
            }
            let ends_in_value = table.places.contains(&(record.len() - 1));
            if record.is_open_ended && record.fault.is_none() && ends_in_value {
                warnings.push(format!("line {}: no end of line: is the file whole, and its last value?", record.last));
            }
            Ok(true)
        })?;
        warnings.extend(shape.cut_zeros());
        let (mut damages, mut damaged, mut rows) = (Vec::new(), 0, 0);
        table.each(|record| {
            let row = row(record, &table, &shape);
            rows += 1;
            if let (Err(note), true) = (&row.values, row.is_damage) {
                damaged += 1;
                if damages.len() < SHOWN {
                    damages.push((row.line, note.clone()));
                }
            }
            Ok(true)
        })?;
        if rows == 0 {
            return Err(ReadError::NoRow);
        }
        Ok(Reading { table, shape, rows, damages, damaged, warnings })
    }

    /// Calls `each` with every row until it returns false. A row that repeats a member has no values.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each(self, mut each: impl FnMut(Row) -> bool) -> Result<(), ReadError> {
        let mut members = SeenMembers::new(self.rows);
        self.table.each(|record| {
            let mut row = row(record, &self.table, &self.shape);
            match row.values.as_ref().ok().and_then(|values| members.add(row.line, values)) {
                None => {}
                Some(Repeat::Same { first }) => row.values = Err(format!("{DUPLICATE} as in line {first}")),
                Some(Repeat::Other { first }) => {
                    let note = "once more, with other values: write them into one row";
                    row.values = Err(format!("the member of line {first} {note}"));
                }
            }
            Ok(each(row))
        })
    }
}

/// The beginning of the note on a row that repeats a member with the same values.
pub(crate) const DUPLICATE: &str = "the same member";

fn row(record: &Record, table: &Table, shape: &Shape) -> Row {
    let damage = damage(record, table, shape);
    let is_damage = damage.is_some();
    let values = match damage {
        Some(note) => Err(note),
        None if record.first < record.last => {
            values(record, table).map_err(|note| format!("{note} (a row up to line {})", record.last))
        }
        None => values(record, table),
    };
    Row {
        line: record.first,
        #[cfg(test)]
        last: record.last,
        values,
        offset: record.end,
        is_damage,
    }
}

/// The fault of a row that may contain other rows or parts of them.
fn damage(record: &Record, table: &Table, shape: &Shape) -> Option<String> {
    let (first, last) = (record.first, record.last);
    let opened = record.opened.unwrap_or(first);
    let swallowed = format!("lines {first} to {last} are one row, because a quote opens in line {opened}");
    match record.fault {
        Some(Fault::TooLong) => Some(
            "the row is longer than 1 MiB: is a quote not closed? Nothing from here on can be read as rows".to_owned(),
        ),
        Some(Fault::Unclosed) if first == last => {
            Some("a quote is not closed where the file ends: is the file cut off?".to_owned())
        }
        Some(Fault::Unclosed) => Some(format!("{swallowed} and is never closed")),
        Some(Fault::AfterQuote) if first < last => {
            Some(format!("{swallowed}, and the next quote is in the middle of a value"))
        }
        _ if table.is_utf16 && record.raw().windows(LOST.len()).any(|part| part == LOST) => {
            Some("invalid characters: has a byte of the file been lost or added?".to_owned())
        }
        _ => {
            let is_row = |cells: &[Vec<u8>]| {
                cells.len() >= table.width && cells.get(table.places[0]).is_some_and(|cell| shape.is_like(cell))
            };
            let is_hiding = record.holds_rows(table.delimiter, is_row);
            is_hiding.then(|| format!("{swallowed}, and more than one of these lines looks like a row"))
        }
    }
}

/// The replacement character for bytes that cannot be decoded, U+FFFD.
const LOST: &[u8] = b"\xef\xbf\xbd";

fn values(record: &Record, table: &Table) -> Result<Vec<Zeroizing<String>>, String> {
    if record.fault.is_some() {
        return Err("a quote in the middle of a value, or a character after the closing quote".to_owned());
    }
    // Spreadsheets write delimiters for empty cells.
    let filled = record.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
    let width = record.len().min(filled.max(table.width));
    if width != table.width {
        return Err(format!("{width} fields where the header has {}", table.width));
    }
    if table.width == 1
        && !record.raw().starts_with(b"\"")
        && record.raw().iter().any(|byte| DELIMITERS.contains(byte) && *byte != table.delimiter)
    {
        return Err("more than one field where the header has 1".to_owned());
    }
    let value = |place: &usize| {
        let cell = record.get(*place).unwrap_or_default();
        let text = std::str::from_utf8(cell).map_err(|_| NOT_UTF8.to_owned())?;
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err("a character that another program could not read (U+FFFD)".to_owned());
        }
        // The value is not changed: the job's parser decides whether it is a valid identifier.
        if text.chars().any(char::is_control) {
            return Err("a line break or another control character in a value: is a quote not closed?".to_owned());
        }
        Ok(Zeroizing::new(text.to_owned()))
    };
    let values = table.places.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    match values[0].as_str() {
        "" => Err("the member is empty".to_owned()),
        member if table.is_header(member) => Err("the header once more: does the file contain two files?".to_owned()),
        _ => Ok(values),
    }
}

const NOT_UTF8: &str = "not in UTF-8: save the file as \"CSV UTF-8\"";

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of a file: its line, and its member or its fault.
    fn all(text: &str) -> Vec<(u64, Result<String, String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.csv");
        std::fs::write(&path, text).unwrap();
        let mut all = Vec::new();
        let reading = Reading::begin(&path, &["ID".to_owned()]).unwrap();
        assert_eq!(reading.damaged, 0);
        reading
            .each(|row| {
                all.push((row.line, row.values.map(|values| values[0].to_string())));
                true
            })
            .unwrap();
        all
    }

    #[test]
    fn each_repeat_is_reported_with_its_line_and_the_first_line() {
        // Members 0 to 99, then all of them again backwards, then one of them a hundred times.
        let members: Vec<u64> = (0..100).chain((0..100).rev()).chain(std::iter::repeat_n(7, 100)).collect();
        let text: String = members.iter().map(|member| format!("{member}\n")).collect();
        let lines: Vec<_> = (2..).zip(&members).collect();
        let wanted = lines.iter().map(|(line, member)| {
            let first = **member + 2;
            let result =
                if *line == first { Ok(member.to_string()) } else { Err(format!("{DUPLICATE} as in line {first}")) };
            (*line, result)
        });
        let wanted: Vec<_> = wanted.collect();
        assert_eq!(all(&format!("ID\n{text}")), wanted);
    }

    #[test]
    fn an_unusable_row_makes_no_later_row_a_repeat() {
        let rows = all("ID,Name\nann\nann,\"first\"\n\nann,again\n");
        let lines: Vec<_> = rows.iter().map(|(line, result)| (*line, result.is_ok())).collect();
        assert_eq!(lines, [(2, false), (3, true), (5, false)]);
        assert_eq!(rows[2].1, Err(format!("{DUPLICATE} as in line 3")));
    }

    #[test]
    fn every_end_of_line_counts_as_one_line() {
        for end in ["\n", "\r\n", "\r"] {
            let rows = all(&["ID", "a", "", "b", "c", ""].join(end));
            let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [2, 4, 5], "{end:?}");
        }
    }

    #[test]
    fn a_member_once_more_with_other_values_is_not_a_duplicate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.csv");
        std::fs::write(&path, "GUID,Code\ng-1,A\ng-1,A\ng-1,B\n").unwrap();
        let columns = ["GUID", "Code"].map(str::to_owned);
        let mut notes = Vec::new();
        let reading = Reading::begin(&path, &columns).unwrap();
        reading
            .each(|row| {
                notes.push(row.values.err().unwrap_or_default());
                true
            })
            .unwrap();
        assert!(notes[0].is_empty() && notes[1].starts_with(DUPLICATE), "{notes:?}");
        assert!(notes[2].starts_with("the member of line 2 once more, with other values"), "{notes:?}");
    }
}

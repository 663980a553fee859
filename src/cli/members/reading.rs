//! A CSV file of members, read row by row.
//!
//! The rule it keeps: every row is either a member or told with its line and what is wrong; memory
//! does not grow with the file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::repeats::Members;
use super::sorting::HELD;

/// No row is longer; a quote that is never closed would swallow the rest of the file.
const LONGEST_ROW: u64 = 1 << 20;
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Why a file of members cannot be read at all, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The disk does not take, or give back, what is sorted on it.
    #[error("cannot be looked through for members that come twice: {0}")]
    Scratch(io::Error),
    /// A column that was asked for is not there.
    #[error("missing headers in file: {missing}; found: {found}")]
    MissingHeaders {
        /// The headers that are not there.
        missing: String,
        /// Those that are.
        found: String,
    },
    /// A header stands twice.
    #[error("the header {0:?} stands more than once in the file")]
    TwiceHeader(String),
    /// A row without end.
    #[error("line {line}: the row is longer than 1 MiB: is a quote not closed? Nothing from here on was read")]
    Endless {
        /// Where it begins.
        line: u64,
    },
}

/// One row.
pub struct Row {
    /// The line that it begins on, from 1.
    pub line: u64,
    /// Its values, in the order of the columns asked for; or what is wrong with it.
    pub values: Result<Vec<Zeroizing<String>>, String>,
    /// How far into the file it ends, in bytes.
    pub offset: u64,
}

/// The SHA-256 of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut sha, mut part) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(sha.finalize().into()),
            count => sha.update(&part[..count]),
        }
    }
}

/// Reads a file twice, calling `each` with every row until it says false: first for the members that
/// come twice, then for the rows. The first of `columns` names the member. What memory does not hold lies in
/// the folder `scratch` meanwhile.
///
/// # Errors
/// Where the file cannot be read, or has not the columns.
pub fn read(path: &Path, columns: &[String], scratch: &Path, each: impl FnMut(Row) -> bool) -> Result<(), ReadError> {
    read_holding(HELD, path, columns, scratch, each)
}

fn read_holding(
    most: usize,
    path: &Path,
    columns: &[String],
    scratch: &Path,
    mut each: impl FnMut(Row) -> bool,
) -> Result<(), ReadError> {
    let mut members = Members::new(scratch, most);
    let looked = rows(path, columns, |row| {
        row.values.iter().try_for_each(|values| members.add(row.line, &values[0])).map_err(ReadError::Scratch)?;
        Ok(true)
    });
    match looked {
        // Told when it is come by again, after the rows before it.
        Ok(()) | Err(ReadError::Endless { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut repeats = members.repeats(scratch, most).map_err(ReadError::Scratch)?;
    rows(path, columns, |mut row| {
        if row.values.is_ok()
            && let Some(first) = repeats.first_of(row.line).map_err(ReadError::Scratch)?
        {
            row.values = Err(format!("{DUPLICATE} as in line {first}"));
        }
        Ok(each(row))
    })
}

fn rows(
    path: &Path,
    columns: &[String],
    mut each: impl FnMut(Row) -> Result<bool, ReadError>,
) -> Result<(), ReadError> {
    let (delimiter, places) = headers(path, columns)?;
    let since_row = Rc::new(Cell::new(0));
    let file = Watched { inner: BufReader::new(open(path)?), since_row: Rc::clone(&since_row) };
    let mut lines = Lines { file: BufReader::new(open(path)?), byte: 0, line: 1, is_after_return: false };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file);
    let width = reader.byte_headers().map_err(io_error)?.len();
    let mut record = ByteRecord::new();
    loop {
        since_row.set(0);
        let begins_at = reader.position().byte();
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                let error = io_error(error);
                let is_endless = error.kind() == io::ErrorKind::FileTooLarge;
                let line = lines.line_of(begins_at)?;
                return Err(if is_endless { ReadError::Endless { line } } else { ReadError::Io(error) });
            }
        }
        let line = lines.line_of(record.position().map_or(begins_at, csv::Position::byte))?;
        let values = values(&record, width, &places);
        if !each(Row { line, values, offset: reader.position().byte() })? {
            return Ok(());
        }
    }
}

/// How the note on a row begins whose member stood in the file before.
pub const DUPLICATE: &str = "the same member";

fn values(record: &ByteRecord, width: usize, places: &[usize]) -> Result<Vec<Zeroizing<String>>, String> {
    if record.len() != width {
        return Err(format!("{} fields where the header has {width}", record.len()));
    }
    let value = |place: &usize| {
        let text = std::str::from_utf8(&record[*place]).map_err(|_| "not in UTF-8".to_owned())?;
        // Nothing is taken away: whether it can be an identifier is decided where the job is read.
        if text.chars().any(char::is_control) {
            return Err("a line break or another control character in a value: is a quote not closed?".to_owned());
        }
        Ok(Zeroizing::new(text.to_owned()))
    };
    let values = places.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    if values[0].is_empty() { Err("the member is empty".to_owned()) } else { Ok(values) }
}

/// The delimiter by which the columns are found, and their places.
fn headers(path: &Path, columns: &[String]) -> Result<(u8, Vec<usize>), ReadError> {
    let mut told = None;
    for delimiter in DELIMITERS {
        let since_row = Rc::new(Cell::new(0));
        let file = Watched { inner: BufReader::new(open(path)?), since_row };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file);
        let read = reader.byte_headers().map_err(|error| match io_error(error) {
            error if error.kind() == io::ErrorKind::FileTooLarge => ReadError::Endless { line: 1 },
            error => ReadError::Io(error),
        })?;
        let found: Vec<String> = read.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        if let Some(twice) = columns.iter().find(|name| found.iter().filter(|found| found == name).count() > 1) {
            return Err(ReadError::TwiceHeader(twice.clone()));
        }
        let place = |name: &String| found.iter().position(|found| found == name);
        if let Some(places) = columns.iter().map(place).collect::<Option<Vec<_>>>() {
            return Ok((delimiter, places));
        }
        // The delimiter that splits the line most is the likely one.
        if told.as_ref().is_none_or(|told: &Vec<String>| found.len() > told.len()) {
            told = Some(found);
        }
    }
    let found = told.unwrap_or_default();
    let missing = columns.iter().filter(|name| !found.contains(name)).map(|name| format!("{name:?}"));
    let missing = missing.collect::<Vec<_>>().join(", ");
    let shown = found.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    Err(ReadError::MissingHeaders { missing, found: if shown.is_empty() { "nothing".to_owned() } else { shown } })
}

/// A header as it may be shown. A file without headers begins with a person.
fn shown(name: &str) -> String {
    let digits = name.chars().filter(char::is_ascii_digit).count();
    if name.contains('@') || digits > 3 || name.chars().count() > 40 {
        return "(looks like a person's data)".to_owned();
    }
    format!("{:?}", name.chars().filter(|c| !c.is_control()).collect::<String>())
}

fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::from(io::ErrorKind::InvalidData),
    }
}

/// The file from its first character on: spreadsheets put a mark before it.
fn open(path: &Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let mut first = Vec::with_capacity(3);
    file.by_ref().take(3).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(if first == b"\xef\xbb\xbf" { 3 } else { 0 }))?;
    Ok(file)
}

/// Counts lines: the parser counts neither blank ones nor the second half of a CRLF where it stands.
struct Lines {
    file: BufReader<File>,
    byte: u64,
    line: u64,
    is_after_return: bool,
}

impl Lines {
    /// The line on which the row begins that the parser met at this byte or, after the ends of
    /// lines, soon behind it. Only ever further on.
    fn line_of(&mut self, byte: u64) -> io::Result<u64> {
        loop {
            let part = self.file.fill_buf()?;
            let passed = |(index, next): (usize, &u8)| {
                let is_end_of_line = matches!(next, b'\r' | b'\n');
                (self.byte + index as u64) < byte || is_end_of_line
            };
            let count = part.iter().enumerate().take_while(|place| passed(*place)).count();
            let is_all = count == part.len();
            for next in &part[..count] {
                // A line ends with LF, CRLF or, as old spreadsheets write it, CR.
                self.line += u64::from(*next == b'\r' || (*next == b'\n' && !self.is_after_return));
                self.is_after_return = *next == b'\r';
            }
            self.byte += count as u64;
            let is_end = part.is_empty();
            self.file.consume(count);
            if is_end || !is_all {
                return Ok(self.line);
            }
        }
    }
}

/// A reader that gives up on a row without end.
struct Watched<R> {
    inner: R,
    since_row: Rc<Cell<u64>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.since_row.set(self.since_row.get() + count as u64);
        if self.since_row.get() > LONGEST_ROW { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of a file: its line, and its member or what is wrong.
    fn all(most: usize, text: &str) -> Vec<(u64, Result<String, String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.csv");
        std::fs::write(&path, text).unwrap();
        let mut all = Vec::new();
        read_holding(most, &path, &["ID".to_owned()], folder.path(), |row| {
            all.push((row.line, row.values.map(|values| values[0].to_string())));
            true
        })
        .unwrap();
        all
    }

    #[test]
    fn each_repeat_is_told_with_its_line_and_the_first_one_however_little_memory_holds() {
        // Members 0 to 99, then all of them again backwards, then one of them a hundred times.
        let members: Vec<u64> = (0..100).chain((0..100).rev()).chain(std::iter::repeat_n(7, 100)).collect();
        let text: String = members.iter().map(|member| format!("{member}\n")).collect();
        let told: Vec<_> = (2..).zip(&members).collect();
        let wanted = told.iter().map(|(line, member)| {
            let first = **member + 2;
            let told =
                if *line == first { Ok(member.to_string()) } else { Err(format!("{DUPLICATE} as in line {first}")) };
            (*line, told)
        });
        let wanted: Vec<_> = wanted.collect();
        for most in [2, 16, HELD] {
            assert_eq!(all(most, &format!("ID\n{text}")), wanted, "{most}");
        }
    }

    #[test]
    fn a_row_that_is_none_makes_no_later_one_a_repeat() {
        let rows = all(HELD, "ID,Name\nann\nann,\"first\"\n\nann,again\n");
        let lines: Vec<_> = rows.iter().map(|(line, told)| (*line, told.is_ok())).collect();
        assert_eq!(lines, [(2, false), (3, true), (5, false)]);
        assert_eq!(rows[2].1, Err(format!("{DUPLICATE} as in line 3")));
    }

    #[test]
    fn lines_are_counted_by_any_end_of_line_alone() {
        for end in ["\n", "\r\n", "\r"] {
            let rows = all(HELD, &["ID", "a", "", "b", "c", ""].join(end));
            let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [2, 4, 5], "{end:?}");
        }
    }
}

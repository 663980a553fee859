//! The header of a file of members: the delimiter, and the places of the columns.
//!
//! The rule it keeps: an error about another kind of file, or about a missing column, uses the words of its author. No
//! header is shown that may be personal data.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use crate::csv::{Fault, Record, Records, decoded};

/// The possible delimiters.
pub(crate) const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A file of members cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A requested column is missing.
    #[error("missing headers in file: {missing}; found: {found}{hint}")]
    MissingHeaders {
        /// The missing headers.
        missing: String,
        /// The headers of the file.
        found: String,
        /// The differences between them.
        hint: String,
    },
    /// A header is in the file more than once.
    #[error("the header {0:?} is in the file more than once")]
    TwiceHeader(String),
    /// The header continues into the rows.
    #[error(
        "lines 1 to {last} are one row, because a quote opens in line {opened}: the end of the header cannot be found"
    )]
    Header {
        /// The line of the quote.
        opened: u64,
        /// The last line.
        last: u64,
    },
    /// Another kind of file.
    #[error("this is {0}, not a CSV file: open it in its own program, and save it as \"CSV UTF-8\"")]
    Other(&'static str),
    /// There is no row after the header.
    #[error("the file has a header and no row")]
    NoRow,
}

/// A file with the requested columns.
pub struct Table {
    path: PathBuf,
    /// The delimiter between cells.
    pub delimiter: u8,
    /// The number of cells in a row.
    pub width: usize,
    /// The places of the columns.
    pub places: Vec<usize>,
    /// True for UTF-16: a lost byte changes all characters after it.
    pub is_utf16: bool,
    key: String,
    has_separator_line: bool,
}

impl Table {
    /// Finds the columns in the header.
    ///
    /// # Errors
    /// The file is not a CSV file, or has no such columns.
    pub fn open(path: &Path, columns: &[String]) -> Result<Table, ReadError> {
        let separator = separator(path)?;
        let mut mark = [0; 2];
        let is_utf16 = open(path)?.read_exact(&mut mark).is_ok() && matches!(mark, [0xff, 0xfe] | [0xfe, 0xff]);
        let delimiters = separator.map_or(DELIMITERS.to_vec(), |delimiter| vec![delimiter]);
        let wanted: Vec<String> = columns.iter().map(|name| folded(name)).collect();
        let (mut best, mut twice, mut broken) = (None::<(usize, Table)>, None, None);
        let mut found_names: Vec<String> = Vec::new();
        for delimiter in delimiters {
            let mut records = Records::new(decoded(open(path)?), delimiter);
            let mut header = Record::default();
            if separator.is_some() {
                records.read(&mut header)?;
            }
            if !records.read(&mut header)? {
                continue;
            }
            if header.raw().contains(&0) {
                return Err(ReadError::Other("text in UTF-16 without a byte order mark, or not a text"));
            }
            let mut names: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            while names.len() > 1 && names.last().is_some_and(|name| name.trim().is_empty()) {
                names.pop();
            }
            let width = names.len();
            let is_whole = |cells: &[Vec<u8>]| width > 1 && cells.len() >= width;
            let is_running_on = matches!(header.fault, Some(Fault::Unclosed | Fault::TooLong))
                || header.holds_rows(delimiter, is_whole)
                || (header.fault.is_some() && header.first < header.last);
            if is_running_on {
                let (opened, last) = (header.opened.unwrap_or(header.first), header.last);
                broken.get_or_insert(ReadError::Header { opened, last });
                continue;
            }
            let places_of = |name: &String| -> Vec<usize> {
                names.iter().enumerate().filter(|(_, found)| folded(found) == *name).map(|(place, _)| place).collect()
            };
            let found: Vec<Vec<usize>> = wanted.iter().map(places_of).collect();
            if found.iter().all(|places| places.len() == 1) {
                let places = found.into_iter().flatten().collect();
                // The most likely delimiter is the one that gives the most cells in the header.
                if best.as_ref().is_none_or(|(cells, _)| *cells < header.len()) {
                    let has_separator_line = separator.is_some();
                    let (path, key) = (path.to_owned(), wanted[0].clone());
                    let table = Table { path, delimiter, width, places, is_utf16, key, has_separator_line };
                    best = Some((header.len(), table));
                }
            } else if let Some(place) = found.iter().position(|places| places.len() > 1) {
                twice.get_or_insert(ReadError::TwiceHeader(columns[place].clone()));
            } else if names.len() > found_names.len() {
                found_names = names;
            }
        }
        match (best, twice, broken) {
            (Some((_, table)), ..) => Ok(table),
            (None, Some(error), _) | (None, None, Some(error)) => Err(error),
            (None, None, None) => Err(missing(columns, &found_names)),
        }
    }

    /// True for the header of the members' column.
    pub(crate) fn is_header(&self, member: &str) -> bool {
        folded(member) == self.key
    }

    /// Calls `each` with every row that is not blank, until it returns false.
    ///
    /// # Errors
    /// The file cannot be read, or `each` fails.
    pub fn each(&self, mut each: impl FnMut(&Record) -> Result<bool, ReadError>) -> Result<(), ReadError> {
        let mut records = Records::new(decoded(open(&self.path)?), self.delimiter);
        let mut record = Record::default();
        for _ in 0..=usize::from(self.has_separator_line) {
            records.read(&mut record)?;
        }
        while records.read(&mut record)? {
            let is_blank = record.fault.is_none() && record.iter().all(|cell| cell.trim_ascii().is_empty());
            if !is_blank && !each(&record)? {
                break;
            }
        }
        Ok(())
    }
}

/// The delimiter of a first line `sep=;`, which some spreadsheets write.
fn separator(path: &Path) -> Result<Option<u8>, ReadError> {
    let mut line = Vec::new();
    decoded(open(path)?).take(16).read_to_end(&mut line)?;
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
    let text = line[..end].iter().copied().filter(|byte| *byte != b'"').collect::<Vec<_>>();
    match text[..] {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] if delimiter.is_ascii() => Ok(Some(delimiter)),
        _ => Ok(None),
    }
}

/// A header's visible text: every white space is one blank, and characters without width are left out.
fn folded(name: &str) -> String {
    let seen = |c: char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}');
    let name: String = name.chars().filter(|c| seen(*c)).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn missing(columns: &[String], found: &[String]) -> ReadError {
    let names: Vec<String> = found.iter().map(|name| folded(name)).collect();
    let absent: Vec<&String> = columns.iter().filter(|name| !names.contains(&folded(name))).collect();
    let alike = |name: &str, other: &str| name.to_lowercase() == other.to_lowercase();
    let mut hint = String::new();
    for name in &absent {
        if let Some(other) = names.iter().find(|other| alike(&folded(name), other)) {
            hint += &format!("; {other:?} has other capital letters than {name:?}");
        }
    }
    if found.iter().any(|name| name.contains(char::REPLACEMENT_CHARACTER)) {
        hint += "; the first line is not in UTF-8: save the file as \"CSV UTF-8\"";
    }
    let missing = absent.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let shown = names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    ReadError::MissingHeaders { missing, found: if shown.is_empty() { "nothing".to_owned() } else { shown }, hint }
}

/// A header's text for messages. In a file without headers the first row may be a person's data.
fn shown(name: &str) -> String {
    let digits = name.chars().filter(char::is_ascii_digit).count();
    if name.contains('@') || digits > 3 || name.chars().count() > 40 {
        return "(looks like a person's data)".to_owned();
    }
    format!("{:?}", name.chars().filter(|c| !c.is_control()).collect::<String>())
}

/// Opens the file, unless its first bytes show another kind of file.
fn open(path: &Path) -> Result<File, ReadError> {
    let mut file = File::open(path)?;
    let mut first = Vec::with_capacity(512);
    file.by_ref().take(512).read_to_end(&mut first)?;
    file.rewind()?;
    match other_kind(&first) {
        Some(kind) => Err(ReadError::Other(kind)),
        None => Ok(file),
    }
}

fn other_kind(first: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 8] = [
        (b"PK\x03\x04", "a workbook (.xlsx, .ods or .numbers), or another zipped file"),
        (b"PK\x05\x06", "an empty zipped file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook of an old kind (.xls)"),
        (b"%PDF", "a PDF document"),
        (b"{\\rtf", "a text document (RTF)"),
        (b"\x1f\x8b", "a compressed file (gzip)"),
        (b"7z\xbc\xaf\x27\x1c", "a compressed file (7z)"),
        (b"\x00\x00\xfe\xff", "text in UTF-32"),
    ];
    let known = KINDS.iter().find(|(begins, _)| first.starts_with(begins)).map(|(_, kind)| *kind);
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|text| text.eq_ignore_ascii_case(tag.as_bytes()));
    let is_page = ["<!doctype", "<html", "<table", "<?xml", "<meta", "<head"].iter().any(|tag| begins(tag));
    known.or(is_page.then_some("a web page or XML"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(bytes: &[u8], columns: &[&str]) -> Result<(u8, usize, Vec<usize>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.csv");
        std::fs::write(&path, bytes).unwrap();
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let table = Table::open(&path, &columns).map_err(|error| error.to_string())?;
        Ok((table.delimiter, table.width, table.places))
    }

    fn utf16(text: &str, is_little: bool) -> Vec<u8> {
        let bytes = |unit: u16| if is_little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn columns_are_found_in_every_form_of_a_spreadsheets_header() {
        let wide = "Name\tMember ID\r\nAnn\t1\r\n";
        for (bytes, wanted) in [
            (b"Name,Member ID\nAnn,1\n".to_vec(), (b',', 2, vec![1])),
            (b"Name;Member ID;;\r\nAnn;1;;\r\n".to_vec(), (b';', 2, vec![1])),
            (b"sep=;\r\nMember ID;Name, first\r\n1;Ann\r\n".to_vec(), (b';', 2, vec![0])),
            (b"\xef\xbb\xbf\"sep=|\"\nMember ID|Name\n1|Ann\n".to_vec(), (b'|', 2, vec![0])),
            (utf16(wide, true), (b'\t', 2, vec![1])),
            (utf16(wide, false), (b'\t', 2, vec![1])),
            ("Name,Member\u{a0}ID\n".as_bytes().to_vec(), (b',', 2, vec![1])),
            (b"Name,\"Member\r\n ID\"\nAnn,1\n".to_vec(), (b',', 2, vec![1])),
            ("\u{feff}\u{200b}Member  ID \r1\r".as_bytes().to_vec(), (b',', 1, vec![0])),
            (b"Last, first;Member ID;Note, long\n".to_vec(), (b';', 3, vec![1])),
        ] {
            assert_eq!(opened(&bytes, &["Member ID"]), Ok(wanted), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn another_kind_of_file_is_named() {
        for (bytes, wanted) in [
            (&b"PK\x03\x04\x14\x00\x06"[..], "this is a workbook (.xlsx, .ods or .numbers), or another zipped file"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "an Excel workbook of an old kind"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"\r\n<HTML><body>", "a web page"),
            (b"ID\0,N\0a\0\n\0", "text in UTF-16 without a byte order mark, or not a text"),
            (b"\xff\xfe\0\0I\0\0\0D\0\0\0", "text in UTF-16 without a byte order mark, or not a text"),
            (b"", "missing headers in file: \"ID\"; found: nothing"),
            (b"id,Name\n", "; \"id\" has other capital letters than \"ID\""),
            (b"M\xfcller,Name\n", "not in UTF-8: save the file as \"CSV UTF-8\""),
            (b"\"ID,Name\n1,Ann\n2,Bob\n", "lines 1 to 3 are one row, because a quote opens in line 1"),
            (b"ID,\"Name\n1,Ann\"\n2,Bob\n", "lines 1 to 2 are one row, because a quote opens in line 1"),
            (b"ID,\"Na\"me\n1,Ann\n", ""),
        ] {
            let error = opened(bytes, &["ID"]).err().unwrap_or_default();
            assert!(error.contains(wanted) && error.is_empty() == wanted.is_empty(), "{error}");
        }
    }
}

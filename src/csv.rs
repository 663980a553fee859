//! Delimited text (CSV), read row by row.
//!
//! The rule it keeps: quotes against RFC 4180 are reported, and so are the lines of each row; memory does not grow
//! with the file. Libraries accept such quotes without a report: one stray quote would then hide all rows up to the
//! next quote.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

/// The longest row, in bytes.
pub const LONGEST: usize = 1 << 20;

/// UTF-8 from text with a byte order mark: UTF-16 of either order, or UTF-8. Text without a mark passes unchanged.
pub fn decoded<R: Read>(from: R) -> DecodeReaderBytes<R, Vec<u8>> {
    DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(from)
}

/// The fault of a row's quotes; the worst one is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A quote within a cell that does not begin with a quote.
    Stray,
    /// Characters between a closing quote and the next delimiter.
    AfterQuote,
    /// The text ends within quotes.
    Unclosed,
    /// The row is longer than [`LONGEST`]; nothing after it is read.
    TooLong,
}

/// One row.
#[derive(Debug, Default)]
pub struct Record {
    /// The line of its beginning, from 1.
    pub first: u64,
    /// The line of its end.
    pub last: u64,
    /// The place of its end in the text, in bytes.
    pub end: u64,
    /// The fault of its quotes.
    pub fault: Option<Fault>,
    /// The line of the first quote that is not closed on its own line.
    pub opened: Option<u64>,
    /// True if the text ends in its last cell, without an end of line or a closing quote.
    pub is_open_ended: bool,
    /// True if an end of line follows.
    pub has_end: bool,
    raw: Vec<u8>,
    text: Vec<u8>,
    cells: Vec<Range<usize>>,
}

impl Record {
    /// The number of its cells.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// A cell, without its quotes.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        self.text.get(self.cells.get(place)?.clone())
    }

    /// All cells.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.cells.iter().map(|cell| &self.text[cell.clone()])
    }

    /// The row's text, without its last end of line.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The cells of each of its lines, each read alone.
    pub fn lines(&self, delimiter: u8) -> Vec<Vec<Vec<u8>>> {
        self.raw.split(|byte| matches!(byte, b'\r' | b'\n')).map(|line| alone(line, delimiter)).collect()
    }

    /// True if its lines show that it has swallowed other rows. In an honest cell of several lines, at most one line
    /// would be a row by itself: the first or the last, with the row's other cells.
    pub fn holds_rows(&self, delimiter: u8, is_row: impl Fn(&[Vec<u8>]) -> bool) -> bool {
        if self.first == self.last {
            return false;
        }
        let rows: Vec<bool> = self.lines(delimiter).iter().map(|line| is_row(line)).collect();
        let within = rows.get(1..rows.len() - 1).unwrap_or_default();
        within.contains(&true) || rows.first() == Some(&true) && rows.last() == Some(&true)
    }

    fn clear(&mut self) {
        self.raw.clear();
        self.text.clear();
        self.cells.clear();
        (self.fault, self.opened, self.is_open_ended, self.has_end) = (None, None, false, false);
    }

    fn end_cell(&mut self) {
        let from = self.cells.last().map_or(0, |cell| cell.end);
        self.cells.push(from..self.text.len());
    }

    fn note(&mut self, fault: Fault) {
        self.fault = self.fault.max(Some(fault));
    }
}

/// The cells of a line that is read alone: a quote that is not closed on the line is no quote.
fn alone(line: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, used) = quoted(rest, delimiter).unwrap_or_else(|| {
            let end = rest.iter().position(|byte| *byte == delimiter).unwrap_or(rest.len());
            (rest[..end].iter().copied().filter(|byte| *byte != b'"').collect(), end)
        });
        cells.push(cell);
        match rest.get(used + 1..) {
            Some(next) => rest = next,
            None => return cells,
        }
    }
}

/// A quoted cell at the beginning of a line, and its end.
fn quoted(line: &[u8], delimiter: u8) -> Option<(Vec<u8>, usize)> {
    let (mut cell, mut at) = (Vec::new(), 1);
    if line.first() != Some(&b'"') {
        return None;
    }
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'"', Some(b'"')) => {
                cell.push(b'"');
                at += 2;
            }
            (b'"', next) => return next.is_none_or(|next| *next == delimiter).then_some((cell, at + 1)),
            (byte, _) => {
                cell.push(*byte);
                at += 1;
            }
        }
    }
}

/// The reader's place in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the beginning of a cell.
    Start,
    /// In a cell without quotes.
    Bare,
    /// Within quotes.
    Quoted,
    /// After a quote within quotes: the end of the cell, or the first half of a quote.
    Quote,
    /// In blanks after the closing quote.
    Closed,
}

/// The rows of a text.
pub struct Records<R> {
    from: BufReader<R>,
    delimiter: u8,
    line: u64,
    byte: u64,
    is_after_return: bool,
    is_over: bool,
}

impl<R: Read> Records<R> {
    /// Begins with the first row.
    pub fn new(from: R, delimiter: u8) -> Records<R> {
        let from = BufReader::with_capacity(1 << 16, from);
        Records { from, delimiter, line: 1, byte: 0, is_after_return: false, is_over: false }
    }

    /// Reads the next row; false after the last one. Empty lines are no rows. A line ends with LF, CRLF or, as in old
    /// spreadsheets, CR.
    ///
    /// # Errors
    /// The text cannot be read.
    pub fn read(&mut self, record: &mut Record) -> io::Result<bool> {
        record.clear();
        let (mut at, mut has_begun, mut opened) = (At::Start, false, 0);
        while !self.is_over {
            let part = self.from.fill_buf()?;
            if part.is_empty() {
                self.is_over = true;
                if !has_begun {
                    return Ok(false);
                }
                if at == At::Quoted {
                    record.note(Fault::Unclosed);
                    record.opened.get_or_insert(opened);
                }
                record.is_open_ended = matches!(at, At::Bare | At::Quoted);
                record.end_cell();
                record.end = self.byte;
                return Ok(true);
            }
            let (mut used, mut is_whole) = (0, false);
            for &byte in part {
                used += 1;
                let ends_line = matches!(byte, b'\r' | b'\n');
                self.line += u64::from(ends_line && !(byte == b'\n' && self.is_after_return));
                self.is_after_return = byte == b'\r';
                if ends_line && !has_begun {
                    continue;
                }
                if ends_line && at != At::Quoted {
                    (is_whole, record.has_end) = (true, true);
                    break;
                }
                if !has_begun {
                    has_begun = true;
                    record.first = self.line;
                }
                record.raw.push(byte);
                if ends_line {
                    record.opened.get_or_insert(opened);
                } else {
                    record.last = self.line;
                }
                if record.raw.len() > LONGEST {
                    record.note(Fault::TooLong);
                    (is_whole, self.is_over) = (true, true);
                    break;
                }
                at = match at {
                    At::Start if byte == b'"' => {
                        opened = self.line;
                        At::Quoted
                    }
                    At::Quoted if byte == b'"' => At::Quote,
                    At::Quote if byte == b'"' => {
                        record.text.push(byte);
                        At::Quoted
                    }
                    At::Quote | At::Closed if byte == b' ' && byte != self.delimiter => At::Closed,
                    At::Start | At::Bare | At::Quote | At::Closed if byte == self.delimiter => {
                        record.end_cell();
                        At::Start
                    }
                    At::Quoted => {
                        record.text.push(byte);
                        At::Quoted
                    }
                    At::Start | At::Bare | At::Quote | At::Closed => {
                        match at {
                            At::Quote | At::Closed => record.note(Fault::AfterQuote),
                            At::Bare if byte == b'"' => record.note(Fault::Stray),
                            _ => {}
                        }
                        record.text.push(byte);
                        At::Bare
                    }
                };
            }
            self.from.consume(used);
            self.byte += used as u64;
            if is_whole {
                record.end_cell();
                record.end = self.byte;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last line, the number of cells, and the fault.
    type Lines = (u64, u64, usize, Option<Fault>);
    type Seen = (u64, u64, Vec<String>, Option<Fault>);

    fn all(text: &[u8], delimiter: u8) -> Vec<Seen> {
        let mut records = Records::new(decoded(text), delimiter);
        let (mut record, mut all) = (Record::default(), Vec::new());
        while records.read(&mut record).unwrap() {
            let cells = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
            all.push((record.first, record.last, cells, record.fault));
        }
        all
    }

    #[test]
    fn every_text_that_the_csv_library_writes_is_read_as_it_was_written() {
        let pieces = ["", "a", "b c", ",", ";", "\"", "\n", "\r\n", "\t", "é", "\"\"", " "];
        for delimiter in *b",;\t" {
            for number in 0..pieces.len().pow(3) {
                let cell = |from: usize| pieces[number / pieces.len().pow(from as u32) % pieces.len()];
                let rows = [["x", cell(0), cell(1)], [cell(2), "y", cell(0)]];
                let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
                rows.iter().for_each(|row| writer.write_record(row).unwrap());
                let read = all(&writer.into_inner().unwrap(), delimiter);
                let cells: Vec<_> = read.iter().map(|(_, _, cells, _)| cells.clone()).collect();
                assert_eq!(cells, rows, "{read:?}");
                assert!(read.iter().all(|(.., fault)| fault.is_none()), "{read:?}");
            }
        }
    }

    #[test]
    fn quotes_that_are_none_are_told_with_their_lines() {
        let cases: [(&str, &[Lines]); 8] = [
            ("a,b\"c\nd,e", &[(1, 1, 2, Some(Fault::Stray)), (2, 2, 2, None)]),
            ("\"a\"b,c\n", &[(1, 1, 2, Some(Fault::AfterQuote))]),
            ("\"a\" ,c\n", &[(1, 1, 2, None)]),
            ("\n\r\na,\"b\n\nc,\"d\"\ne,f\n", &[(3, 5, 2, Some(Fault::AfterQuote)), (6, 6, 2, None)]),
            ("a,\"b\r\nc,d\r\n", &[(1, 2, 2, Some(Fault::Unclosed))]),
            ("a,\"b\rc\",d\re", &[(1, 2, 3, None), (3, 3, 1, None)]),
            ("\"", &[(1, 1, 1, Some(Fault::Unclosed))]),
            ("\r\n\r\n", &[]),
        ];
        for (text, wanted) in cases {
            let read = all(text.as_bytes(), b',');
            let seen = read.iter().map(|(first, last, cells, fault)| (*first, *last, cells.len(), *fault));
            assert_eq!(seen.collect::<Vec<_>>(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_row_without_end_is_given_up_on() {
        let endless = b"a\nb,\"".chain(io::repeat(b'x'));
        let mut records = Records::new(endless, b',');
        let mut record = Record::default();
        assert!(records.read(&mut record).unwrap() && records.read(&mut record).unwrap());
        assert_eq!((record.first, record.fault), (2, Some(Fault::TooLong)));
        assert!(!records.read(&mut record).unwrap());
    }
}

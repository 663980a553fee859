//! Reads files of members that were damaged in thousands of ways.
//!
//! The rule it keeps: every row of the good file that the damage did not remove is queued or reported with its lines, or
//! the file is refused. No member is queued that was not in the good file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Parser as _;
use jiff::Timestamp;
use serde_json::Value;

use super::reading::{DUPLICATE, Reading};
use super::template::JobTemplate;
use super::{Count, Ready, ready};
use crate::cli::{Cli, Command, Exit};
use crate::job::{Accepts, Kind, Rules};

const FILES: u64 = 10_000;

/// Random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A row of the good file, and its damage.
struct Line {
    /// None for the header and for a line that a damage added.
    member: Option<String>,
    bytes: Vec<u8>,
    end: &'static str,
    /// True after a change that can remove its member, or make another member of it.
    is_rewritten: bool,
    /// True after a damage.
    is_touched: bool,
}

struct Good {
    lines: Vec<Line>,
    delimiter: u8,
    encoding: Encoding,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Utf8,
    Marked,
    Little,
    Big,
}

fn good(dice: &mut Dice) -> Good {
    let delimiter = dice.one(b",;\t|");
    let end = dice.one(&["\n", "\r\n", "\r"]);
    let columns: &[&str] = dice.one(&[&["ID"][..], &["ID", "Name"], &["Name", "ID", "Note"], &["Note", "ID"]]);
    let is_quoted_always = dice.below(3) == 0;
    let trailing = dice.one(&[0, 0, 0, 2]);
    let encoding = dice.one(&[Encoding::Utf8, Encoding::Utf8, Encoding::Marked, Encoding::Little, Encoding::Big]);
    let write = |cells: &[String]| {
        let quoted = |cell: &String| {
            let needs = cell.contains(['"', '\n', '\r', delimiter as char]);
            if needs || is_quoted_always { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
        };
        let mut line = cells.iter().map(quoted).collect::<Vec<_>>().join(&(delimiter as char).to_string());
        line.extend(std::iter::repeat_n(delimiter as char, trailing));
        line.into_bytes()
    };
    let line = |member, bytes| Line { member, bytes, end, is_rewritten: false, is_touched: false };
    let mut lines = Vec::new();
    if dice.below(6) == 0 {
        lines.push(line(None, format!("sep={}", delimiter as char).into_bytes()));
    }
    lines.push(line(None, write(&columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())));
    for number in 0..8 + dice.below(24) {
        let member = format!("M{}", 10_000 + number * 7);
        let cells = columns.iter().map(|name| match *name {
            "ID" => member.clone(),
            "Name" => dice.one(&["Ann", "Smith, Bob", "Ann \"Annie\" Lee", "", "Zoë; Li"]).to_owned(),
            _ => dice.one(&["", "thank you", "so long,\nand thanks,\nyours", "first\r\nsecond; third"]).to_owned(),
        });
        let cells: Vec<String> = cells.collect();
        lines.push(line(Some(member), write(&cells)));
    }
    Good { lines, delimiter, encoding }
}

impl Good {
    /// Damages a row in one way, and returns the way's name.
    fn damage(&mut self, dice: &mut Dice) -> &'static str {
        if self.lines.len() < 3 {
            return "cut off";
        }
        let row = 1 + dice.below(self.lines.len() - 1);
        let delimiter = self.delimiter;
        let is_last = row + 1 == self.lines.len();
        let line = &mut self.lines[row];
        // Two damages in one row can give any text.
        line.is_rewritten |= line.is_touched;
        line.is_touched = true;
        let starts: Vec<usize> = std::iter::once(0)
            .chain(line.bytes.iter().enumerate().filter(|(_, byte)| **byte == delimiter).map(|(at, _)| at + 1))
            .collect();
        let anywhere = dice.below(line.bytes.len() + 1);
        match dice.below(16) {
            0..=2 => {
                line.bytes.insert(dice.one(&starts), b'"');
                "a quote before a cell"
            }
            3 | 4 => {
                let ends: Vec<usize> = starts[1..].iter().map(|at| at - 1).chain([line.bytes.len()]).collect();
                line.bytes.insert(dice.one(&ends), b'"');
                "a quote after a cell"
            }
            5 => {
                line.bytes.insert(anywhere, b'"');
                "a quote anywhere"
            }
            6 => {
                let quotes: Vec<usize> = (0..line.bytes.len()).filter(|at| line.bytes[*at] == b'"').collect();
                if !quotes.is_empty() {
                    line.bytes.remove(dice.one(&quotes));
                }
                "a quote taken away"
            }
            7 => {
                self.lines.remove(row);
                "a row taken away"
            }
            8 => {
                let again = Line {
                    member: None,
                    bytes: line.bytes.clone(),
                    end: line.end,
                    is_rewritten: false,
                    is_touched: false,
                };
                self.lines.insert(row + 1, again);
                "a row twice"
            }
            9 if !is_last => {
                line.end = "";
                line.is_rewritten = true;
                self.lines[row + 1].is_rewritten = true;
                "an end of line taken away"
            }
            10 => {
                let end = line.end;
                self.lines
                    .insert(row, Line { member: None, bytes: Vec::new(), end, is_rewritten: false, is_touched: false });
                "a blank line"
            }
            11 => {
                line.bytes.insert(anywhere, dice.one(&[0, b'\x1b', b'\t', b' ']));
                line.is_rewritten = true;
                "a control character"
            }
            12 => {
                line.bytes.insert(anywhere, delimiter);
                line.is_rewritten = true;
                "one delimiter more"
            }
            13 => {
                line.bytes.insert(anywhere, b'\n');
                line.is_rewritten = true;
                "an end of line within a row"
            }
            14 => {
                let at = dice.below(line.bytes.len());
                if let Some(byte) = line.bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
                line.is_rewritten = true;
                "a bit"
            }
            _ => {
                line.bytes.truncate(anywhere);
                line.is_rewritten = true;
                self.lines.truncate(row + 1);
                self.lines[row].end = "";
                "cut off"
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let text: Vec<u8> =
            self.lines.iter().flat_map(|line| line.bytes.iter().copied().chain(line.end.bytes())).collect();
        let wide = |turned: fn(u16) -> [u8; 2]| {
            let text = String::from_utf8_lossy(&text).into_owned();
            std::iter::once(0xfeff).chain(text.encode_utf16().collect::<Vec<_>>()).flat_map(turned).collect()
        };
        match self.encoding {
            Encoding::Utf8 => text,
            Encoding::Marked => [&b"\xef\xbb\xbf"[..], &text].concat(),
            Encoding::Little => wide(u16::to_le_bytes),
            Encoding::Big => wide(u16::to_be_bytes),
        }
    }

    /// Each line, with its first and its last line number in the file.
    fn places(&self) -> Vec<(u64, u64, &Line)> {
        let (mut at, mut is_after_return, mut places) = (1, false, Vec::new());
        for line in &self.lines {
            let (first, mut last) = (at, at);
            for (place, byte) in line.bytes.iter().copied().chain(line.end.bytes()).enumerate() {
                if place < line.bytes.len() {
                    last = at;
                }
                at += u64::from(byte == b'\r' || (byte == b'\n' && !is_after_return));
                is_after_return = byte == b'\r';
            }
            places.push((first, last, line));
        }
        places
    }
}

/// The result of reading a file.
#[derive(Default, Debug)]
struct Made {
    /// Members that would be queued, by line.
    queued: BTreeMap<u64, String>,
    /// The reported lines.
    reported: Vec<(u64, u64, String)>,
    refused: Option<String>,
    is_done: bool,
}

fn template(path: &Path) -> JobTemplate {
    let systems = BTreeMap::from([("loyalty".to_owned(), Rules::new(Kind::ZetaLoyalty))]);
    let accepts = Accepts { environment: "sandbox".to_owned(), systems, ..Accepts::default() };
    let line = "erasure-worker submit-csv --system loyalty --key integration_id --column ID";
    let words = line.split(' ').map(str::to_owned).chain([path.display().to_string()]);
    let Command::SubmitCsv(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
    JobTemplate::new(&args, accepts, &[7; 32], Timestamp::now()).unwrap()
}

fn made(path: &Path, template: &JobTemplate, skips_damaged: bool) -> Made {
    let mut made = Made::default();
    let reading = match Reading::begin(path, &["ID".to_owned()]) {
        Ok(reading) => reading,
        Err(error) => {
            made.refused = Some(error.to_string());
            return made;
        }
    };
    if reading.damaged > 0 && !skips_damaged {
        assert!(!reading.damages.is_empty());
        made.refused = Some(reading.damages[0].1.clone());
        return made;
    }
    let mut count = Count::default();
    let read = reading.each(|row| {
        let (line, last) = (row.line, row.last);
        match ready(template, row) {
            Ready::Job { body, .. } => {
                let job: Value = serde_json::from_slice(&body).unwrap();
                let member = job.pointer("/targets/0/member/integration_id").unwrap().as_str().unwrap().to_owned();
                assert!(made.queued.insert(line, member).is_none(), "two jobs of line {line}");
                count.queued += 1;
            }
            Ready::Unusable { note, .. } => {
                let counter = if note.starts_with(DUPLICATE) { &mut count.duplicate } else { &mut count.unusable };
                *counter += 1;
                made.reported.push((line, last, note));
            }
        }
        true
    });
    made.refused = read.err().map(|error| error.to_string());
    made.is_done = made.refused.is_none() && count.exit() == Exit::Done;
    made
}

/// The breach of the rule, if there is one.
fn breach(good: &Good, members: &BTreeSet<String>, made: &Made) -> Option<String> {
    let places = good.places();
    for (line, member) in &made.queued {
        let is_rewritten = || places.iter().any(|(first, last, row)| first <= line && line <= last && row.is_rewritten);
        if !members.contains(member) && !is_rewritten() {
            return Some(format!("line {line}: queued a member that was not in the good file: {member}"));
        }
    }
    if made.refused.is_some() {
        return made.is_done.then(|| "refused, and called done".to_owned());
    }
    for (first, _, row) in places.iter().filter(|(.., row)| !row.is_rewritten) {
        let Some(member) = &row.member else { continue };
        let is_queued = made.queued.values().any(|queued| queued == member);
        let reported = made.reported.iter().find(|(from, to, _)| from <= first && first <= to);
        match (is_queued, reported) {
            (false, None) => return Some(format!("line {first}: neither queued nor reported")),
            (false, Some(_)) if made.is_done => return Some(format!("line {first}: not queued, and called done")),
            _ => {}
        }
    }
    None
}

#[test]
fn of_ten_thousand_damaged_files_no_row_is_lost_and_no_other_member_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members.csv");
    let template = template(&path);
    let (mut refused, mut reported, mut whole) = (0, 0, 0);
    let mut seen = BTreeSet::new();
    for seed in 0..FILES {
        let mut dice = Dice(seed);
        let mut good = good(&mut dice);
        let members: BTreeSet<String> = good.lines.iter().filter_map(|line| line.member.clone()).collect();
        std::fs::write(&path, good.bytes()).unwrap();
        let before = made(&path, &template, false);
        let queued: BTreeSet<String> = before.queued.values().cloned().collect();
        assert!(before.is_done && queued == members, "seed {seed}: an undamaged file: {before:?}");

        let how: Vec<&str> = (0..1 + dice.below(3)).map(|_| good.damage(&mut dice)).collect();
        seen.extend(how.iter().copied());
        // A row after a row without an end is on the same line.
        for row in 1..good.lines.len() {
            if good.lines[row - 1].end.is_empty() {
                good.lines[row - 1].is_rewritten = true;
                good.lines[row].is_rewritten = true;
            }
        }
        std::fs::write(&path, good.bytes()).unwrap();
        for skips_damaged in [false, true] {
            let made = made(&path, &template, skips_damaged);
            if let Some(breach) = breach(&good, &members, &made) {
                let text = String::from_utf8_lossy(&good.bytes()).into_owned();
                panic!("seed {seed} ({how:?}): {breach}\n{text:?}\n{made:?}");
            }
            refused += u64::from(made.refused.is_some());
            reported += u64::from(made.refused.is_none() && !made.reported.is_empty());
            whole += u64::from(made.is_done);
        }
    }
    assert_eq!(seen.len(), 13, "{seen:?}");
    // Each kind of result occurs often, so none is shown by chance only.
    assert!(
        refused > 1_000 && reported > 1_000 && whole > 1_000,
        "{refused} refused, {reported} reported, {whole} whole"
    );
}

#[test]
fn a_file_in_utf16_that_lost_a_byte_is_never_called_done_without_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members.csv");
    let template = template(&path);
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut good = good(&mut dice);
        good.encoding = dice.one(&[Encoding::Little, Encoding::Big]);
        let members: BTreeSet<String> = good.lines.iter().filter_map(|line| line.member.clone()).collect();
        let mut bytes = good.bytes();
        bytes.remove(2 + dice.below(bytes.len() - 2));
        std::fs::write(&path, bytes).unwrap();
        let made = made(&path, &template, false);
        let is_whole = made.queued.len() == members.len();
        assert!(is_whole || !made.is_done, "seed {seed}: {made:?}");
        assert!(made.queued.values().all(|member| members.contains(member)), "seed {seed}: {made:?}");
    }
}

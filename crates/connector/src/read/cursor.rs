//! Reads TOML tables key by key, and knows the line of every place.
//!
//! The rule it keeps: reading continues after a fault. Every key is either read or reported as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::Fault;
use crate::words::{Word, nearest};

/// The longest text of a fault that repeats a word of the file.
const REPEATED: usize = 40;

/// The state while one file is read.
pub(crate) struct Reader {
    /// The byte at which each line begins.
    starts: Vec<usize>,
    /// The faults so far.
    pub faults: Vec<Fault>,
    /// The line of each place.
    pub lines: BTreeMap<String, usize>,
    /// The places at which something could not be read.
    pub broken: BTreeSet<String>,
}

/// A value with its place.
#[derive(Clone)]
pub(crate) struct At<'t> {
    /// The place.
    pub place: String,
    /// Its line.
    pub line: usize,
    /// The value.
    pub value: &'t DeValue<'t>,
}

/// One table, with the keys that are not read yet, in the file's order.
pub(crate) struct Keys<'t> {
    /// The table's place; empty for the file.
    pub place: String,
    /// Its line.
    pub line: usize,
    entries: Vec<(&'t str, Range<usize>, &'t Spanned<DeValue<'t>>)>,
    known: &'static [&'static str],
}

impl Reader {
    pub fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Reader { starts, faults: Vec::new(), lines: BTreeMap::new(), broken: BTreeSet::new() }
    }

    /// The line of a byte.
    pub fn line(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte).max(1)
    }

    /// Records a fault.
    pub fn fault(&mut self, line: usize, place: &str, problem: impl Into<String>, instead: impl Into<String>) {
        let place = if place.is_empty() { "file" } else { place };
        self.broken.insert(place.to_owned());
        self.faults.push(Fault { line, place: place.to_owned(), problem: problem.into(), instead: instead.into() });
    }

    /// Records a fault at a value.
    pub fn fault_at(&mut self, at: &At<'_>, problem: impl Into<String>, instead: impl Into<String>) {
        self.fault(at.line, &at.place, problem, instead);
    }

    /// The keys of a table.
    pub fn keys<'t>(&mut self, at: &At<'t>, known: &'static [&'static str]) -> Option<Keys<'t>> {
        let DeValue::Table(table) = at.value else {
            let is = kind(at.value);
            self.fault_at(at, format!("is {is}, not a table"), "write a table, { … }, instead");
            return None;
        };
        Some(self.table(at.place.clone(), at.line, table, known))
    }

    /// The keys of the whole file, or of a table that was taken out of its value.
    pub fn table<'t>(
        &mut self,
        place: String,
        line: usize,
        table: &'t DeTable<'t>,
        known: &'static [&'static str],
    ) -> Keys<'t> {
        let mut entries: Vec<_> =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        // The library sorts a table's keys by name.
        entries.sort_by_key(|(_, span, _)| span.start);
        Keys { place, line, entries, known }
    }

    /// The elements of a list.
    pub fn list<'t>(&mut self, at: &At<'t>) -> Vec<At<'t>> {
        let DeValue::Array(list) = at.value else {
            self.fault_at(at, format!("is {}, not a list", kind(at.value)), "write a list, [ … ], instead");
            return Vec::new();
        };
        let mut elements = Vec::new();
        for (index, element) in list.iter().enumerate() {
            let place = format!("{}[{index}]", at.place);
            let line = self.line(element.span().start);
            self.lines.insert(place.clone(), line);
            elements.push(At { place, line, value: element.get_ref() });
        }
        elements
    }

    /// One value, or a list of them.
    pub fn one_or_more<'t>(&mut self, at: &At<'t>) -> Vec<At<'t>> {
        if matches!(at.value, DeValue::Array(_)) {
            let list = self.list(at);
            if list.is_empty() {
                self.fault_at(at, "is an empty list", "write at least one value");
            }
            return list;
        }
        vec![at.clone()]
    }

    /// A text that is not empty.
    pub fn text(&mut self, at: &At<'_>) -> Option<String> {
        match at.value {
            DeValue::String(text) if text.trim().is_empty() => {
                self.fault_at(at, "is empty", "write a text that is not empty");
                None
            }
            DeValue::String(text) => self.is_visible(at, text).then(|| text.to_string()),
            other => {
                self.fault_at(at, format!("is {}, not a text", kind(other)), "write a text, \"…\", instead");
                None
            }
        }
    }

    /// False for a text that a reviewer would not see as it is.
    pub fn is_visible(&mut self, at: &At<'_>, text: &str) -> bool {
        let hidden = text.chars().any(is_hidden);
        if hidden {
            self.fault_at(
                at,
                "has a control character or an invisible one: a reviewer would read another text",
                "write visible characters on one line",
            );
        }
        !hidden
    }

    /// A whole number within bounds.
    pub fn number(&mut self, at: &At<'_>, low: u64, high: u64) -> Option<u64> {
        let read = integer(at.value).and_then(|number| u64::try_from(number).ok());
        let read = read.filter(|number| (low..=high).contains(number));
        if read.is_none() {
            let is = match at.value {
                DeValue::Integer(_) => "is a number outside the permitted range".to_owned(),
                other => format!("is {}, not a whole number", kind(other)),
            };
            self.fault_at(at, is, format!("write a whole number from {low} to {high}"));
        }
        read
    }

    /// `true` or `false`.
    pub fn bool(&mut self, at: &At<'_>) -> Option<bool> {
        if let DeValue::Boolean(value) = at.value {
            return Some(*value);
        }
        self.fault_at(at, format!("is {}, not true or false", kind(at.value)), "write true or false");
        None
    }

    /// A flag that may only be set.
    pub fn flag(&mut self, at: &At<'_>) -> bool {
        match self.bool(at) {
            Some(false) => {
                self.fault_at(at, "is false, which is what its absence says", "write true, or remove the key");
                false
            }
            Some(true) => true,
            None => false,
        }
    }

    /// A word of a closed list.
    pub fn word<W: Word>(&mut self, at: &At<'_>) -> Option<W> {
        self.word_of(at, W::WORDS.iter().map(|(word, _)| *word).collect()).and_then(|word| W::of(&word))
    }

    /// A word of a part of a closed list.
    pub fn word_of(&mut self, at: &At<'_>, known: Vec<&'static str>) -> Option<String> {
        let text = self.text(at)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        let all = known.join(", ");
        let instead = match nearest(&text, known) {
            Some(near) => format!("write {near:?} instead (known: {all})"),
            None => format!("write one of {all}"),
        };
        self.fault_at(at, format!("{} is not a known word", repeat(&text)), instead);
        None
    }

    /// A name: of a setting, a secret, an identifier, a read, an act, a fact, an endpoint.
    pub fn name(&mut self, line: usize, place: &str, name: &str) -> bool {
        let good = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !good {
            self.fault(
                line,
                place,
                format!("{} is not a name", repeat(name)),
                "write a small letter, then small letters, digits and _ (63 at most)",
            );
        }
        good
    }
}

impl<'t> Keys<'t> {
    /// The place of a key.
    pub fn full(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    /// Takes a key's value.
    pub fn take(&mut self, r: &mut Reader, key: &str) -> Option<At<'t>> {
        let index = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (_, span, value) = self.entries.remove(index);
        Some(self.entered(r, key, &span, value))
    }

    /// Takes a key that must be there.
    pub fn must(&mut self, r: &mut Reader, key: &str, instead: &str) -> Option<At<'t>> {
        let taken = self.take(r, key);
        if taken.is_none() {
            r.fault(self.line, &self.place.clone(), format!("has no {key}"), instead);
        }
        taken
    }

    /// Takes all keys: a table whose keys are names.
    pub fn all(&mut self, r: &mut Reader) -> Vec<(&'t str, At<'t>)> {
        let entries = std::mem::take(&mut self.entries);
        let mut all = Vec::new();
        for (key, span, value) in entries {
            let shown = if key.chars().any(is_hidden) { repeat(key) } else { key.to_owned() };
            let at = self.entered(r, &shown, &span, value);
            if r.is_visible(&at, key) {
                all.push((key, at));
            }
        }
        all
    }

    fn entered(&self, r: &mut Reader, key: &str, span: &Range<usize>, value: &'t Spanned<DeValue<'t>>) -> At<'t> {
        let place = self.full(key);
        let line = r.line(span.start);
        r.lines.insert(place.clone(), line);
        At { place, line, value: value.get_ref() }
    }

    /// True if a key is there and was not taken.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| *name == key)
    }

    /// Reports every key that was not taken.
    pub fn finish(self, r: &mut Reader) {
        for (key, span, _) in &self.entries {
            let shown =
                if key.chars().any(is_hidden) || key.len() > REPEATED { repeat(key) } else { (*key).to_owned() };
            let place = self.full(&shown);
            let instead = match nearest(key, self.known.iter().copied()) {
                Some(near) if near == *key => format!("remove {key}: it has no place beside the other keys here"),
                Some(near) => format!("write {near} instead"),
                None => format!("remove it (known here: {})", self.known.join(", ")),
            };
            let line = r.line(span.start);
            r.fault(line, &place, "is an unknown key", instead);
        }
    }
}

/// A control character, or an invisible character that changes the shown order or form of its neighbours.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A TOML integer.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// The kind of a value, with its article.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A word of the file for a fault: short, on one line.
pub(crate) fn repeat(text: &str) -> String {
    let short: String = text.chars().take(REPEATED).map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect();
    if short.len() < text.len() { format!("\"{short}…\"") } else { format!("\"{short}\"") }
}

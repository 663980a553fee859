//! Reads texts with slots, and JSON pointers.
//!
//! The rule it keeps: a text that looks like a slot is a slot, or a fault.

use super::cursor::{At, Reader, repeat};
use crate::model::{Converter, Part, Pointer, Slot, Source, Template};
use crate::words::{Word, nearest};

/// The form of a slot, for faults.
const FORM: &str = "write ${id.NAME}, ${setting.NAME}, ${secret.NAME}, ${fact.NAME}, ${proof.NAME} or ${item}";

impl Reader {
    /// A text with slots.
    pub fn template(&mut self, at: &At<'_>) -> Option<Template> {
        let text = self.text(at)?;
        self.slots(at, &text)
    }

    /// The parts of a text.
    pub fn slots(&mut self, at: &At<'_>, text: &str) -> Option<Template> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("${") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let inside = &rest[open + 2..];
            let Some(close) = inside.find('}') else {
                self.fault_at(at, "has a slot without an end", "write } after the slot's name");
                return None;
            };
            parts.push(Part::Slot(self.slot(at, &inside[..close])?));
            rest = &inside[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Some(Template(parts))
    }

    fn slot(&mut self, at: &At<'_>, inside: &str) -> Option<Slot> {
        let mut words = inside.split('|');
        let (source, name) = match words.next().unwrap_or_default().split_once('.') {
            Some((source, name)) => (source, name),
            None => (inside.split('|').next().unwrap_or_default(), ""),
        };
        let Some(known) = Source::of(source) else {
            let sources = Source::WORDS.iter().map(|(word, _)| *word);
            let instead = match nearest(source, sources) {
                Some(near) => format!("write {near} instead"),
                None => FORM.to_owned(),
            };
            self.fault_at(at, format!("{} is not a source of values", repeat(source)), instead);
            return None;
        };
        if (known == Source::Item) != name.is_empty() {
            self.fault_at(at, format!("{} is not a slot", repeat(inside)), FORM);
            return None;
        }
        let mut converters = Vec::new();
        for word in words {
            let Some(converter) = Converter::of(word) else {
                let all: Vec<_> = Converter::WORDS.iter().map(|(word, _)| *word).collect();
                self.fault_at(
                    at,
                    format!("{} is not a conversion", repeat(word)),
                    format!("write one of {}", all.join(", ")),
                );
                return None;
            };
            converters.push(converter);
        }
        Some(Slot { source: known, name: name.to_owned(), converters })
    }

    /// A JSON pointer.
    pub fn pointer(&mut self, line: usize, place: &str, text: &str) -> Option<Pointer> {
        let escapes = text.match_indices('~').all(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')));
        if text.len() > 200 || !escapes || !(text.is_empty() || text.starts_with('/')) {
            self.fault(
                line,
                place,
                format!("{} is not a JSON pointer", repeat(text)),
                "write a place such as /user/id, with ~1 for / in a name and ~0 for ~",
            );
            return None;
        }
        let names = text.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"));
        Some(Pointer(names.collect()))
    }
}

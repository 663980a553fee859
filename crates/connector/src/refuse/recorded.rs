//! Recorded replies: the file has read the vendor as the vendor writes.

use std::collections::BTreeSet;

use super::{Trial, answer_of, expected};
use crate::fill::converted;
use crate::matching::{Answer, Meaning, Reply, Truth, Values, matches, meaning_of};
use crate::model::{Evidence, Example, Says, Slot, Source};

/// The identifiers of an example.
struct Recorded<'e>(&'e Example);

impl Values for Recorded<'_> {
    fn slot(&self, slot: &Slot) -> Option<String> {
        let value = self.0.identifiers.get(&slot.name).filter(|_| slot.source == Source::Id)?;
        Some(converted(value.clone(), &slot.converters))
    }
}

impl Example {
    /// The reply.
    pub fn reply(&self) -> Reply {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        Reply::new(self.status, headers.collect(), self.body.as_bytes())
    }
}

impl Trial<'_> {
    /// Each example has the meaning that it names; each answer that counts as evidence has an example that it takes.
    pub(super) fn recorded(&mut self) {
        let file = self.file;
        let mut shown: BTreeSet<(String, usize)> = BTreeSet::new();
        for (index, example) in file.examples.iter().enumerate() {
            let place = format!("example[{index}]");
            for name in example.identifiers.keys().filter(|name| !file.identifiers.contains_key(*name)) {
                self.refuse(&place, format!("names the identifier {name}, which the file does not have"), "remove it");
            }
            let (part, name) = example.of.split_once('.').unwrap_or((&example.of, ""));
            let read = file.reads.iter().find(|read| part == "read" && read.name == name);
            let act = file.acts.iter().find(|act| part == "act" && act.name == name);
            if let Some(read) = read {
                let words: Vec<_> = read.answers.iter().map(|answer| answer.is.word()).collect();
                self.means(&place, example, &read.answers, &words, &mut shown);
            } else if let Some(act) = act {
                let words: Vec<_> = act.answers.iter().map(|answer| answer.is.word()).collect();
                self.means(&place, example, &act.answers, &words, &mut shown);
            } else if example.of == "probe" {
                let is = if matches(&file.probe.ok, &example.reply(), &Recorded(example)) == Truth::True {
                    "ok"
                } else {
                    "not ok"
                };
                if example.is != is {
                    self.refuse(
                        &place,
                        format!("is read by the probe as {is}"),
                        "write is = \"ok\" or \"not ok\" as it is",
                    );
                }
            } else {
                self.refuse(
                    &format!("{place}.of"),
                    "names no read, no act and not the probe",
                    "write of = \"read.NAME\", \"act.NAME\" or \"probe\"",
                );
            }
        }
        self.need_examples(&shown);
    }

    fn means<A: Answer>(
        &mut self,
        place: &str,
        example: &Example,
        answers: &[A],
        words: &[&'static str],
        shown: &mut BTreeSet<(String, usize)>,
    ) {
        let (is, index) = match meaning_of(answers, &example.reply(), &Recorded(example)) {
            Meaning::Known(index, _) => (words.get(index).copied().unwrap_or_default(), Some(index)),
            Meaning::Unreadable => ("unreadable", None),
            Meaning::Unmatched => ("unmatched", None),
        };
        if is == example.is {
            shown.extend(index.map(|index| (example.of.clone(), index)));
            return;
        }
        let said: String = example.is.chars().take(40).collect();
        let instead = match is {
            "unreadable" => {
                "give the answers a place that this reply has and by which they differ: an earlier answer asks for a \
                 place, or a type, that it does not have"
            }
            _ => "mend the conditions of the answers, or the example (and its `identifiers`)",
        };
        self.refuse(place, format!("is recorded as {said:?}, but {} reads it as {is}", example.of), instead);
    }

    fn need_examples(&mut self, shown: &BTreeSet<(String, usize)>) {
        let file = self.file;
        let mut needed = BTreeSet::new();
        for act in &file.acts {
            for expect in expected(&act.evidence) {
                let Some(read) = file.reads.get(expect.read) else { continue };
                let counted = read.answers.iter().enumerate().filter(|(_, answer)| expect.shows.contains(&answer.is));
                needed.extend(counted.map(|(index, answer)| ("read", &read.name, index, answer.is.word())));
            }
            if matches!(act.evidence, Evidence::Answer(_)) {
                let done = act.answers.iter().enumerate().filter(|(_, answer)| answer.is == Says::Done);
                needed.extend(done.map(|(index, answer)| ("act", &act.name, index, answer.is.word())));
            }
        }
        for (part, name, index, word) in needed {
            if !shown.contains(&(format!("{part}.{name}"), index)) {
                self.refuse(
                    &answer_of(part, name, index),
                    format!("counts as evidence ({word}), but no recorded reply shows that the vendor writes it so"),
                    format!(
                        "write [[example]] with of = \"{part}.{name}\", is = \"{word}\", and status and body as recorded"
                    ),
                );
            }
        }
    }
}

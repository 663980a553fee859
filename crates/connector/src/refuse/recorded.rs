//! Recorded replies: the file has read the vendor as the vendor writes.

use std::collections::BTreeMap;

use super::{Trial, answer_of, expected};
use crate::branches;
use crate::fill::converted;
use crate::matching::{Answer, Meaning, Reply, Truth, Values, matches, meaning_of};
use crate::model::{ActAnswer, Evidence, Example, Matcher, Says, Slot, Source, Test};

/// The identifiers of an example.
pub(super) struct Recorded<'e>(pub(super) &'e Example);

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

/// The examples that each answer takes.
type Shown<'c> = BTreeMap<(String, usize), Vec<&'c Example>>;

impl<'c> Trial<'c> {
    /// Each example has the meaning that it names; each answer that counts as evidence has an example that it takes.
    pub(super) fn recorded(&mut self) {
        let file = self.file;
        let mut shown: Shown<'c> = BTreeMap::new();
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
        example: &'c Example,
        answers: &[A],
        words: &[&'static str],
        shown: &mut Shown<'c>,
    ) {
        let (is, index) = match meaning_of(answers, &example.reply(), &Recorded(example)) {
            Meaning::Known(index, _) => (words.get(index).copied().unwrap_or_default(), Some(index)),
            Meaning::Unreadable => ("unreadable", None),
            Meaning::Unmatched => ("unmatched", None),
        };
        if is == example.is {
            if let Some(index) = index {
                shown.entry((example.of.clone(), index)).or_default().push(example);
            }
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

    fn need_examples(&mut self, shown: &Shown<'c>) {
        let file = self.file;
        let mut needed: Vec<(&str, &String, usize, &str, &Matcher)> = Vec::new();
        for act in &file.acts {
            for expect in expected(&act.evidence) {
                let Some(read) = file.reads.get(expect.read) else { continue };
                let counted = read.answers.iter().enumerate().filter(|(_, answer)| expect.shows.contains(&answer.is));
                needed
                    .extend(counted.map(|(index, answer)| ("read", &read.name, index, answer.is.word(), &answer.when)));
            }
            // A "duplicate request" can still be in the queue: that the vendor writes it of finished work must be shown.
            if matches!(act.evidence, Evidence::Answer(_)) {
                let is_proof = |answer: &ActAnswer| matches!(answer.is, Says::Done | Says::DoneBefore);
                let done = act.answers.iter().enumerate().filter(|(_, answer)| is_proof(answer));
                needed.extend(done.map(|(index, answer)| ("act", &act.name, index, answer.is.word(), &answer.when)));
            }
        }
        needed.sort_by_key(|(part, name, index, ..)| (*part, *name, *index));
        needed.dedup_by_key(|(part, name, index, ..)| (*part, *name, *index));
        for (part, name, index, word, when) in needed {
            let taken = shown.get(&(format!("{part}.{name}"), index)).map(Vec::as_slice).unwrap_or_default();
            if !taken.is_empty() {
                self.each_value_shown(&answer_of(part, name, index), word, when, taken);
            } else {
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

    /// Each value of an `in` counts as evidence, so each has an example: a list such as `completed, failed, cancelled`
    /// takes an end for a success.
    fn each_value_shown(&mut self, place: &str, word: &str, when: &Matcher, taken: &[&Example]) {
        let branches = branches::of(when).unwrap_or_default();
        let mut seen = Vec::new();
        for atom in branches.into_iter().flat_map(|branch| branch.atoms) {
            let Matcher::At(pointer, Test::In(values)) = atom else { continue };
            if seen.contains(&atom) {
                continue;
            }
            seen.push(atom);
            for value in values {
                if taken.iter().any(|example| example.reply().at(pointer) == Some(value)) {
                    continue;
                }
                self.refuse(
                    place,
                    format!(
                        "counts {value} at {} as evidence ({word}), but no recorded reply has this value",
                        pointer.written()
                    ),
                    "write an [[example]] with it as the vendor documents it, or remove the value from in",
                );
            }
        }
    }
}

//! A recorded reply that counts as an erasure has no identifier of the person.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Trial, is_success};
use crate::matching::{Meaning, meaning_of};
use crate::model::{Connector, Evidence, Example, IdentifierForm, Pointer, Read, Says, Shows, Slot, Source};
use crate::refuse::recorded::Recorded;

impl Trial<'_> {
    /// "Archived" and "deleted" with the address still in the reply is no erasure.
    ///
    /// The identifiers that the call or the condition itself names do not count: the vendor repeats them of nobody, too.
    /// An address at a place of `same` always counts.
    pub(super) fn traces(&mut self) {
        let file = self.file;
        for (index, example) in file.examples.iter().enumerate() {
            let place = format!("example[{index}]");
            let (part, name) = example.of.split_once('.').unwrap_or_default();
            if let Some(read) = file.reads.iter().find(|read| part == "read" && read.name == name)
                && let Some(shows) = shown(read, example).map(|(shows, _)| shows)
                && is_success(shows)
            {
                let sent = sent(read.slots());
                self.left_at_same(&place, example, read, shows, &sent);
                let mut known = given(example, &sent);
                known.extend(
                    file.reads.iter().flat_map(|other| persons(file, other, &sent)).filter(|_| shows == Shows::Gone),
                );
                self.left(&place, example, shows.word(), &known);
            }
            if let Some(act) = file.acts.iter().find(|act| part == "act" && act.name == name)
                && matches!(act.evidence, Evidence::Answer(_))
                && let Meaning::Known(_, answer) = meaning_of(&act.answers, &example.reply(), &Recorded(example))
                && matches!(answer.is, Says::Done | Says::DoneBefore)
            {
                self.left(&place, example, answer.is.word(), &given(example, &sent(act.call.slots())));
            }
        }
    }

    /// The values of known identifiers anywhere in the body.
    fn left(&mut self, place: &str, example: &Example, word: &str, known: &BTreeSet<(String, String)>) {
        let reply = example.reply();
        let Some(body) = reply.at(&Pointer(Vec::new())) else { return };
        let names: BTreeSet<&str> =
            known.iter().filter(|(_, value)| has(body, value)).map(|(name, _)| name.as_str()).collect();
        for name in names {
            self.still_there(place, name, word);
        }
    }

    /// The places by which this read compares the person.
    fn left_at_same(&mut self, place: &str, example: &Example, read: &Read, shows: Shows, sent: &BTreeSet<&str>) {
        let reply = example.reply();
        for (pointer, name) in read.answers.iter().flat_map(|answer| &answer.same) {
            let is_address = self.file.identifiers.get(name).is_some_and(|known| known.form == IdentifierForm::Email);
            if sent.contains(name.as_str()) && !is_address {
                continue;
            }
            let Some(value) = reply.text(pointer).filter(|value| !value.is_empty()) else { continue };
            match example.identifiers.get(name) {
                Some(given) if !given.eq_ignore_ascii_case(&value) => {}
                _ => self.still_there(place, name, shows.word()),
            }
        }
    }

    fn still_there(&mut self, place: &str, name: &str, word: &str) {
        self.refuse(
            place,
            format!("is read as {word}, but still has the person's {name}: archived or marked as deleted is not erased"),
            format!(
                "read it as found, not_done or pending. If the vendor has put another value there, write the person's own \
                 in the example: identifiers = {{ {name} = \"…\" }}"
            ),
        );
    }
}

/// The meaning of an example, with the place of the answer.
fn shown(read: &Read, example: &Example) -> Option<(Shows, usize)> {
    match meaning_of(&read.answers, &example.reply(), &Recorded(example)) {
        Meaning::Known(index, answer) => Some((answer.is, index)),
        _ => None,
    }
}

/// The identifiers that a call or a condition names.
fn sent(slots: Vec<&Slot>) -> BTreeSet<&str> {
    slots.into_iter().filter(|slot| slot.source == Source::Id).map(|slot| slot.name.as_str()).collect()
}

/// The identifiers that the example itself gives.
fn given(example: &Example, sent: &BTreeSet<&str>) -> BTreeSet<(String, String)> {
    let own = example.identifiers.iter().filter(|(name, value)| !sent.contains(name.as_str()) && !value.is_empty());
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The identifiers of the persons whom the examples of a read show.
fn persons(file: &Connector, read: &Read, sent: &BTreeSet<&str>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for example in file.examples.iter().filter(|example| example.of.strip_prefix("read.") == Some(&read.name)) {
        let Some((Shows::Found, index)) = shown(read, example) else { continue };
        for (pointer, name) in read.answers.get(index).into_iter().flat_map(|answer| &answer.same) {
            let value = example.reply().text(pointer).filter(|value| !value.is_empty());
            all.extend(value.filter(|_| !sent.contains(name.as_str())).map(|value| (name.clone(), value)));
        }
    }
    all
}

/// True if a value stands somewhere: as a whole, or an address within a text.
fn has(body: &Value, wanted: &str) -> bool {
    match body {
        Value::String(text) => {
            text.eq_ignore_ascii_case(wanted)
                || (wanted.contains('@') && text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase()))
        }
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(members) => members.iter().any(|member| has(member, wanted)),
        Value::Object(members) => members.values().any(|member| has(member, wanted)),
        Value::Null | Value::Bool(_) => false,
    }
}

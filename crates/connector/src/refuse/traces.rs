//! A recorded reply that counts as an erasure has no identifier of the person.

use std::collections::BTreeSet;

use super::{Trial, expected, is_success};
use crate::matching::{Meaning, meaning_of};
use crate::model::{Connector, Evidence, Example, IdentifierForm, Read, Says, Shows, Slot, Source};
use crate::refuse::recorded::Recorded;
use crate::understand::is_in_clear;

impl Trial<'_> {
    /// "Archived" and "deleted" with the address still in the reply is no erasure.
    ///
    /// The identifiers that the call or the condition itself names do not count: the vendor repeats them of nobody, too.
    /// An address at a place of `same` always counts. The worker does the same with each reply of the vendor.
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
                let counts = |name: &str| match shows {
                    Shows::Gone => true,
                    // Of what was changed, an id may be left.
                    _ => is_address(file, name) && proves(file, read),
                };
                let others = file.reads.iter().flat_map(|other| persons(file, other, &sent));
                known.extend(others.filter(|(name, _)| counts(name)));
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
        let names: BTreeSet<&str> =
            known.iter().filter(|(_, value)| reply.has(value)).map(|(name, _)| name.as_str()).collect();
        for name in names {
            self.still_there(place, name, word);
        }
    }

    /// The places by which this read compares the person.
    fn left_at_same(&mut self, place: &str, example: &Example, read: &Read, shows: Shows, sent: &BTreeSet<&str>) {
        let reply = example.reply();
        for (pointer, name) in read.answers.iter().flat_map(|answer| &answer.same) {
            if sent.contains(name.as_str()) && !is_address(self.file, name) {
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

fn is_address(file: &Connector, name: &str) -> bool {
    file.identifiers.get(name).is_some_and(|known| known.form == IdentifierForm::Email)
}

/// True if a target can end on what this read shows.
fn proves(file: &Connector, read: &Read) -> bool {
    let is_it = |place: usize| file.reads.get(place).is_some_and(|other| other.name == read.name);
    let mut acts = file.acts.iter().enumerate().filter(|(place, _)| !file.leads_on(*place));
    acts.any(|(_, act)| expected(&act.evidence).iter().any(|expect| is_it(expect.read)))
}

/// The identifiers that a call or a condition names.
fn sent(slots: Vec<&Slot>) -> BTreeSet<&str> {
    let named = |slot: &&Slot| slot.source == Source::Id && is_in_clear(slot, &slot.name);
    slots.into_iter().filter(named).map(|slot| slot.name.as_str()).collect()
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

//! The people of a stand-in.
//!
//! The rule it keeps: every value follows from the person's number, and no two identifiers of a person are equal.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::matching::Values;
use crate::model::{Connector, Evidence, IdentifierForm, Pointer, Slot, Source};
use crate::{document, fill};

/// The members of each list.
const MEMBERS: u32 = 3;

/// A call that the vendor has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// When its effect shows; `None`: never.
    pub shows_ms: Option<u64>,
    /// How often it was called.
    pub times: u32,
}

/// A person.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The number.
    pub number: u64,
    /// The identifiers, by name.
    pub identifiers: BTreeMap<String, String>,
    /// The proofs, by name.
    pub proofs: BTreeMap<String, String>,
    /// False for a person whom the vendor does not know.
    pub exists: bool,
    /// The facts that the vendor has given about the person; the latest is the last.
    facts: BTreeMap<String, Vec<Value>>,
    /// The name of the fact with the list of `each`.
    list: Option<String>,
    /// By act and member.
    pub acts: BTreeMap<(usize, u32), Made>,
}

impl Person {
    /// The person with this number.
    pub fn numbered(file: &Connector, number: u64) -> Person {
        let identifier = |place: usize, name: &str, form: IdentifierForm| match form {
            IdentifierForm::Text => format!("{}-{number}", name.replace('_', "-")),
            // Long enough to be found where it must not stand.
            IdentifierForm::Digits => (7_000_000_007 + number * 100 + place as u64).to_string(),
            // A vendor that wants small letters is sent them by a converter.
            IdentifierForm::Email => format!("Person{number}.{}@example.com", name.replace('_', "-")),
            IdentifierForm::Uuid => {
                let hex = hex::encode(Sha256::digest(format!("{name} {number}")));
                format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
            }
        };
        let identifiers = file.identifiers.iter().enumerate();
        let list = file.acts.iter().find_map(|act| act.each.clone());
        let mut person = Person {
            number,
            identifiers: identifiers
                .map(|(place, (name, of))| (name.clone(), identifier(place, name, of.form)))
                .collect(),
            proofs: file
                .proofs
                .iter()
                .map(|name| (name.clone(), format!("proof-{}-{number}", name.replace('_', "-"))))
                .collect(),
            exists: true,
            facts: BTreeMap::new(),
            list,
            acts: BTreeMap::new(),
        };
        let taken = file.reads.iter().flat_map(|read| {
            read.answers.iter().flat_map(move |answer| answer.take.iter().map(move |(name, at)| (&read.name, name, at)))
        });
        for (read, name, pointer) in taken {
            let is_number = recorded(file, &format!("read.{read}"), pointer).is_some_and(|value| match &value {
                Value::Array(members) => members.first().is_some_and(Value::is_number),
                value => value.is_number(),
            });
            let value = |member: u32| match is_number {
                true => json!(number * 1000 + u64::from(member)),
                false => json!(format!("{}-{number}-{member}", name.replace('_', "-"))),
            };
            let count = if Some(name) == person.list.as_ref() { MEMBERS } else { 1 };
            person.facts.entry(name.clone()).or_insert_with(|| (0..count).map(value).collect());
        }
        person
    }

    /// Every value that a fact had, as texts.
    pub(super) fn known(&self, name: &str) -> Vec<String> {
        self.facts.get(name).into_iter().flatten().filter_map(text).collect()
    }

    /// The members of the list.
    pub(super) fn members(&self) -> &[Value] {
        self.list.as_ref().and_then(|name| self.facts.get(name)).map_or(&[], Vec::as_slice)
    }

    /// True if this fact is the list.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.list.as_deref() == Some(name)
    }

    /// The place of a member in the list.
    pub(super) fn member(&self, value: &str) -> Option<u32> {
        let at = self.members().iter().position(|member| text(member).as_deref() == Some(value))?;
        u32::try_from(at).ok()
    }

    /// Gives the person a new value of a fact.
    pub(super) fn learn(&mut self, name: &str, value: Value) {
        self.facts.entry(name.to_owned()).or_default().push(value);
    }

    /// The latest value of a fact.
    pub(super) fn fact(&self, name: &str) -> Option<&Value> {
        self.facts.get(name)?.last()
    }

    /// The number of calls of an act.
    pub(super) fn count(&self, file: &Connector, act: usize) -> u32 {
        let is_each = file.acts.get(act).is_some_and(|act| act.each.is_some());
        if is_each { u32::try_from(self.members().len()).unwrap_or(0) } else { 1 }
    }

    /// True if the act's effect shows, for this member.
    pub(super) fn shows(&self, act: usize, member: u32, now_ms: u64) -> bool {
        self.acts.get(&(act, member)).is_some_and(|made| made.shows_ms.is_some_and(|at| now_ms >= at))
    }

    /// True if every act has taken effect. What a vendor only declares is done when it is accepted.
    pub(super) fn is_erased(&self, file: &Connector, now_ms: u64) -> bool {
        file.acts.iter().enumerate().all(|(place, act)| {
            let by_word = !matches!(act.evidence, Evidence::Read { .. });
            (0..self.count(file, place)).all(|member| match by_word {
                true => self.acts.get(&(place, member)).is_some_and(|made| made.shows_ms.is_some()),
                false => self.shows(place, member, now_ms),
            })
        })
    }
}

/// A person's values, for a reply about one member of the list.
pub(super) struct Of<'a> {
    pub(super) person: Option<&'a Person>,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) member: u32,
    /// The values of a request about nobody.
    pub(super) asked: &'a [(Slot, String)],
}

impl Values for Of<'_> {
    fn slot(&self, slot: &Slot) -> Option<String> {
        if self.person.is_none() && slot.source != Source::Setting {
            let asked = self.asked.iter().find(|(known, _)| known.source == slot.source && known.name == slot.name);
            return asked.map(|(_, value)| value.clone());
        }
        let value = match slot.source {
            Source::Id => self.person?.identifiers.get(&slot.name)?.clone(),
            Source::Setting => self.settings.get(&slot.name)?.clone(),
            Source::Fact => text(self.person?.fact(&slot.name)?)?,
            Source::Item => text(self.person?.members().get(self.member as usize)?)?,
            Source::Proof | Source::Secret => return None,
        };
        Some(fill::converted(value, &slot.converters))
    }
}

/// A text, or a number's digits.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value at a place of the first recorded reply of a part that has it.
pub(super) fn recorded(file: &Connector, of: &str, pointer: &Pointer) -> Option<Value> {
    let bodies = file.examples.iter().filter(|example| example.of == of);
    bodies
        .filter_map(|example| serde_json::from_str::<Value>(&example.body).ok())
        .find_map(|body| document::at(&body, &pointer.0).cloned())
}

//! The values of slots: the installation's settings and secrets, the job's identifiers and proofs, and facts.
//!
//! The rule it keeps: a value is looked up under its own source only. A slot without a value gives none.

use std::collections::BTreeMap;
use std::sync::Arc;

use erasure_connector::Values;
use erasure_connector::fill::converted;
use erasure_connector::model::{Slot, Source};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::job::Fact;

/// The values of an installation: there is no job.
pub(super) struct Installed<'a> {
    pub settings: &'a BTreeMap<String, String>,
    pub secrets: &'a BTreeMap<String, SecretString>,
}

impl Installed<'_> {
    fn raw(&self, slot: &Slot) -> Option<&str> {
        match slot.source {
            Source::Setting => self.settings.get(&slot.name).map(String::as_str),
            Source::Secret => self.secrets.get(&slot.name).map(ExposeSecret::expose_secret),
            Source::Id | Source::Fact | Source::Proof | Source::Item => None,
        }
    }
}

impl Values for Installed<'_> {
    fn slot(&self, slot: &Slot) -> Option<String> {
        self.raw(slot).map(|raw| converted(raw.to_owned(), &slot.converters))
    }
}

/// The values of a call for a person.
pub(super) struct OfJob<'a> {
    pub installed: Installed<'a>,
    pub identifiers: &'a BTreeMap<String, SecretString>,
    pub proofs: &'a BTreeMap<String, SecretString>,
    /// The facts by their places, and the names of the places.
    pub facts: &'a [(u16, Arc<Fact>)],
    pub names: &'a [String],
    /// The present member of a list.
    pub item: Option<&'a str>,
}

impl OfJob<'_> {
    fn fact(&self, name: &str) -> Option<&Fact> {
        let place = self.names.iter().position(|known| known == name)?;
        self.facts.iter().find(|(of, _)| usize::from(*of) == place).map(|(_, fact)| &**fact)
    }

    fn raw(&self, slot: &Slot) -> Option<&str> {
        match slot.source {
            Source::Id => self.identifiers.get(&slot.name).map(ExposeSecret::expose_secret),
            Source::Proof => self.proofs.get(&slot.name).map(ExposeSecret::expose_secret),
            Source::Item => self.item,
            Source::Fact => match self.fact(&slot.name)? {
                Fact::Text(text) | Fact::Number(text) => Some(text),
                Fact::List(_) => None,
            },
            Source::Setting | Source::Secret => self.installed.raw(slot),
        }
    }
}

impl Values for OfJob<'_> {
    fn slot(&self, slot: &Slot) -> Option<String> {
        self.raw(slot).map(|raw| converted(raw.to_owned(), &slot.converters))
    }

    fn typed(&self, slot: &Slot) -> Option<Value> {
        let fact = if slot.source == Source::Fact && slot.converters.is_empty() { self.fact(&slot.name) } else { None };
        match fact {
            Some(Fact::Number(digits)) => digits.parse::<i64>().ok().map(Value::from),
            Some(Fact::List(members)) => Some(members.iter().map(String::as_str).collect()),
            Some(Fact::Text(_)) | None => self.slot(slot).map(Value::from),
        }
    }
}

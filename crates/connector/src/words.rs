//! The closed lists of words in a connector file.
//!
//! The rule it keeps: a word is read and printed from one table.

use erasure_statement::Database;

use crate::model::{
    Converter, Identifier, IdentifierForm, Method, Outcome, Pointer, Refusal, Says, Shows, Slot, Source, Template, Type,
};

/// An enumeration with a word for each value.
pub(crate) trait Word: Sized + Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The value of a word.
    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}

macro_rules! words {
    ($($type:ident { $($word:literal => $value:ident),+ $(,)? })+) => { $(
        impl Word for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $type::$value)),+];
        }
        impl $type {
            /// The word in a connector file.
            pub fn word(self) -> &'static str {
                match self { $($type::$value => $word),+ }
            }
        }
    )+ };
}

impl Word for Database {
    const WORDS: &'static [(&'static str, Self)] =
        &[(Database::Postgresql.word(), Database::Postgresql), (Database::Mysql.word(), Database::Mysql)];
}

words! {
    Outcome { "erased" => Erased, "declared" => Declared, "unproven" => Unproven }
    IdentifierForm { "text" => Text, "digits" => Digits, "email" => Email, "uuid" => Uuid }
    Method { "get" => Get, "post" => Post, "put" => Put, "patch" => Patch, "delete" => Delete }
    Shows {
        "found" => Found, "gone" => Gone, "done" => Done, "not_done" => NotDone, "pending" => Pending,
        "refused" => Refused, "unauthorised" => Unauthorised,
    }
    Says {
        "done" => Done, "done_before" => DoneBefore, "accepted" => Accepted, "unclear" => Unclear,
        "refused" => Refused, "ask" => Ask, "unauthorised" => Unauthorised,
    }
    Refusal { "precondition" => Precondition, "permission" => Permission, "rejected" => Rejected }
    Source {
        "id" => Id, "setting" => Setting, "secret" => Secret, "fact" => Fact, "proof" => Proof, "item" => Item,
    }
    Converter { "lower" => Lower, "md5" => Md5, "sha256" => Sha256, "base64" => Base64 }
    Type {
        "text" => Text, "number" => Number, "bool" => Bool, "list" => List, "object" => Object, "null" => Null,
    }
}

impl Slot {
    /// The slot as a file writes it.
    pub fn written(&self) -> String {
        let mut text = self.source.word().to_owned();
        if self.source != Source::Item {
            text = format!("{text}.{}", self.name);
        }
        for converter in &self.converters {
            text = format!("{text}|{}", converter.word());
        }
        format!("${{{text}}}")
    }
}

impl Template {
    /// The template as a file writes it.
    pub fn written(&self) -> String {
        let part = |part: &crate::model::Part| match part {
            crate::model::Part::Text(text) => text.clone(),
            crate::model::Part::Slot(slot) => slot.written(),
        };
        self.0.iter().map(part).collect()
    }

    /// The template with the name of each value in braces, as traces show it.
    pub fn named(&self) -> String {
        let part = |part: &crate::model::Part| match part {
            crate::model::Part::Text(text) => text.clone(),
            crate::model::Part::Slot(slot) if slot.source == Source::Item => "{item}".to_owned(),
            crate::model::Part::Slot(slot) => format!("{{{}}}", slot.name),
        };
        self.0.iter().map(part).collect()
    }

    /// Its slots.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter_map(|part| match part {
            crate::model::Part::Slot(slot) => Some(slot),
            crate::model::Part::Text(_) => None,
        })
    }
}

impl Identifier {
    /// Its form, and whether a job must have it, in words.
    pub(crate) fn described(&self) -> String {
        let form = match self.form {
            IdentifierForm::Text => "a text",
            IdentifierForm::Digits => "digits",
            IdentifierForm::Email => "an e-mail address",
            IdentifierForm::Uuid => "a UUID",
        };
        let need = if self.required { "every job must give it" } else { "a job may give it" };
        format!("{form}; {need}")
    }
}

impl Pointer {
    /// The pointer as RFC 6901 writes it.
    pub fn written(&self) -> String {
        self.0.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
    }
}

/// The nearest known word, if one is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, word), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

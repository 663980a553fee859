//! A reply in the words of the flow: what it shows, whose data it is, and the facts in it.
//!
//! The rule it keeps: a reply without a fact that its answer takes is unreadable as a whole, because a later call would
//! be made with another value or none. And a reply that still has the person's address shows no erasure.

use serde_json::Value;

use crate::branches::is_absent;
use crate::document;
use crate::matching::{Meaning, Reply, Values, meaning_of};
use crate::model::{
    Act, Connector, Converter, Evidence, IdentifierForm, Pointer, Read, ReadAnswer, Refusal, Says, Shows, Slot, Source,
};
use crate::read::matcher::MOST_ITEMS;
use crate::refuse::is_success;

/// The most bytes of a fact, or of a member of a list.
const LONGEST_FACT: usize = 2_048;

/// A reply, understood. `W` is [`Shows`] for a read, [`Says`] for an act.
#[derive(Debug, Clone, PartialEq)]
pub enum Understood<W> {
    /// It has this meaning.
    Means {
        /// The meaning.
        is: W,
        /// The word of a refusal.
        reason: Option<Refusal>,
        /// For a person or object that is found.
        identity: Compared,
        /// True if it rests on nothing but a 404 or 410.
        is_bare: bool,
        /// True of `done` if the reply still has the person's address: the change may be a mark, such as "deleted".
        is_marked: bool,
        /// The facts, by name.
        facts: Vec<(String, Taken)>,
    },
    /// It may have a meaning, but does not say which.
    Unreadable,
    /// The file does not speak of such a reply.
    Unmatched,
}

/// Whether a person that was read is the person of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Every place that could be compared is equal, and there is one.
    Same,
    /// A place differs.
    Other,
    /// Nothing could be compared.
    Unreadable,
}

/// A fact from a reply. It may name the person: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Taken {
    /// A text.
    Text(String),
    /// A whole number, by its digits.
    Number(String),
    /// A list of texts or whole numbers.
    List(Vec<String>),
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Taken::Text(_) => "Text",
            Taken::Number(_) => "Number",
            Taken::List(_) => "List",
        })
    }
}

impl Connector {
    /// A read's reply.
    pub fn understand_read(&self, read: &Read, reply: &Reply, values: &dyn Values) -> Understood<Shows> {
        match meaning_of(&read.answers, reply, values) {
            Meaning::Known(_, answer) => {
                let Some(facts) = facts(&answer.take, reply) else { return Understood::Unreadable };
                let (is, reason) = (answer.is, answer.reason);
                let identity = match &read.same_as_asked {
                    Some(_) => Compared::Same,
                    None => self.compared(answer, reply, values),
                };
                let is_marked = is_success(is) && self.names_the_person(&read.slots(), &read.answers, reply, values);
                // Nobody is there, and here is the address: one of both is wrong.
                if is_marked && is == Shows::Gone {
                    return Understood::Unreadable;
                }
                Understood::Means { is, reason, identity, is_bare: is_absent(reply.status()), is_marked, facts }
            }
            Meaning::Unreadable => Understood::Unreadable,
            Meaning::Unmatched => Understood::Unmatched,
        }
    }

    /// The reply to an act.
    pub fn understand_act(&self, act: &Act, reply: &Reply, values: &dyn Values) -> Understood<Says> {
        match meaning_of(&act.answers, reply, values) {
            Meaning::Known(_, answer) => {
                let Some(facts) = facts(&answer.take, reply) else { return Understood::Unreadable };
                let (is, reason) = (answer.is, answer.reason);
                let is_bare = is_absent(reply.status());
                let is_proof =
                    matches!(is, Says::Done | Says::DoneBefore) && matches!(act.evidence, Evidence::Answer(_));
                if is_proof && self.names_the_person(&act.call.slots(), &[], reply, values) {
                    return Understood::Unreadable;
                }
                Understood::Means { is, reason, identity: Compared::Unreadable, is_bare, is_marked: false, facts }
            }
            Meaning::Unreadable => Understood::Unreadable,
            Meaning::Unmatched => Understood::Unmatched,
        }
    }

    /// The e-mail addresses that these slots do not give to the vendor in clear, by name.
    pub fn unsent_addresses(&self, sent: &[&Slot]) -> Vec<&str> {
        let addresses = self.identifiers.iter().filter(|(_, identifier)| identifier.form == IdentifierForm::Email);
        let is_sent = |name: &str| sent.iter().any(|slot| is_in_clear(slot, name));
        addresses.map(|(name, _)| name.as_str()).filter(|name| !is_sent(name)).collect()
    }

    /// True if a reply still has an address of the person. What a call names in clear the vendor may repeat of nobody,
    /// too: then only a place at which this read compares the address counts. An id is no such sign: vendors name by it
    /// what they have deleted.
    fn names_the_person(&self, sent: &[&Slot], answers: &[ReadAnswer], reply: &Reply, values: &dyn Values) -> bool {
        let has = |name: &&str| address_of(name, values).is_some_and(|address| reply.has(&address));
        if self.unsent_addresses(sent).iter().any(has) {
            return true;
        }
        answers.iter().flat_map(|answer| &answer.same).any(|(pointer, name)| {
            let form = self.identifiers.get(name).map_or(IdentifierForm::Text, |identifier| identifier.form);
            let shown = reply.text(pointer).filter(|_| form == IdentifierForm::Email);
            shown.zip(address_of(name, values)).is_some_and(|(shown, address)| is_same(form, &shown, &address))
        })
    }

    /// Compares the person shown with the job's. An identifier that the job does not give is not compared. A place that
    /// cannot be read makes the whole comparison unreadable, unless another place differs.
    fn compared(&self, answer: &ReadAnswer, reply: &Reply, values: &dyn Values) -> Compared {
        let verdicts = answer.same.iter().filter_map(|(pointer, name)| {
            let slot = Slot { source: Source::Id, name: name.clone(), converters: Vec::new() };
            let named = values.slot(&slot)?;
            let form = self.identifiers.get(name).map_or(IdentifierForm::Text, |identifier| identifier.form);
            let shown = reply.text(pointer).filter(|shown| !shown.trim().is_empty());
            Some(shown.map(|shown| is_same(form, &shown, &named)))
        });
        let verdicts: Vec<Option<bool>> = verdicts.collect();
        if verdicts.contains(&Some(false)) {
            Compared::Other
        } else if verdicts.is_empty() || verdicts.contains(&None) {
            Compared::Unreadable
        } else {
            Compared::Same
        }
    }
}

fn address_of(name: &str, values: &dyn Values) -> Option<String> {
    let slot = Slot { source: Source::Id, name: name.to_owned(), converters: Vec::new() };
    values.slot(&slot).map(|address| address.trim().to_owned()).filter(|address| !address.is_empty())
}

/// True if a call's slot gives this identifier to the vendor as it is. Of a digest the vendor knows the person only if
/// it still has the person.
pub(crate) fn is_in_clear(slot: &Slot, name: &str) -> bool {
    slot.source == Source::Id
        && slot.name == name
        && !slot.converters.iter().any(|converter| matches!(converter, Converter::Md5 | Converter::Sha256))
}

/// E-mail addresses and UUIDs may differ in case.
fn is_same(form: IdentifierForm, shown: &str, named: &str) -> bool {
    let (shown, named) = (shown.trim(), named.trim());
    match form {
        IdentifierForm::Email => shown.to_lowercase() == named.to_lowercase(),
        IdentifierForm::Uuid => shown.eq_ignore_ascii_case(named),
        IdentifierForm::Text | IdentifierForm::Digits => shown == named,
    }
}

fn facts(take: &[(String, Pointer)], reply: &Reply) -> Option<Vec<(String, Taken)>> {
    take.iter().map(|(name, pointer)| Some((name.clone(), taken(reply.at(pointer)?)?))).collect()
}

/// A value that a later call can be made with.
fn taken(value: &Value) -> Option<Taken> {
    match value {
        Value::String(text) => fit(text).map(Taken::Text),
        Value::Number(number) => document::exact(number).map(|number| Taken::Number(number.to_string())),
        Value::Array(members) if members.len() as u64 <= MOST_ITEMS => {
            let member = |member: &Value| match taken(member)? {
                Taken::Text(text) | Taken::Number(text) => Some(text),
                Taken::List(_) => None,
            };
            members.iter().map(member).collect::<Option<_>>().map(Taken::List)
        }
        _ => None,
    }
}

fn fit(text: &str) -> Option<String> {
    let is_fit = !text.trim().is_empty() && text.len() <= LONGEST_FACT && !text.chars().any(char::is_control);
    is_fit.then(|| text.to_owned())
}

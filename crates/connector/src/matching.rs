//! What a reply means.
//!
//! The rule it keeps: three values. A place that is not there, a value of another type, a damaged body: unreadable,
//! which is neither true nor false. A verdict may only move towards doubt when a reply loses or changes a part.

use serde_json::Value;

use crate::branches::{self, Branch, type_of};
use crate::document::{self, Document};
use crate::model::{ActAnswer, Matcher, Part, Pointer, ReadAnswer, Says, Shows, Slot, Template, Test, Type};

/// An HTTP reply.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    document: Document,
    /// A body of another form than JSON.
    page: String,
}

impl Reply {
    /// A reply: its status, its headers (names in any case), its body.
    pub fn new(status: u16, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        let document = Document::of(body);
        let page = if document == Document::Other { String::from_utf8_lossy(body).into_owned() } else { String::new() };
        Reply { status, headers, document, page }
    }

    /// A reply whose body was read before.
    pub(crate) fn of(status: u16, headers: Vec<(String, String)>, document: Document) -> Self {
        Reply { status, headers, document, page: String::new() }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value at a place, as it stands.
    pub fn at(&self, pointer: &Pointer) -> Option<&Value> {
        match &self.document {
            Document::Json(value) => document::at(value, &pointer.0),
            _ => None,
        }
    }

    /// True if a value stands somewhere in the body: as a whole, as a name, or an address within a text.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        let wanted = &wanted.to_lowercase();
        match &self.document {
            Document::Json(value) => has(value, wanted),
            _ => wanted.contains('@') && stands_in(&self.page, wanted),
        }
    }

    /// The text or whole number at a place, for a comparison with an identifier. `None` also for a number that JSON
    /// libraries round: nobody can be recognised by it.
    pub fn text(&self, pointer: &Pointer) -> Option<String> {
        text_of(self.at(pointer)?)
    }
}

fn has(body: &Value, wanted: &str) -> bool {
    match body {
        Value::String(text) => stands_in(text, wanted),
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(members) => members.iter().any(|member| has(member, wanted)),
        Value::Object(members) => members.iter().any(|(name, member)| stands_in(name, wanted) || has(member, wanted)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// `wanted` is in lower case.
fn stands_in(text: &str, wanted: &str) -> bool {
    let text = text.to_lowercase();
    text == wanted || (wanted.contains('@') && text.contains(wanted))
}

/// A text, or a whole number's digits.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => document::exact(number).map(|number| number.to_string()),
        _ => None,
    }
}

/// The values of slots while a reply is read.
pub trait Values {
    /// The value of a slot, with its conversions.
    fn slot(&self, slot: &Slot) -> Option<String>;

    /// The value of a slot in JSON. A fact keeps its type.
    fn typed(&self, slot: &Slot) -> Option<Value> {
        self.slot(slot).map(Value::from)
    }
}

/// Writes a template with its values. `None` if a value is missing.
pub fn written(template: &Template, values: &dyn Values) -> Option<String> {
    template.0.iter().try_fold(String::new(), |mut text, part| {
        match part {
            Part::Text(more) => text.push_str(more),
            Part::Slot(slot) => text.push_str(&values.slot(slot)?),
        }
        Some(text)
    })
}

/// A condition's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not hold.
    False,
    /// The reply does not say.
    Unreadable,
    /// It holds.
    True,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }
}

/// True for a status whose meaning no file decides: redirects, the credential, the rate, outages.
pub fn is_the_workers(status: u16) -> bool {
    matches!(status, 100..=199 | 300..=399 | 401 | 407 | 408 | 425 | 429) || status >= 500
}

/// Evaluates a condition.
///
/// - A condition that names no status holds only of replies with 200 to 299: an error's body decides nothing unless the
///   file names the error's status.
/// - A place that is not there, and a value of another type than the test's, is unreadable. `exists = false` holds only
///   if the object or list around the place is there.
/// - A body over 1 MiB, deeper than 64 levels or with a key twice makes the whole reply unreadable.
pub fn matches(matcher: &Matcher, reply: &Reply, values: &dyn Values) -> Truth {
    if reply.document == Document::Damaged {
        return Truth::Unreadable;
    }
    let Some(branches) = branches::of(matcher) else { return Truth::Unreadable };
    branches.iter().map(|branch| holds(branch, reply, values)).max().unwrap_or(Truth::Unreadable)
}

fn holds(branch: &Branch<'_>, reply: &Reply, values: &dyn Values) -> Truth {
    let status = Truth::from(branch.allows(reply.status));
    branch.atoms.iter().map(|atom| atom_holds(atom, reply, values)).fold(status, Truth::min)
}

fn atom_holds(atom: &Matcher, reply: &Reply, values: &dyn Values) -> Truth {
    match atom {
        Matcher::Header(name, value) => {
            let mut given = reply.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).peekable();
            match given.peek() {
                None => Truth::Unreadable,
                Some(_) => given.all(|(_, given)| given == value).into(),
            }
        }
        Matcher::Empty => (reply.document == Document::Empty).into(),
        Matcher::At(pointer, test) => {
            let Document::Json(body) = &reply.document else { return Truth::Unreadable };
            let found = document::at(body, &pointer.0);
            match (test, found) {
                (Test::Exists(wanted), found) if document::has_parent(body, pointer) => {
                    (found.is_some() == *wanted).into()
                }
                (Test::Exists(_), _) | (_, None) => Truth::Unreadable,
                (test, Some(value)) => passes(test, value, values),
            }
        }
        // Statuses are a branch's own; `All` and `Any` are never leaves.
        Matcher::Status(_) | Matcher::All(_) | Matcher::Any(_) => Truth::Unreadable,
    }
}

fn passes(test: &Test, value: &Value, values: &dyn Values) -> Truth {
    if let Value::Number(number) = value
        && document::is_rounded(number)
    {
        return Truth::Unreadable;
    }
    match test {
        Test::Is(wanted) => equal(wanted, value),
        Test::In(all) => all.iter().map(|wanted| equal(wanted, value)).max().unwrap_or(Truth::Unreadable),
        Test::Type(Type::Null) => value.is_null().into(),
        Test::Type(of) if type_of(value) == *of && value != "" => Truth::True,
        Test::Type(_) => Truth::Unreadable,
        Test::Count(count) => match value {
            Value::Array(members) => (members.len() == *count).into(),
            Value::Object(members) => (members.len() == *count).into(),
            _ => Truth::Unreadable,
        },
        Test::Has(template) => {
            let (Value::Array(members), Some(wanted)) = (value, written(template, values)) else {
                return Truth::Unreadable;
            };
            let texts: Vec<_> = members.iter().map(text_of).collect();
            match texts.iter().flatten().any(|text| *text == wanted) {
                true => Truth::True,
                false if texts.iter().all(Option::is_some) => Truth::False,
                false => Truth::Unreadable,
            }
        }
        Test::Begins(start) => match value {
            Value::String(text) => text.starts_with(start.as_str()).into(),
            _ => Truth::Unreadable,
        },
        // Decided before a value is looked at.
        Test::Exists(wanted) => (*wanted).into(),
    }
}

fn equal(wanted: &Value, value: &Value) -> Truth {
    match (wanted, value) {
        (Value::Number(wanted), Value::Number(value)) => (document::exact(wanted) == document::exact(value)).into(),
        _ if type_of(wanted) != type_of(value) => Truth::Unreadable,
        _ => (wanted == value).into(),
    }
}

/// A reply's meaning.
#[derive(Debug, PartialEq)]
pub enum Meaning<'a, A> {
    /// This answer, with its place in the list.
    Known(usize, &'a A),
    /// The reply may have one of the meanings, but does not say which.
    Unreadable,
    /// No answer is about such a reply: `docs/systems.md` decides by its status.
    Unmatched,
}

/// An answer of a read or an act.
pub trait Answer {
    /// Its condition.
    fn when(&self) -> &Matcher;
    /// True if nothing about the person rests on it: the worker only waits or reads again.
    fn decides_nothing(&self) -> bool;
    /// True if the other answer has the same consequences.
    fn means_the_same(&self, other: &Self) -> bool;
}

impl Answer for ReadAnswer {
    fn when(&self) -> &Matcher {
        &self.when
    }

    fn decides_nothing(&self) -> bool {
        matches!(self.is, Shows::Pending | Shows::Unauthorised)
    }

    fn means_the_same(&self, other: &Self) -> bool {
        (self.is, self.reason) == (other.is, other.reason) && self.same == other.same && self.take == other.take
    }
}

impl Answer for ActAnswer {
    fn when(&self) -> &Matcher {
        &self.when
    }

    fn decides_nothing(&self) -> bool {
        self.is == Says::Unclear
    }

    fn means_the_same(&self, other: &Self) -> bool {
        (self.is, self.reason) == (other.is, other.reason) && self.take == other.take
    }
}

/// The meaning of a reply: the first answer that is true.
///
/// An unreadable answer before it could have been true of the reply as the vendor meant it. The later answer counts
/// then only if
///
/// - both have the same consequences, or
/// - the later one decides nothing about the person (`pending`, `unclear`, a read's `unauthorised`), or
/// - the two conditions are disjoint as data: where the later one is true, the earlier one cannot be.
///
/// Otherwise a reply that lost the field by which `not_done` is recognised could pass as `done`. A status of which no
/// file decides ([`is_the_workers`]) is never matched.
pub fn meaning_of<'a, A: Answer>(answers: &'a [A], reply: &Reply, values: &dyn Values) -> Meaning<'a, A> {
    if is_the_workers(reply.status) {
        return Meaning::Unmatched;
    }
    let mut doubtful: Vec<&A> = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        match matches(answer.when(), reply, values) {
            Truth::False => {}
            Truth::Unreadable => doubtful.push(answer),
            Truth::True => {
                let certain = |earlier: &&A| {
                    answer.means_the_same(earlier)
                        || answer.decides_nothing()
                        || branches::are_disjoint(earlier.when(), answer.when())
                };
                return match doubtful.iter().all(certain) {
                    true => Meaning::Known(index, answer),
                    false => Meaning::Unreadable,
                };
            }
        }
    }
    if doubtful.is_empty() { Meaning::Unmatched } else { Meaning::Unreadable }
}

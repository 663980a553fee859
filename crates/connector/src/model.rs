//! A connector file after it was read and accepted: the calls, and what each reply means.
//!
//! The rule it keeps: data, not a program. Every condition is a [`Matcher`], so the loader can compare, invert and
//! change it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

/// An accepted file.
#[derive(Debug, Clone)]
pub struct Connector {
    /// The vendor's name, for events and metrics.
    pub name: String,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// What the target ends as.
    pub outcome: Outcome,
    /// The vendor's pages.
    pub sources: Vec<String>,
    /// The settings of an installation.
    pub settings: BTreeMap<String, SettingForm>,
    /// The names of the secrets.
    pub secrets: BTreeSet<String>,
    /// The identifiers of a person in a job.
    pub identifiers: BTreeMap<String, Identifier>,
    /// The proofs that a job may carry.
    pub proofs: BTreeSet<String>,
    /// The address and the credential of every call.
    pub http: Http,
    /// Requests a minute, by endpoint; `default` for all others.
    pub limits: BTreeMap<String, u32>,
    /// A harmless read that shows that address and credential work.
    pub probe: Probe,
    /// The reads; the first is `person`.
    pub reads: Vec<Read>,
    /// The changes, in order.
    pub acts: Vec<Act>,
    /// Recorded replies of the vendor.
    pub examples: Vec<Example>,
    /// Data that the vendor keeps; named in the event.
    pub preserved: Vec<String>,
}

/// What a target of this connector ends as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Erased, on evidence.
    Erased,
    /// The vendor's word alone; the event says so.
    Declared,
    /// Without a proof: the target fails as unproven.
    Unproven,
}

/// The values that a setting can have.
#[derive(Debug, Clone)]
pub enum SettingForm {
    /// One of a list.
    OneOf(Vec<String>),
    /// A regular expression for the whole value.
    Pattern(String),
}

impl SettingForm {
    /// True if a setting may have this value.
    pub fn permits(&self, value: &str) -> bool {
        match self {
            SettingForm::OneOf(values) => values.iter().any(|known| known == value),
            SettingForm::Pattern(pattern) => {
                regex_lite::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(value))
            }
        }
    }

    /// The permitted values, in words.
    pub fn expected(&self) -> String {
        match self {
            SettingForm::OneOf(values) => format!("one of {}", values.join(", ")),
            SettingForm::Pattern(pattern) => format!("a text of the form {pattern}"),
        }
    }
}

/// An identifier of a person.
#[derive(Debug, Clone)]
pub struct Identifier {
    /// Its form.
    pub form: IdentifierForm,
    /// True if a job must have it.
    pub required: bool,
}

/// The form of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentifierForm {
    /// Any text that identifiers may have.
    Text,
    /// Decimal digits.
    Digits,
    /// An e-mail address.
    Email,
    /// A UUID.
    Uuid,
}

/// Address and credential.
#[derive(Debug, Clone)]
pub struct Http {
    /// `https://` and a host, perhaps with a path; settings only.
    pub base: Template,
    /// The credential.
    pub auth: Auth,
    /// Headers of every call.
    pub headers: BTreeMap<String, Template>,
    /// The reason why an address contains a secret, if one does.
    pub secrets_in_address: Option<String>,
    /// The reason why a query contains an identifier, if one does.
    pub identifiers_in_address: Option<String>,
}

/// The credential of a call.
#[derive(Debug, Clone)]
pub enum Auth {
    /// None but headers.
    None,
    /// HTTP basic: user and password.
    Basic(Template, Template),
    /// HTTP bearer.
    Bearer(Template),
}

impl Auth {
    /// Its templates, each with its place in the file.
    pub fn templates(&self) -> Vec<(&'static str, &Template)> {
        match self {
            Auth::None => Vec::new(),
            Auth::Bearer(token) => vec![("http.bearer", token)],
            Auth::Basic(user, password) => vec![("http.basic", user), ("http.basic", password)],
        }
    }
}

/// A text with slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template(pub Vec<Part>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// `${source.name|converter|…}`
    Slot(Slot),
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Where the value comes from.
    pub source: Source,
    /// Its name there; empty for `${item}`.
    pub name: String,
    /// Applied in order.
    pub converters: Vec<Converter>,
}

/// The source of a slot's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `${id.NAME}`: the job's identifier.
    Id,
    /// `${setting.NAME}`
    Setting,
    /// `${secret.NAME}`
    Secret,
    /// `${fact.NAME}`: a value taken from an earlier reply.
    Fact,
    /// `${proof.NAME}`: the job's proof.
    Proof,
    /// `${item}`: the present one of `each`.
    Item,
}

/// A conversion of a slot's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converter {
    /// ASCII lower case.
    Lower,
    /// MD5 in hex, where a vendor's addresses are made that way.
    Md5,
    /// SHA-256 in hex.
    Sha256,
    /// Base64.
    Base64,
}

/// One HTTP request.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: Method,
    /// The path below the base; each slot is encoded as a path segment. A value that is empty, `.` or `..` would make it
    /// another path, and encoding does not help: such a call must not be made.
    pub path: Template,
    /// The query; each value is encoded.
    pub query: Vec<(String, Template)>,
    /// Headers of this call alone.
    pub headers: BTreeMap<String, Template>,
    /// The body.
    pub body: Body,
    /// The limit against which it counts.
    pub endpoint: String,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// A request's body: a structure, never a text.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    None,
    /// JSON; its strings are templates. A string of one slot alone keeps the type of a fact.
    Json(Json),
    /// A form.
    Form(Vec<(String, Template)>),
}

/// JSON with templates for strings.
#[derive(Debug, Clone)]
pub enum Json {
    /// Null, a bool or a number.
    Value(Value),
    /// A text.
    Text(Template),
    /// A list.
    List(Vec<Json>),
    /// An object, in the file's order.
    Object(Vec<(String, Json)>),
}

/// `[probe]`
#[derive(Debug, Clone)]
pub struct Probe {
    /// The call.
    pub call: Call,
    /// The reply that proves address and credential.
    pub ok: Matcher,
}

/// `[read.NAME]`
#[derive(Debug, Clone)]
pub struct Read {
    /// Its name.
    pub name: String,
    /// The call; `None` only for a person that cannot be read.
    pub call: Option<Call>,
    /// The reason why nobody can be compared, if so.
    pub unchecked: Option<String>,
    /// The reason why a found person is the person asked for, without a comparison: the reply is about the identifiers
    /// of the call alone.
    pub same_as_asked: Option<String>,
    /// The meanings of replies, in order; the first that matches counts.
    pub answers: Vec<ReadAnswer>,
    /// The line of its table.
    pub line: usize,
}

/// A reply's meaning, for a read.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The condition.
    pub when: Matcher,
    /// The meaning.
    pub is: Shows,
    /// The word of a refusal.
    pub reason: Option<Refusal>,
    /// Places that are compared with identifiers.
    pub same: Vec<(Pointer, String)>,
    /// Facts that are kept for later calls.
    pub take: Vec<(String, Pointer)>,
    /// The reason why a list that is taken has no further page, if no condition shows it.
    pub complete: Option<String>,
    /// Its line.
    pub line: usize,
}

/// The meaning of a read's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shows {
    /// The person or the object is there.
    Found,
    /// Nobody and nothing is there.
    Gone,
    /// The change has taken effect.
    Done,
    /// The change has not taken effect.
    NotDone,
    /// The vendor is still working on it.
    Pending,
    /// The vendor refuses.
    Refused,
    /// The vendor refuses the installation's own credential: all jobs wait.
    Unauthorised,
}

/// `[[act]]`
#[derive(Debug, Clone)]
pub struct Act {
    /// Its name.
    pub name: String,
    /// The call.
    pub call: Call,
    /// The fact with a list: one call for each item.
    pub each: Option<String>,
    /// The proof that the call needs.
    pub proof: Option<String>,
    /// The meanings of replies, in order; the first that matches counts.
    pub answers: Vec<ActAnswer>,
    /// What follows a lost answer.
    pub lost: Lost,
    /// What proves the effect.
    pub evidence: Evidence,
    /// The line of its table.
    pub line: usize,
}

/// A reply's meaning, for an act.
#[derive(Debug, Clone)]
pub struct ActAnswer {
    /// The condition.
    pub when: Matcher,
    /// The meaning.
    pub is: Says,
    /// The word of a refusal.
    pub reason: Option<Refusal>,
    /// Facts that are kept for later calls.
    pub take: Vec<(String, Pointer)>,
    /// Its line.
    pub line: usize,
}

/// The meaning of an act's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Says {
    /// It is done.
    Done,
    /// It was done before.
    DoneBefore,
    /// It was accepted; the effect follows.
    Accepted,
    /// It decides nothing: read back.
    Unclear,
    /// The vendor refuses, for good.
    Refused,
    /// The proof is missing or wrong: ask the person.
    Ask,
    /// The vendor refuses the installation's own credential, and nothing was changed: all jobs wait.
    Unauthorised,
}

/// Why a vendor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something else must happen first.
    Precondition,
    /// The credential has no right to it.
    Permission,
    /// The request is not accepted.
    Rejected,
}

/// What follows a lost answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// These reads decide; the call is repeated only if they show that nothing happened.
    Read(Vec<Expect>),
    /// The vendor recognises a repeat and says so.
    Recognised,
    /// A repeat does no harm, for this reason.
    Harmless(String),
    /// Nothing can decide: the target ends as unproven.
    Unproven,
}

/// A read, and what it must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The place in [`Connector::reads`].
    pub read: usize,
    /// The meanings that count.
    pub shows: Vec<Shows>,
}

/// What proves an act's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// These reads, all of them.
    Read {
        /// The reads.
        expect: Vec<Expect>,
        /// The pause before the first.
        first: Duration,
        /// The longest pause between two.
        longest: Option<Duration>,
        /// The longest time that the effect may take.
        within: Option<Duration>,
    },
    /// The vendor documents that this answer means completed.
    Answer(String),
    /// The vendor's promise, without a proof.
    Declared(String),
    /// None: the target ends as unproven.
    None,
}

/// `[[example]]`: a recorded reply.
#[derive(Debug, Clone)]
pub struct Example {
    /// `probe`, `read.NAME` or `act.NAME`.
    pub of: String,
    /// The identifiers of the person whom the reply describes, where a matcher compares them.
    pub identifiers: BTreeMap<String, String>,
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// The meaning that the file must give it.
    pub is: String,
    /// Its line.
    pub line: usize,
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pointer(pub Vec<String>);

/// A condition on a reply. It is true, false, or unreadable: a place that is not there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// One of these statuses.
    Status(Vec<u16>),
    /// A header has this value.
    Header(String, String),
    /// The body is empty.
    Empty,
    /// A test of a place in the body.
    At(Pointer, Test),
    /// All of them.
    All(Vec<Matcher>),
    /// At least one of them.
    Any(Vec<Matcher>),
}

/// A test of a value in a reply's body.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to this text, number or bool.
    Is(Value),
    /// Equal to one of these.
    In(Vec<Value>),
    /// Of this type.
    Type(Type),
    /// A list or object with so many members.
    Count(usize),
    /// A list that has this value.
    Has(Template),
    /// A text that begins so.
    Begins(String),
    /// The place is there, or is not.
    Exists(bool),
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A text that is not empty.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list.
    List,
    /// An object.
    Object,
    /// `null`.
    Null,
}

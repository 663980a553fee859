//! A stand-in of a vendor, made from a connector file and its recorded replies: people with a state, and a reply for
//! each call that the file describes.
//!
//! The rule it keeps: the file's recorded replies first. A reply that no record shows is made from the file's own
//! conditions, and is no evidence that the vendor writes it so.

mod binding;
mod people;
mod reply;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::people::Person;
use self::reply::{Chosen, Known};
use crate::model::{Call, Connector, Method, Part as TemplatePart, SettingForm, Source, Template};
use crate::pattern;
use crate::vary::{Content, Given};

/// A part of a file that makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// `[probe]`
    Probe,
    /// `[read.NAME]`, by its place.
    Read(usize),
    /// `[[act]]`, by its place.
    Act(usize),
}

/// A received call.
pub struct Asked<'a> {
    /// The method, in capital letters.
    pub method: &'a str,
    /// The path's segments, decoded.
    pub segments: &'a [String],
    /// The query's pairs, decoded.
    pub query: &'a [(String, String)],
    /// The headers, names in small letters.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
    /// The pairs of a form.
    pub form: Option<&'a [(String, String)]>,
}

impl Asked<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The parts of the file that make such a call: several reads can share an address.
    pub parts: Vec<Part>,
    /// The parts' names in the file: `read.person`.
    pub names: String,
    /// The person's place; `None` for a call about nobody that is known.
    pub person: Option<usize>,
    /// The member of `each`.
    pub member: u32,
    /// True if the credential is right.
    pub is_authorised: bool,
}

/// How a vendor carries out what it has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time from an accepted call to its effect, in milliseconds. `None`: never.
    pub effect_ms: Option<u64>,
    /// Among several replies with one meaning, the one to begin with.
    pub form: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { effect_ms: Some(0), form: 0 }
    }
}

/// A stand-in.
#[derive(Debug, Clone)]
pub struct StandIn {
    file: Arc<Connector>,
    settings: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    people: Vec<Person>,
    /// How accepted calls take effect.
    pub pace: Pace,
    /// The facts that were given so far.
    given: u64,
    /// The recorded replies, and those made from conditions that compare nothing.
    known: Arc<Vec<Known>>,
    /// The values by which the recorded replies name people, each with the identifier's name.
    recorded_people: Arc<Vec<(String, String)>>,
    gaps: BTreeSet<String>,
}

/// An answer, and what became of the call.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The reply.
    pub given: Given,
    /// True if the person's state changed.
    pub effect: bool,
}

impl StandIn {
    /// A stand-in without people, with the first permitted value of each setting.
    pub fn new(file: Arc<Connector>) -> StandIn {
        let setting = |form: &SettingForm| match form {
            SettingForm::OneOf(values) => values.first().cloned().unwrap_or_default(),
            SettingForm::Pattern(pattern) => pattern::example(pattern).unwrap_or_else(|| "x".to_owned()),
        };
        StandIn {
            settings: file.settings.iter().map(|(name, form)| (name.clone(), setting(form))).collect(),
            secrets: file.secrets.iter().map(|name| (name.clone(), format!("stand-in-{name}"))).collect(),
            people: Vec::new(),
            pace: Pace::default(),
            given: 0,
            known: Arc::new(reply::known(&file)),
            recorded_people: Arc::new(reply::people(&file)),
            gaps: BTreeSet::new(),
            file,
        }
    }

    /// The file.
    pub fn file(&self) -> &Arc<Connector> {
        &self.file
    }

    /// The settings of an installation that calls this stand-in.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The secrets of an installation that calls this stand-in.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets
    }

    /// The people.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// A person.
    pub fn person_mut(&mut self, place: usize) -> Option<&mut Person> {
        self.people.get_mut(place)
    }

    /// Adds the person with this number, and returns the place.
    pub fn add(&mut self, number: u64) -> usize {
        let person = Person::numbered(&self.file, number);
        self.people.push(person);
        self.people.len() - 1
    }

    /// Removes everybody.
    pub fn clear(&mut self) {
        self.people.clear();
        self.given = 0;
    }

    /// Replies that the file's conditions and records do not give: `read.person: gone`.
    pub fn gaps(&self) -> &BTreeSet<String> {
        &self.gaps
    }

    /// The part of a job's target that names this person.
    pub fn target(&self, place: usize) -> Map<String, Value> {
        let mut target = Map::new();
        let Some(person) = self.people.get(place) else { return target };
        let texts = |texts: &BTreeMap<String, String>| {
            Value::Object(texts.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect())
        };
        target.insert("subject".to_owned(), texts(&person.identifiers));
        if !person.proofs.is_empty() {
            target.insert("proofs".to_owned(), texts(&person.proofs));
        }
        target
    }

    /// True while the vendor still has the person: an effect is missing.
    pub fn holds(&self, place: usize, now_ms: u64) -> bool {
        self.people.get(place).is_some_and(|person| person.exists && !person.is_erased(&self.file, now_ms))
    }

    /// True if the vendor has, or will have, erased the person by what it accepted.
    pub fn will_erase(&self, place: usize) -> bool {
        self.people.get(place).is_some_and(|person| !person.exists || person.is_erased(&self.file, u64::MAX))
    }

    /// Reads what a call is about; changes nothing. `None`: the file makes no such call.
    pub fn route(&self, asked: &Asked<'_>) -> Option<Route> {
        let mut parts = Vec::new();
        let mut found: Option<(Option<usize>, u32)> = None;
        for (part, call) in self.calls() {
            let Some(bound) = self.bound(call, asked) else { continue };
            let who = self.who(part, &bound);
            // A call about a known person, before a call about nobody.
            match &found {
                Some((Some(_), _)) if who.0.is_none() => continue,
                Some((None, _)) if who.0.is_some() => parts.clear(),
                _ => {}
            }
            found = Some(who);
            parts.push(part);
        }
        let (person, member) = found?;
        let names: Vec<String> = parts.iter().map(|part| self.name(*part)).collect();
        let is_authorised = self.is_authorised(asked);
        Some(Route { parts, names: names.join("+"), person, member, is_authorised })
    }

    /// Does the work and answers.
    pub fn answer(&mut self, route: &Route, asked: &Asked<'_>, now_ms: u64) -> Answered {
        if !route.is_authorised {
            return Answered { given: StandIn::refusal(), effect: false };
        }
        match route.parts.first() {
            Some(Part::Act(act)) => self.act(*act, route, asked, now_ms),
            Some(Part::Probe) => Answered { given: self.probe(), effect: false },
            _ => Answered { given: self.read(route, asked, now_ms), effect: false },
        }
    }

    /// The answer to a wrong credential.
    pub fn refusal() -> Given {
        Given::new(401, Content::Json(serde_json::json!({ "error": "unauthorized" })))
    }

    /// A part's name in the file.
    pub fn name(&self, part: Part) -> String {
        match part {
            Part::Probe => "probe".to_owned(),
            Part::Read(read) => {
                self.file.reads.get(read).map_or_else(String::new, |read| format!("read.{}", read.name))
            }
            Part::Act(act) => self.file.acts.get(act).map_or_else(String::new, |act| format!("act.{}", act.name)),
        }
    }

    /// The path of a part, with the slots' names.
    pub fn path(&self, part: Part) -> String {
        let call = match part {
            Part::Probe => Some(&self.file.probe.call),
            Part::Read(read) => self.file.reads.get(read).and_then(|read| read.call.as_ref()),
            Part::Act(act) => self.file.acts.get(act).map(|act| &act.call),
        };
        call.map_or_else(String::new, |call| call.path.written())
    }

    fn calls(&self) -> Vec<(Part, &Call)> {
        let reads = self.file.reads.iter().enumerate();
        let reads = reads.filter_map(|(place, read)| Some((Part::Read(place), read.call.as_ref()?)));
        let acts = self.file.acts.iter().enumerate().map(|(place, act)| (Part::Act(place), &act.call));
        std::iter::once((Part::Probe, &self.file.probe.call)).chain(reads).chain(acts).collect()
    }

    fn record_gap(&mut self, gap: String) {
        self.gaps.insert(gap);
    }

    fn choose(&mut self, chosen: Chosen) -> Given {
        if let Some(gap) = chosen.gap {
            self.record_gap(gap);
        }
        chosen.given
    }
}

/// The word of a method in a request.
fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

/// True if the template has a value from this source.
fn has(template: &Template, source: Source) -> bool {
    template.0.iter().any(|part| matches!(part, TemplatePart::Slot(slot) if slot.source == source))
}

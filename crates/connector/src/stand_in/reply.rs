//! The reply to a call: a recorded one with the person's values, or one made from the file's conditions.
//!
//! The rule it keeps: a reply is tried with the file before it is given, so that it has the meaning that was wanted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::people::{Made, Of, Person, recorded, text};
use super::{Answered, Asked, Part, Route, StandIn};
use crate::document;
use crate::matching::{Answer, Meaning, Reply, Values, meaning_of};
use crate::model::{ActAnswer, Connector, Evidence, Lost, Matcher, Pointer, ReadAnswer, Says, Shows, Test};
use crate::vary::{Content, Given, documents, put};

/// A reply that was chosen; a gap if none has the wanted meaning.
pub(super) struct Chosen {
    pub(super) given: Given,
    pub(super) gap: Option<String>,
}

/// The place of a reply's meaning among those that are wanted; the rest are worse.
const UNWANTED: usize = 99;

impl StandIn {
    pub(super) fn probe(&mut self) -> Given {
        let recorded = self.file.examples.iter().find(|example| example.of == "probe" && example.is == "ok");
        if let Some(example) = recorded {
            return Given::recorded(example);
        }
        let ok =
            ActAnswer { when: self.file.probe.ok.clone(), is: Says::Done, reason: None, take: Vec::new(), line: 1 };
        let values = Of { person: None, settings: &self.settings, member: 0, asked: &[] };
        let made = documents(std::slice::from_ref(&ok), 0, &values).into_iter().next();
        made.unwrap_or_else(|| {
            self.record_gap("probe: ok".to_owned());
            none()
        })
    }

    /// The reply to a read. Reads that share an address get one reply, which must fit them all.
    pub(super) fn read(&mut self, route: &Route, asked: &Asked<'_>, now_ms: u64) -> Given {
        let reads: Vec<usize> = route
            .parts
            .iter()
            .filter_map(|part| if let Part::Read(read) = part { Some(*read) } else { None })
            .collect();
        let person = route.person.and_then(|place| self.people.get(place)).filter(|person| person.exists);
        let bound = self.asked_values(route, asked);
        let values = Of { person, settings: &self.settings, member: route.member, asked: &bound };
        let mut wanted: Vec<_> =
            reads.iter().map(|read| (*read, self.wanted(*read, person, route.member, now_ms))).collect();
        wanted.sort_by_key(|(read, wanted)| (std::cmp::Reverse(wanted.rank), *read));
        let mut candidates = Vec::new();
        // Another read at this address compares these places.
        let compared: Vec<(&Pointer, &str)> = reads
            .iter()
            .filter_map(|read| self.file.reads.get(*read))
            .flat_map(|of| of.answers.iter().flat_map(|answer| &answer.same))
            .map(|(pointer, name)| (pointer, name.as_str()))
            .collect();
        for known in self.known.iter() {
            let Part::Read(read) = known.part else { continue };
            if reads.contains(&read)
                && let Some(answer) = self.file.reads.get(read).and_then(|of| of.answers.get(known.answer))
            {
                let mut given = known.given.clone();
                let same = same_of(answer, &given, &compared);
                self.personalise(&mut given, same, &answer.take, &values, now_ms);
                candidates.push(given);
            }
        }
        for read in &reads {
            let Some(of) = self.file.reads.get(*read) else { continue };
            for (index, answer) in of.answers.iter().enumerate().filter(|(_, answer)| compares(&answer.when)) {
                for mut given in documents(&of.answers, index, &values) {
                    let same = same_of(answer, &given, &compared);
                    self.personalise(&mut given, same, &answer.take, &values, now_ms);
                    candidates.push(given);
                }
            }
        }
        let scores: Vec<Vec<usize>> = candidates
            .iter()
            .map(|given| {
                let reply = given.reply();
                wanted.iter().map(|(read, wanted)| self.rates(*read, given, &reply, &wanted.shows, &values)).collect()
            })
            .collect();
        let best = scores.iter().min();
        let is_before = wanted.iter().all(|(_, wanted)| wanted.is_before);
        let scored = candidates.iter().zip(&scores).filter(|(_, score)| Some(*score) == best);
        let mut fit: Vec<&Given> = scored.map(|(given, _)| given).collect();
        if is_before && fit.iter().any(|given| given.status == 404 || given.status == 410) {
            fit.retain(|given| given.status == 404 || given.status == 410);
        }
        let met = best.and_then(|best| best.first()).is_some_and(|first| *first != UNWANTED);
        let gap = wanted.first().filter(|_| !met && person.is_some()).map(|(read, wanted)| {
            let shows = wanted.shows.first().map_or("nothing", |shows| shows.word());
            format!("{}: {shows}", self.name(Part::Read(*read)))
        });
        let given =
            fit.get(self.pace.form % fit.len().max(1)).filter(|_| met).map_or_else(none, |given| (*given).clone());
        self.choose(Chosen { given, gap })
    }

    /// The place of the reply's meaning among the wanted ones.
    fn rates(&self, read: usize, given: &Given, reply: &Reply, wanted: &[Shows], values: &Of<'_>) -> usize {
        let Some(read) = self.file.reads.get(read) else { return UNWANTED };
        let Meaning::Known(_, answer) = meaning_of(&read.answers, reply, values) else { return UNWANTED };
        let is_the_person = |(pointer, name): &(Pointer, String)| {
            let own = values.person.and_then(|person| person.identifiers.get(name));
            own.is_none() || shown(given, pointer).as_ref() == own
        };
        let has_facts = answer.take.iter().all(|(_, pointer)| place(given, pointer).is_some());
        let fits = answer.is != Shows::Found || answer.same.iter().all(is_the_person);
        wanted.iter().position(|shows| *shows == answer.is).filter(|_| fits && has_facts).unwrap_or(UNWANTED)
    }

    /// Does an act's work, and answers.
    pub(super) fn act(&mut self, act: usize, route: &Route, asked: &Asked<'_>, now_ms: u64) -> Answered {
        let file = self.file.clone();
        let Some(of) = file.acts.get(act) else { return Answered { given: none(), effect: false } };
        let key = (act, route.member);
        let bound = self.asked_values(route, asked);
        let person = route.person.and_then(|place| self.people.get(place)).filter(|person| person.exists);
        let has_proof = |person: &Person| match &of.proof {
            Some(name) => bound.iter().any(|(slot, value)| {
                slot.source == crate::model::Source::Proof && person.proofs.get(name) == Some(value)
            }),
            None => true,
        };
        let is_ready = |person: &Person| {
            act.checked_sub(1).is_none_or(|before| {
                let by_read = matches!(file.acts[before].evidence, Evidence::Read { .. });
                (0..person.count(&file, before)).all(|member| match by_read {
                    true => person.shows(before, member, now_ms),
                    false => person.acts.contains_key(&(before, member)),
                })
            })
        };
        let says: &[Says] = match person {
            None => &[Says::DoneBefore, Says::Unclear, Says::Refused, Says::Accepted, Says::Done],
            Some(person) if !has_proof(person) => &[Says::Ask, Says::Unclear, Says::Refused],
            Some(person) if person.shows(act, route.member, now_ms) => match of.lost {
                Lost::Harmless(_) => &[Says::Accepted, Says::Done, Says::DoneBefore, Says::Unclear],
                _ => &[Says::DoneBefore, Says::Unclear, Says::Accepted, Says::Done],
            },
            Some(person) if person.acts.contains_key(&key) => &[Says::Accepted, Says::DoneBefore, Says::Done],
            Some(person) if !is_ready(person) => &[Says::Refused, Says::Unclear],
            Some(_) if matches!(of.evidence, Evidence::Answer(_)) => &[Says::Done, Says::Accepted],
            Some(_) => &[Says::Accepted, Says::Done],
        };
        let works = person.is_some_and(|person| has_proof(person) && is_ready(person));
        let (given, gap, facts) = self.act_reply(act, says, person, route.member, &bound);
        if let Some(gap) = gap {
            self.record_gap(gap);
        }
        let by_word = !matches!(of.evidence, Evidence::Read { .. });
        let shows_ms =
            if by_word { Some(now_ms) } else { self.pace.effect_ms.map(|later| now_ms.saturating_add(later)) };
        self.given += 1;
        let person = route.person.and_then(|place| self.people.get_mut(place)).filter(|_| works);
        let Some(person) = person else { return Answered { given, effect: false } };
        for (name, value) in facts {
            person.learn(&name, value);
        }
        let made = person.acts.entry(key).or_insert(Made { at_ms: now_ms, shows_ms, times: 0 });
        made.times += 1;
        Answered { given, effect: made.times == 1 }
    }

    /// An act's reply, a gap, and the facts in it.
    fn act_reply(
        &self,
        act: usize,
        says: &[Says],
        person: Option<&Person>,
        member: u32,
        bound: &[(crate::model::Slot, String)],
    ) -> (Given, Option<String>, Vec<(String, Value)>) {
        let name = self.name(Part::Act(act));
        let Some(of) = self.file.acts.get(act) else { return (none(), None, Vec::new()) };
        let values = Of { person, settings: &self.settings, member, asked: bound };
        for says in says {
            let mut fit: Vec<(Given, Vec<(String, Value)>)> = Vec::new();
            for known in self.known.iter().filter(|known| known.part == Part::Act(act) && known.is_recorded) {
                if of.answers.get(known.answer).is_some_and(|answer| answer.is == *says) {
                    let mut given = known.given.clone();
                    self.personalise(&mut given, Vec::new(), &[], &values, 0);
                    let facts = self.new_facts(&mut given, &of.answers, known.answer, &values, &name);
                    fit.push((given, facts));
                }
            }
            if fit.is_empty() {
                for (index, answer) in of.answers.iter().enumerate().filter(|(_, answer)| answer.is == *says) {
                    for mut given in documents(&of.answers, index, &values) {
                        if answer.is == *says {
                            let facts = self.new_facts(&mut given, &of.answers, index, &values, &name);
                            fit.push((given, facts));
                        }
                    }
                }
            }
            if !fit.is_empty() {
                let (given, facts) = fit.swap_remove(self.pace.form % fit.len());
                return (given, None, facts);
            }
        }
        let gap = says.first().map(|says| format!("{name}: {}", says.word()));
        // A refusal that no answer is about is an ordinary reply of a vendor.
        let is_usual = says.first().is_some_and(|says| matches!(says, Says::Accepted | Says::Done));
        (Given::new(409, Content::Json(json!({ "error": "conflict" }))), gap.filter(|_| is_usual), Vec::new())
    }

    /// Puts new values at the places of an act's facts.
    fn new_facts(
        &self,
        given: &mut Given,
        answers: &[ActAnswer],
        index: usize,
        values: &Of<'_>,
        of: &str,
    ) -> Vec<(String, Value)> {
        let Some(answer) = answers.get(index) else { return Vec::new() };
        let mut facts = Vec::new();
        for (name, pointer) in &answer.take {
            let number = self.given + 1;
            let old = place(given, pointer).cloned();
            let is_number = old.or_else(|| recorded(&self.file, of, pointer)).is_some_and(|value| value.is_number());
            let new = if is_number {
                json!(9_000_000 + number)
            } else {
                json!(format!("{}-{number}", name.replace('_', "-")))
            };
            let mut changed = given.clone();
            if let Content::Json(tree) = &mut changed.body {
                put(tree, &pointer.0, new.clone());
            }
            let means = matches!(meaning_of(answers, &changed.reply(), values), Meaning::Known(at, _) if at == index);
            if means {
                *given = changed;
            }
            if let Some(value) = place(given, pointer) {
                facts.push((name.clone(), value.clone()));
            }
        }
        facts
    }

    /// Replaces the recorded person's values by this person's.
    fn personalise(
        &self,
        given: &mut Given,
        same: Vec<(&Pointer, &str)>,
        take: &[(String, Pointer)],
        values: &Of<'_>,
        now_ms: u64,
    ) {
        let id = |name: &str| {
            let slot =
                crate::model::Slot { source: crate::model::Source::Id, name: name.to_owned(), converters: Vec::new() };
            values.slot(&slot)
        };
        let Content::Json(tree) = &mut given.body else { return };
        let mut swaps: Vec<(String, String)> =
            self.recorded_people.iter().filter_map(|(old, name)| Some((old.clone(), id(name)?))).collect();
        for (pointer, name) in same {
            let Some(new) = id(name) else { continue };
            match document::at(tree, &pointer.0).cloned() {
                Some(Value::String(old)) => swaps.push((old, new)),
                Some(Value::Number(_)) => {
                    let value = new.parse::<u64>().map_or_else(|_| json!(new), |number| json!(number));
                    put(tree, &pointer.0, value);
                }
                _ => drop(put(tree, &pointer.0, json!(new))),
            }
        }
        swap(tree, &swaps);
        let Some(person) = values.person else { return };
        for (name, pointer) in take {
            if person.is_list(name) {
                let act = self.file.acts.iter().position(|act| act.each.as_ref() == Some(name)).unwrap_or(0);
                let members = person.members().iter().enumerate();
                let left = members.filter(|(member, _)| !person.shows(act, *member as u32, now_ms));
                put(tree, &pointer.0, Value::Array(left.map(|(_, member)| member.clone()).collect()));
            } else if let Some(value) = person.fact(name) {
                put(tree, &pointer.0, value.clone());
            }
        }
    }

    /// The values of a request, for a reply about nobody.
    fn asked_values(&self, route: &Route, asked: &Asked<'_>) -> Vec<(crate::model::Slot, String)> {
        let calls = self.calls();
        let call = calls.iter().find(|(part, _)| route.parts.contains(part));
        call.and_then(|(_, call)| self.bound(call, asked)).unwrap_or_default()
    }
}

/// A reply to a part of the file, before it is made a person's.
#[derive(Debug)]
pub(super) struct Known {
    part: Part,
    /// The place of the answer that it means.
    answer: usize,
    given: Given,
    is_recorded: bool,
}

/// The recorded replies of a file, then those made from its conditions, in the order of its parts.
pub(super) fn known(file: &Connector) -> Vec<Known> {
    let reads = file.reads.iter().enumerate();
    let reads =
        reads.flat_map(|(place, read)| of_part(file, Part::Read(place), &format!("read.{}", read.name), &read.answers));
    let acts = file.acts.iter().enumerate();
    let acts =
        acts.flat_map(|(place, act)| of_part(file, Part::Act(place), &format!("act.{}", act.name), &act.answers));
    let mut known: Vec<Known> = reads.chain(acts).collect();
    known.sort_by_key(|known| !known.is_recorded);
    known
}

fn of_part<A: Answer>(file: &Connector, part: Part, name: &str, answers: &[A]) -> Vec<Known> {
    let recorded = file.examples.iter().filter(|example| example.of == name).filter_map(|example| {
        let given = Given::recorded(example);
        let Meaning::Known(answer, _) = meaning_of(answers, &given.reply(), &Old(&example.identifiers)) else {
            return None;
        };
        Some(Known { part, answer, given, is_recorded: true })
    });
    let nobody = BTreeMap::new();
    let plain = answers.iter().enumerate().filter(|(_, answer)| !compares(answer.when()));
    let made = plain.flat_map(|(answer, _)| {
        let known = move |given| Known { part, answer, given, is_recorded: false };
        documents(answers, answer, &Old(&nobody)).into_iter().map(known)
    });
    recorded.chain(made).collect()
}

/// The places of a reply that name the person: those of its own answer, and those of others that it has.
fn same_of<'a>(
    answer: &'a ReadAnswer,
    given: &Given,
    compared: &[(&'a Pointer, &'a str)],
) -> Vec<(&'a Pointer, &'a str)> {
    let own = answer.same.iter().map(|(pointer, name)| (pointer, name.as_str()));
    own.chain(compared.iter().filter(|(pointer, _)| place(given, pointer).and_then(text).is_some()).copied()).collect()
}

/// True if the condition compares a value of the person.
fn compares(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::All(members) | Matcher::Any(members) => members.iter().any(compares),
        Matcher::At(_, Test::Has(_)) => true,
        _ => false,
    }
}

/// The values by which recorded replies name their people, each with the identifier's name.
pub(super) fn people(file: &Connector) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for example in &file.examples {
        all.extend(example.identifiers.iter().map(|(name, old)| (old.clone(), name.clone())));
        let read = file.reads.iter().find(|read| example.of == format!("read.{}", read.name));
        let given = Given::recorded(example);
        for (pointer, name) in read.into_iter().flat_map(|read| read.answers.iter().flat_map(|answer| &answer.same)) {
            // Another text of a reply may be equal to a number.
            if let Some(Value::String(old)) = place(&given, pointer) {
                all.push((old.clone(), name.clone()));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// A recorded person's identifiers.
struct Old<'e>(&'e BTreeMap<String, String>);

impl Values for Old<'_> {
    fn slot(&self, slot: &crate::model::Slot) -> Option<String> {
        let value = self.0.get(&slot.name).filter(|_| slot.source == crate::model::Source::Id)?;
        Some(crate::fill::converted(value.clone(), &slot.converters))
    }
}

/// A reply of which the file does not speak.
fn none() -> Given {
    Given::new(404, Content::Json(json!({ "error": "unknown to the stand-in" })))
}

fn place<'g>(given: &'g Given, pointer: &Pointer) -> Option<&'g Value> {
    if let Content::Json(tree) = &given.body { document::at(tree, &pointer.0) } else { None }
}

fn shown(given: &Given, pointer: &Pointer) -> Option<String> {
    place(given, pointer).and_then(text)
}

fn swap(tree: &mut Value, swaps: &[(String, String)]) {
    match tree {
        Value::String(text) => {
            if let Some((_, new)) = swaps.iter().find(|(old, _)| old == text) {
                text.clone_from(new);
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| swap(member, swaps)),
        Value::Object(members) => members.values_mut().for_each(|member| swap(member, swaps)),
        _ => {}
    }
}

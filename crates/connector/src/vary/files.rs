//! Every change of a connector file as data: the slips that an author could make.
//!
//! The rule it keeps: a change that certainly changes nothing is left out. The order of answers that exclude each other
//! is none, and a meaning that a read never has.

use std::mem::discriminant;

use crate::branches::are_disjoint;
use crate::fault::Fault;
use crate::model::{
    Act, ActAnswer, Call, Connector, Evidence, Json, Lost, Matcher, Outcome, Part, Pointer, ReadAnswer, Says, Shows,
    Slot, Source, Template, Test,
};
use crate::refuse;

/// A changed file.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The place, as faults name it.
    pub place: String,
    /// The change, in words.
    pub what: String,
    /// The file with it.
    pub file: Connector,
}

/// What the loader's rules say about a file that was made from data. Lines are unknown.
pub fn refusals(file: &Connector) -> Vec<Fault> {
    refuse::refuse(file, &Default::default(), &Default::default(), true)
}

/// Every change of this file.
pub fn changes(file: &Connector) -> Vec<Changed> {
    let mut made = Made { file, all: Vec::new() };
    for (index, read) in file.reads.iter().enumerate() {
        made.read(index, &format!("read.{}", read.name));
    }
    for (index, act) in file.acts.iter().enumerate() {
        made.act(index, act, &format!("act.{}", act.name));
    }
    made.whole();
    made.all
}

struct Made<'f> {
    file: &'f Connector,
    all: Vec<Changed>,
}

impl Made<'_> {
    fn add(&mut self, place: &str, what: impl Into<String>, change: impl FnOnce(&mut Connector)) {
        let mut file = self.file.clone();
        change(&mut file);
        self.all.push(Changed { place: place.to_owned(), what: what.into(), file });
    }

    fn whole(&mut self) {
        let file = self.file;
        let stronger = match file.outcome {
            Outcome::Unproven => Some(Outcome::Declared),
            Outcome::Declared => Some(Outcome::Erased),
            Outcome::Erased => None,
        };
        if let Some(outcome) = stronger {
            self.add("outcome", format!("{} instead of {}", outcome.word(), file.outcome.word()), |file| {
                file.outcome = outcome;
            });
        }
        if file.acts.len() > 1 {
            for index in 0..file.acts.len() {
                self.add(&format!("act.{}", file.acts[index].name), "missing", |file| drop(file.acts.remove(index)));
            }
            for index in 1..file.acts.len() {
                self.add(&format!("act.{}", file.acts[index].name), "before the act before it", |file| {
                    file.acts.swap(index - 1, index);
                });
            }
        }
        for (index, (_, place)) in calls(file).into_iter().enumerate() {
            for name in file.identifiers.keys() {
                for other in file.identifiers.keys().filter(|other| *other != name) {
                    let mut changed = file.clone();
                    let mut is_changed = false;
                    if let Some(call) = calls_mut(&mut changed).into_iter().nth(index) {
                        is_changed = rename(call, name, other);
                    }
                    if is_changed {
                        let what = format!("${{id.{other}}} instead of ${{id.{name}}}");
                        self.all.push(Changed { place: place.clone(), what, file: changed });
                    }
                }
            }
        }
    }

    fn read(&mut self, index: usize, place: &str) {
        let file = self.file;
        let Some(read) = file.reads.get(index) else { return };
        for (at, answer) in read.answers.iter().enumerate() {
            let place = format!("{place}.answers[{at}]");
            for (what, matcher) in weaker(&answer.when) {
                self.add(&place, what, |file| file.reads[index].answers[at].when = matcher);
            }
            for shows in other_shows(answer) {
                let what = format!("is = {} instead of {}", shows.word(), answer.is.word());
                self.add(&place, what, |file| {
                    let answer = &mut file.reads[index].answers[at];
                    (answer.is, answer.reason) = (shows, None);
                });
            }
            for (number, (pointer, name)) in answer.same.iter().enumerate() {
                self.add(&place, format!("same without {name}"), |file| {
                    file.reads[index].answers[at].same.remove(number);
                });
                for other in file.identifiers.keys().filter(|other| *other != name) {
                    let what = format!("same {} = {other} instead of {name}", pointer.written());
                    self.add(&place, what, |file| {
                        file.reads[index].answers[at].same[number].1.clone_from(other);
                    });
                }
            }
            for number in 0..answer.take.len() {
                let what = format!("take without {}", answer.take[number].0);
                self.add(&place, what, |file| drop(file.reads[index].answers[at].take.remove(number)));
            }
            self.add(&place, "missing", |file| drop(file.reads[index].answers.remove(at)));
        }
        for at in 1..read.answers.len() {
            let place = format!("{place}.answers[{at}]");
            if !are_disjoint(&read.answers[at - 1].when, &read.answers[at].when) {
                self.add(&place, "before the answer before it", |file| file.reads[index].answers.swap(at - 1, at));
            }
            let [one, two] = [&read.answers[at - 1], &read.answers[at]];
            if discriminant(&one.is) != discriminant(&two.is) {
                self.add(&place, "with the meaning of the answer before it, and that one with this one's", |file| {
                    let answers = &mut file.reads[index].answers;
                    let (is, same, reason) = (answers[at].is, answers[at].same.clone(), answers[at].reason);
                    (answers[at].is, answers[at].reason) = (answers[at - 1].is, answers[at - 1].reason);
                    answers[at].same = answers[at - 1].same.clone();
                    (answers[at - 1].is, answers[at - 1].same, answers[at - 1].reason) = (is, same, reason);
                });
            }
        }
    }

    fn act(&mut self, index: usize, act: &Act, place: &str) {
        for (at, answer) in act.answers.iter().enumerate() {
            let place = format!("{place}.answers[{at}]");
            for (what, matcher) in weaker(&answer.when) {
                self.add(&place, what, |file| file.acts[index].answers[at].when = matcher);
            }
            for says in other_says(answer) {
                let what = format!("is = {} instead of {}", says.word(), answer.is.word());
                self.add(&place, what, |file| {
                    let answer = &mut file.acts[index].answers[at];
                    (answer.is, answer.reason) = (says, None);
                });
            }
            for number in 0..answer.take.len() {
                let what = format!("take without {}", answer.take[number].0);
                self.add(&place, what, |file| drop(file.acts[index].answers[at].take.remove(number)));
            }
            if act.answers.len() > 1 {
                self.add(&place, "missing", |file| drop(file.acts[index].answers.remove(at)));
            }
        }
        for at in 1..act.answers.len() {
            let place = format!("{place}.answers[{at}]");
            if !are_disjoint(&act.answers[at - 1].when, &act.answers[at].when) {
                self.add(&place, "before the answer before it", |file| file.acts[index].answers.swap(at - 1, at));
            }
        }
        self.lost(index, act, &format!("{place}.lost"));
        self.evidence(index, act, &format!("{place}.evidence"));
        if act.each.is_some() {
            self.add(&format!("{place}.each"), "missing", |file| file.acts[index].each = None);
        }
        if act.proof.is_some() {
            self.add(&format!("{place}.proof"), "missing", |file| file.acts[index].proof = None);
        }
    }

    fn can_show(&self, read: usize, shows: Shows) -> bool {
        self.file.reads.get(read).is_some_and(|read| read.answers.iter().any(|answer| answer.is == shows))
    }

    fn lost(&mut self, index: usize, act: &Act, place: &str) {
        let others = [Lost::Recognised, Lost::Harmless("changed".to_owned()), Lost::Unproven];
        for other in others {
            if discriminant(&other) != discriminant(&act.lost) {
                let what = format!("{} instead of {}", lost_word(&other), lost_word(&act.lost));
                self.add(place, what, |file| file.acts[index].lost = other);
            }
        }
        let Lost::Read(expect) = &act.lost else { return };
        for at in 0..expect.len() {
            for shows in [Shows::Found, Shows::NotDone, Shows::Pending] {
                if !expect[at].shows.contains(&shows) && self.can_show(expect[at].read, shows) {
                    self.add(place, format!("also {} of read {at}", shows.word()), |file| {
                        if let Lost::Read(expect) = &mut file.acts[index].lost {
                            expect[at].shows.push(shows);
                        }
                    });
                }
            }
            if expect.len() > 1 {
                self.add(place, format!("without read {at}"), |file| {
                    if let Lost::Read(expect) = &mut file.acts[index].lost {
                        expect.remove(at);
                    }
                });
            }
        }
    }

    fn evidence(&mut self, index: usize, act: &Act, place: &str) {
        let others = [Evidence::Answer("changed".to_owned()), Evidence::Declared("changed".to_owned()), Evidence::None];
        for other in others {
            if discriminant(&other) != discriminant(&act.evidence) {
                let what = format!("{} instead of {}", evidence_word(&other), evidence_word(&act.evidence));
                self.add(place, what, |file| file.acts[index].evidence = other);
            }
        }
        let Evidence::Read { expect, .. } = &act.evidence else { return };
        let change = |file: &mut Connector, change: &dyn Fn(&mut Vec<crate::model::Expect>)| {
            if let Evidence::Read { expect, .. } = &mut file.acts[index].evidence {
                change(expect);
            }
        };
        for at in 0..expect.len() {
            for shows in [Shows::Found, Shows::NotDone, Shows::Pending, Shows::Gone, Shows::Done] {
                if expect[at].shows.contains(&shows) || !self.can_show(expect[at].read, shows) {
                    continue;
                }
                self.add(place, format!("also {} of read {at}", shows.word()), |file| {
                    change(file, &|expect| expect[at].shows.push(shows));
                });
                self.add(place, format!("{} of read {at} instead", shows.word()), |file| {
                    change(file, &|expect| expect[at].shows = vec![shows]);
                });
            }
            if expect.len() > 1 {
                self.add(place, format!("without read {at}"), |file| change(file, &|expect| drop(expect.remove(at))));
            }
        }
    }
}

fn lost_word(lost: &Lost) -> &'static str {
    match lost {
        Lost::Read(_) => "read",
        Lost::Recognised => "recognised",
        Lost::Harmless(_) => "harmless",
        Lost::Unproven => "unproven",
    }
}

fn evidence_word(evidence: &Evidence) -> &'static str {
    match evidence {
        Evidence::Read { .. } => "read",
        Evidence::Answer(_) => "answer",
        Evidence::Declared(_) => "declared",
        Evidence::None => "unproven",
    }
}

/// The condition with one part less, or one part that asks for less.
fn weaker(matcher: &Matcher) -> Vec<(String, Matcher)> {
    match matcher {
        Matcher::All(members) => {
            let mut all = Vec::new();
            for at in 0..members.len() {
                if members.len() > 1 {
                    let mut left = members.clone();
                    let dropped = left.remove(at);
                    all.push((format!("without {}", word(&dropped)), Matcher::All(left)));
                }
                for (what, weaker) in weaker(&members[at]) {
                    let mut changed = members.clone();
                    changed[at] = weaker;
                    all.push((what, Matcher::All(changed)));
                }
            }
            all
        }
        Matcher::Any(members) => (0..members.len())
            .filter(|_| members.len() > 1)
            .map(|at| {
                let mut left = members.clone();
                left.remove(at);
                (format!("without the alternative {at}"), Matcher::Any(left))
            })
            .collect(),
        Matcher::At(pointer, test) => match test {
            Test::Exists(true) => Vec::new(),
            Test::Exists(false) => {
                vec![(format!("{} may exist", place(pointer)), Matcher::At(pointer.clone(), Test::Exists(true)))]
            }
            _ => {
                vec![(format!("{} need only exist", place(pointer)), Matcher::At(pointer.clone(), Test::Exists(true)))]
            }
        },
        _ => Vec::new(),
    }
}

fn place(pointer: &Pointer) -> String {
    if pointer.0.is_empty() { "the whole body".to_owned() } else { pointer.written() }
}

fn word(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Status(_) => "its status".to_owned(),
        Matcher::Header(name, _) => format!("the header {name}"),
        Matcher::Empty => "its empty body".to_owned(),
        Matcher::At(pointer, _) => place(pointer),
        Matcher::All(_) | Matcher::Any(_) => "a group".to_owned(),
    }
}

fn other_shows(answer: &ReadAnswer) -> Vec<Shows> {
    match answer.is {
        Shows::Found => vec![Shows::Gone, Shows::Done],
        Shows::Gone => vec![Shows::Found, Shows::Done],
        Shows::Done => vec![Shows::NotDone, Shows::Gone, Shows::Pending],
        Shows::NotDone | Shows::Pending => vec![Shows::Done, Shows::Gone],
        Shows::Refused | Shows::Unauthorised => vec![Shows::Done, Shows::Gone, Shows::Found],
    }
}

fn other_says(answer: &ActAnswer) -> Vec<Says> {
    match answer.is {
        Says::Done => vec![Says::Accepted, Says::Unclear],
        Says::DoneBefore => vec![Says::Done],
        Says::Accepted => vec![Says::Done, Says::DoneBefore, Says::Unclear],
        Says::Unclear | Says::Ask => vec![Says::Done, Says::DoneBefore, Says::Accepted],
        Says::Refused | Says::Unauthorised => vec![Says::Done, Says::DoneBefore, Says::Accepted],
    }
}

/// Every call of a job, with its place.
fn calls(file: &Connector) -> Vec<(&Call, String)> {
    let reads = file.reads.iter().filter_map(|read| Some((read.call.as_ref()?, format!("read.{}", read.name))));
    reads.chain(file.acts.iter().map(|act| (&act.call, format!("act.{}", act.name)))).collect()
}

fn calls_mut(file: &mut Connector) -> Vec<&mut Call> {
    let Connector { reads, acts, .. } = file;
    reads.iter_mut().filter_map(|read| read.call.as_mut()).chain(acts.iter_mut().map(|act| &mut act.call)).collect()
}

fn rename(call: &mut Call, name: &str, other: &str) -> bool {
    let mut templates: Vec<&mut Template> = vec![&mut call.path];
    templates.extend(call.query.iter_mut().map(|(_, value)| value));
    templates.extend(call.headers.values_mut());
    match &mut call.body {
        crate::model::Body::None => {}
        crate::model::Body::Form(pairs) => templates.extend(pairs.iter_mut().map(|(_, value)| value)),
        crate::model::Body::Json(json) => json_templates(json, &mut templates),
    }
    let mut is_changed = false;
    for slot in templates.into_iter().flat_map(|template| template.0.iter_mut().filter_map(slot_mut)) {
        if slot.source == Source::Id && slot.name == name {
            slot.name = other.to_owned();
            is_changed = true;
        }
    }
    is_changed
}

fn slot_mut(part: &mut Part) -> Option<&mut Slot> {
    if let Part::Slot(slot) = part { Some(slot) } else { None }
}

fn json_templates<'j>(json: &'j mut Json, all: &mut Vec<&'j mut Template>) {
    match json {
        Json::Value(_) => {}
        Json::Text(text) => all.push(text),
        Json::List(members) => members.iter_mut().for_each(|member| json_templates(member, all)),
        Json::Object(members) => members.iter_mut().for_each(|(_, member)| json_templates(member, all)),
    }
}

//! The loader's refusals: a file that could report a person as erased without proof, call the wrong host, or repeat a
//! call blindly does not load.
//!
//! The rule it keeps: each refusal says its reason in words, and what to write instead. What cannot be shown to be safe
//! is refused.

mod absence;
mod address;
mod bounds;
mod complete;
mod credential;
mod evidence;
mod facts;
mod identity;
mod order;
mod positive;
mod recorded;
mod single;
mod slots;
mod traces;

use std::collections::BTreeSet;

use crate::fault::{Fault, Lines};
use crate::model::{Act, Call, Connector, Evidence, Expect, Lost, Read, Shows, Slot, Template};

/// The file under trial, and the refusals so far.
pub(crate) struct Trial<'c> {
    file: &'c Connector,
    lines: &'c Lines,
    broken: &'c BTreeSet<String>,
    faults: Vec<Fault>,
}

/// Tries every rule. With a file that was not read wholly only those rules are tried that look at one part, and only at
/// parts that were read: the others would report consequences of the first fault.
pub(crate) fn refuse(file: &Connector, lines: &Lines, broken: &BTreeSet<String>, whole: bool) -> Vec<Fault> {
    let mut trial = Trial { file, lines, broken, faults: Vec::new() };
    trial.credential();
    trial.hosts();
    trial.addresses();
    trial.positive();
    trial.single();
    trial.order();
    if whole {
        trial.slots();
        trial.identity();
        trial.lost();
        trial.evidence();
        trial.absence();
        trial.lost_facts();
        trial.late_facts();
        trial.bounds();
        trial.complete();
        trial.recorded();
        trial.traces();
    }
    trial.faults
}

impl<'c> Trial<'c> {
    /// Records a refusal. The line is that of the place, or of the nearest place around it.
    fn refuse(&mut self, place: &str, problem: impl Into<String>, instead: impl Into<String>) {
        let inside = |broken: &String| place.starts_with(broken.as_str()) || broken.starts_with(place);
        if self.broken.iter().any(inside) {
            return;
        }
        let mut around = place;
        let line = loop {
            if let Some(line) = self.lines.get(around) {
                break *line;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break 1,
            }
        };
        self.faults.push(Fault { line, place: place.to_owned(), problem: problem.into(), instead: instead.into() });
    }

    /// The reads that run before the first act.
    fn first_reads(&self) -> impl Iterator<Item = &'c Read> + use<'c> {
        let file = self.file;
        file.before_acts().into_iter().filter_map(|index| file.reads.get(index))
    }
}

/// The place of an answer.
fn answer_of(part: &str, name: &str, index: usize) -> String {
    format!("{part}.{name}.answers[{index}]")
}

/// The reads on which an act's evidence rests.
fn expected(evidence: &Evidence) -> &[Expect] {
    match evidence {
        Evidence::Read { expect, .. } => expect,
        _ => &[],
    }
}

/// The reads that decide about a lost answer.
fn deciding(lost: &Lost) -> &[Expect] {
    match lost {
        Lost::Read(expect) => expect,
        _ => &[],
    }
}

impl Connector {
    /// True if this act's evidence itself finds something that a later act erases: "deleted, and in the bin".
    pub fn leads_on(&self, act: usize) -> bool {
        let finds = |act: &Act| expected(&act.evidence).iter().any(|expect| expect.shows == [Shows::Found]);
        act + 1 < self.acts.len() && self.acts.get(act).is_some_and(finds)
    }
}

impl Act {
    /// True if it names this read: as evidence, or to decide about a lost answer.
    pub fn names(&self, read: usize) -> bool {
        expected(&self.evidence).iter().chain(deciding(&self.lost)).any(|expect| expect.read == read)
    }
}

impl Call {
    /// Its slots.
    pub fn slots(&self) -> Vec<&Slot> {
        slots::call_slots(self)
    }
}

impl Read {
    /// The slots of its call and of its conditions.
    pub fn slots(&self) -> Vec<&Slot> {
        let compared = self.answers.iter().flat_map(|answer| slots::compared(&answer.when));
        self.call.iter().flat_map(Call::slots).chain(compared.flat_map(Template::slots)).collect()
    }
}

/// An expected read with its call. `None` if it calls nothing.
fn called<'c>(file: &'c Connector, expect: &Expect) -> Option<(&'c Read, &'c Call)> {
    let read = file.reads.get(expect.read)?;
    Some((read, read.call.as_ref()?))
}

impl Connector {
    /// The other reads at the same address as this one.
    pub fn same_address(&self, read: usize) -> Vec<usize> {
        let address = |index: usize| self.reads.get(index)?.call.as_ref().map(absence::address);
        let Some(own) = address(read) else { return Vec::new() };
        (0..self.reads.len()).filter(|other| *other != read && address(*other).as_ref() == Some(&own)).collect()
    }

    /// The reads that run before the first act, in this order: the person, then every read that keeps a fact and is no
    /// evidence of an act and does not decide about a lost answer.
    pub fn before_acts(&self) -> Vec<usize> {
        let later = |index: usize| self.acts.iter().any(|act| act.names(index));
        let keeps = |read: &Read| read.answers.iter().any(|answer| !answer.take.is_empty());
        let reads = self.reads.iter().enumerate();
        let first = reads.filter(|(index, read)| read.name == "person" || (keeps(read) && !later(*index)));
        first.map(|(index, _)| index).collect()
    }
}

/// True for a meaning that says that the person or the object is no longer there, or the change has taken effect.
pub(crate) fn is_success(shows: Shows) -> bool {
    matches!(shows, Shows::Gone | Shows::Done)
}

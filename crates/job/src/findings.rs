//! What a connector's reads and acts have found, over all of a target's answers.
//!
//! The rule it keeps: a member of a list keeps its place, because the calls for the members have places only. And a
//! read's absence counts only after something was seen at its address.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::plan::Plan;
use crate::reading::{Fact, Reading};
use crate::step::{MOST_ITEMS, Step, StepName};

/// The findings of a target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// The shape of the plan by which the target is worked on.
    pub(crate) shape: Option<u32>,
    /// The facts of the reads before the first act.
    facts: BTreeMap<u16, Arc<Fact>>,
    /// The facts of acts and of reads after them, by the member of `each`.
    later: BTreeMap<(u32, u16), Arc<Fact>>,
    /// For each read and member: the first entry that showed the person or the object.
    seen: BTreeMap<u32, u64>,
}

impl Findings {
    /// A fact for a call about this member of `each` (0 without `each`).
    pub fn fact(&self, place: u16, member: u32) -> Option<&Fact> {
        self.later.get(&(member, place)).or_else(|| self.facts.get(&place)).map(|fact| &**fact)
    }

    /// Every fact for a call about this member of `each`. Lists are shared, not copied.
    pub fn facts_of(&self, member: u32) -> Vec<(u16, Arc<Fact>)> {
        let mut facts = self.facts.clone();
        let later = self.later.range((member, 0)..=(member, u16::MAX));
        facts.extend(later.map(|((_, place), fact)| (*place, Arc::clone(fact))));
        facts.into_iter().collect()
    }

    /// The members of a list, in order of first appearance; `None` if it was never read.
    pub fn list(&self, place: u16) -> Option<&[String]> {
        self.facts.get(&place).and_then(|fact| fact.members())
    }

    /// Takes a reading.
    pub(crate) fn learn(&mut self, step: Step, reading: &Reading, seq: u64) {
        // Of another plan, places mean something else.
        if *self.shape.get_or_insert(reading.shape) != reading.shape {
            return;
        }
        let item = if step.name == StepName::Resolve { 0 } else { step.item };
        if step.name != StepName::ConnectorAct && reading.means.is_presence() {
            self.seen.entry(item).or_insert(seq);
        }
        for (place, fact) in &reading.facts {
            if matches!(step.name, StepName::ConnectorAct | StepName::ConnectorReadBack) {
                self.later.insert((item % MOST_ITEMS, *place), Arc::new(fact.clone()));
                continue;
            }
            let Fact::List(members) = fact else {
                self.facts.insert(*place, Arc::new(fact.clone()));
                continue;
            };
            let mut known = self.list(*place).map_or_else(Vec::new, <[String]>::to_vec);
            let mut met: HashSet<String> = known.iter().cloned().collect();
            known.extend(members.iter().filter(|member| met.insert((*member).clone())).cloned());
            self.facts.insert(*place, Arc::new(Fact::List(known)));
        }
    }

    /// True if before the entry `seq` the person or the object was seen at the address of a read.
    pub(crate) fn was_seen(&self, plan: &Plan, read: usize, member: u32, seq: u64) -> bool {
        let others = plan.reads.get(read).map_or(&[][..], |read| &read.same_address);
        [read].iter().chain(others).any(|read| {
            let number = |member| Step::of_connector(StepName::ConnectorRead, *read, member).item;
            // The address of the person has no member in it.
            let places = if *read == 0 { [number(member), 0] } else { [number(member); 2] };
            places.iter().any(|place| self.seen.get(place).is_some_and(|first| *first < seq))
        })
    }
}

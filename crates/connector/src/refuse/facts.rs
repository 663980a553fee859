//! Facts: values that one call takes from a reply for another.

use std::collections::BTreeSet;

use super::slots::{call_slots, facts_of};
use super::{Trial, answer_of, called, deciding, expected};
use crate::model::{Act, Lost, Says};

impl<'c> Trial<'c> {
    /// The facts that are known before the first act.
    fn known_first(&self) -> BTreeSet<&'c str> {
        self.first_reads().flat_map(|read| read.answers.iter().flat_map(|answer| &answer.take)).map(name).collect()
    }

    /// The facts that are known before an act: those of the first reads, and those that an earlier act certainly gave.
    /// An act certainly gives a fact if every answer after which the flow goes on takes it, and if a lost answer is
    /// followed by a repeat: a read in its place would go on without the fact.
    fn known_before(&self, index: usize) -> BTreeSet<&'c str> {
        let file = self.file;
        let mut known = self.known_first();
        for act in file.acts.iter().take(index) {
            let is_repeated = matches!(act.lost, Lost::Harmless(_) | Lost::Recognised) && act.each.is_none();
            let goes_on = |says: Says| !matches!(says, Says::Refused | Says::Ask | Says::Unauthorised);
            let answers: Vec<_> = act.answers.iter().filter(|answer| goes_on(answer.is)).collect();
            let given = answers.iter().flat_map(|answer| &answer.take).map(name).filter(|fact| {
                is_repeated && answers.iter().all(|answer| answer.take.iter().any(|(taken, _)| taken == fact))
            });
            known.extend(given);
        }
        known
    }

    /// A read that decides about a lost answer uses no fact that stood in that answer.
    pub(super) fn lost_facts(&mut self) {
        let file = self.file;
        for (index, act) in file.acts.iter().enumerate() {
            let known = self.known_before(index);
            for expect in deciding(&act.lost) {
                let Some((read, call)) = called(file, expect) else { continue };
                for fact in facts_of(call_slots(call)).into_iter().filter(|fact| !known.contains(fact)) {
                    self.refuse(
                        &format!("act.{}.lost", act.name),
                        format!(
                            "reads read.{} with ${{fact.{fact}}}, which stood in the answer that was lost: nothing could \
                             be read",
                            read.name
                        ),
                        "write a read that needs only identifiers, or harmless, recognised or unproven",
                    );
                }
            }
        }
    }

    /// Facts of acts are taken before the first one, because after it the reads no longer show what was there, or an
    /// earlier act certainly gave them (the id of a task that a second call starts). Evidence may use what its own act's
    /// answer gave, if every answer that leads to it gives it.
    pub(super) fn late_facts(&mut self) {
        let file = self.file;
        for (index, act) in file.acts.iter().enumerate() {
            let known = self.known_before(index);
            let own: Vec<&str> = facts_of(call_slots(&act.call)).into_iter().chain(act.each.as_deref()).collect();
            for fact in own.into_iter().filter(|fact| !known.contains(fact)) {
                self.refuse(
                    &format!("act.{}", act.name),
                    format!(
                        "uses ${{fact.{fact}}}, which is not taken before the first act, and which no earlier act certainly \
                         gives: after a restart or a lost answer it would be missing or another one"
                    ),
                    format!(
                        "take {fact} in [read.person], in another read before the acts, or in every answer of an earlier \
                         act whose lost answer is repeated (harmless, recognised)"
                    ),
                );
            }
            let taken: BTreeSet<&str> = act.answers.iter().flat_map(|answer| &answer.take).map(name).collect();
            for expect in expected(&act.evidence) {
                let Some((_, call)) = called(file, expect) else { continue };
                for fact in facts_of(call_slots(call)).into_iter().filter(|fact| !known.contains(fact)) {
                    if taken.contains(fact) {
                        self.always_taken(act, fact);
                        continue;
                    }
                    self.refuse(
                        &format!("act.{}.evidence", act.name),
                        format!(
                            "reads with ${{fact.{fact}}}, which neither an earlier read nor this act's answer gives"
                        ),
                        format!("write take = {{ {fact} = \"/place\" }} in the act's answers, or in [read.person]"),
                    );
                }
            }
        }
    }

    fn always_taken(&mut self, act: &Act, fact: &str) {
        for (index, answer) in act.answers.iter().enumerate() {
            let leads_on = matches!(answer.is, Says::Accepted | Says::Done);
            if leads_on && !answer.take.iter().any(|(taken, _)| taken == fact) {
                self.refuse(
                    &answer_of("act", &act.name, index),
                    format!("goes on to evidence that needs ${{fact.{fact}}}, but does not take it"),
                    format!("write take = {{ {fact} = \"/place\" }} here, too"),
                );
            }
        }
    }
}

fn name(take: &(String, crate::model::Pointer)) -> &str {
    &take.0
}

//! A list of objects to erase is whole.

use super::{Trial, answer_of};
use crate::branches;
use crate::model::{Matcher, Pointer, Test, Type};

impl Trial<'_> {
    /// The answer that takes the list of an `each` shows that there is no further page: the objects of page 2 would stay.
    pub(super) fn complete(&mut self) {
        let file = self.file;
        for act in &file.acts {
            let Some(fact) = &act.each else { continue };
            for read in &file.reads {
                for (index, answer) in read.answers.iter().enumerate() {
                    if answer.complete.is_none() {
                        let place = answer_of("read", &read.name, index);
                        let instead = ", or complete = \"why the vendor gives the whole list at once\" in this answer";
                        self.whole(&place, &answer.when, &answer.take, fact, instead);
                    }
                }
            }
            for earlier in &file.acts {
                for (index, answer) in earlier.answers.iter().enumerate() {
                    let place = answer_of("act", &earlier.name, index);
                    self.whole(&place, &answer.when, &answer.take, fact, ", or take the list in a read");
                }
            }
        }
        for read in &file.reads {
            for (index, answer) in read.answers.iter().enumerate() {
                let is_list =
                    |(name, _): &(String, Pointer)| file.acts.iter().any(|act| act.each.as_ref() == Some(name));
                if answer.complete.is_some() && !answer.take.iter().any(is_list) {
                    self.refuse(
                        &answer_of("read", &read.name, index),
                        "has `complete`, but takes no list of an `each`",
                        "remove complete",
                    );
                }
            }
        }
    }

    fn whole(&mut self, place: &str, when: &Matcher, take: &[(String, Pointer)], fact: &str, instead: &str) {
        let branches = branches::of(when).unwrap_or_default();
        for (_, list) in take.iter().filter(|(name, _)| name == fact) {
            let ends = |atom: &&Matcher| matches!(atom, Matcher::At(at, test) if !at.0.starts_with(&list.0) && is_an_end(test));
            if branches.iter().all(|branch| branch.atoms.iter().any(ends)) {
                continue;
            }
            self.refuse(
                place,
                format!(
                    "takes the list {fact}, of which each item is erased, but does not show that the list is complete: the \
                     items of a further page would stay"
                ),
                format!(
                    "add the vendor's sign of a last page to each alternative of when: {{ at = \"/next_page\", type = \
                     \"null\" }} or {{ at = \"/has_more\", is = false }}{instead}"
                ),
            );
        }
    }
}

/// The forms in which vendors say that nothing follows.
fn is_an_end(test: &Test) -> bool {
    match test {
        Test::Type(Type::Null) | Test::Exists(false) => true,
        Test::Is(value) => *value == false || *value == "",
        _ => false,
    }
}

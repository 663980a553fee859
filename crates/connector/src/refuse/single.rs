//! A member of a list shows the person only if the list has no other member.

use super::{Trial, answer_of};
use crate::branches;
use crate::model::{Matcher, Pointer, Test};

impl Trial<'_> {
    /// A place in `same` and `take` that leads through a list's index needs `count = 1` of that list in each alternative
    /// of the condition: of two hits only the first would be compared and deleted.
    pub(super) fn single(&mut self) {
        let file = self.file;
        for read in &file.reads {
            for (index, answer) in read.answers.iter().enumerate() {
                let place = answer_of("read", &read.name, index);
                let same = answer.same.iter().map(|(pointer, _)| ("same", pointer));
                let taken = answer.take.iter().map(|(_, pointer)| ("take", pointer));
                self.only_member(&place, &answer.when, same.chain(taken));
            }
        }
        for act in &file.acts {
            for (index, answer) in act.answers.iter().enumerate() {
                let taken = answer.take.iter().map(|(_, pointer)| ("take", pointer));
                self.only_member(&answer_of("act", &act.name, index), &answer.when, taken);
            }
        }
    }

    fn only_member<'p>(
        &mut self,
        place: &str,
        when: &Matcher,
        pointers: impl Iterator<Item = (&'static str, &'p Pointer)>,
    ) {
        let branches = branches::of(when).unwrap_or_default();
        for (key, pointer) in pointers {
            for list in lists(pointer) {
                let alone = Matcher::At(list.clone(), Test::Count(1));
                if branches.iter().all(|branch| branch.atoms.contains(&&alone)) {
                    continue;
                }
                self.refuse(
                    place,
                    format!(
                        "reads one member of a list at {} ({key}), but does not ask that it is the only one: what stands \
                         beside it would be neither compared nor erased",
                        pointer.written()
                    ),
                    format!("write the condition {{ at = {:?}, count = 1 }} in each alternative of when", list.written()),
                );
            }
        }
    }
}

/// The lists through whose index a place leads.
fn lists(pointer: &Pointer) -> Vec<Pointer> {
    let is_index = |token: &String| token.bytes().all(|byte| byte.is_ascii_digit()) && !token.is_empty();
    let tokens = pointer.0.iter().enumerate().filter(|(_, token)| is_index(token));
    tokens.map(|(index, _)| Pointer(pointer.0.iter().take(index).cloned().collect())).collect()
}

//! Success rests on something that the reply says.

use super::{Trial, answer_of, is_success};
use crate::branches::{self, Branch, is_absent};
use crate::model::{Matcher, Says, Test, Type};

impl Trial<'_> {
    /// `gone`, `done` and `done_before` need in each alternative a value that the vendor writes only then, or the status
    /// 404 or 410. A status such as 200 and an empty, missing or null place are also what a login page, another
    /// region or a renamed field give. The probe needs such a value, too.
    pub(super) fn positive(&mut self) {
        for read in &self.file.reads {
            for (index, answer) in read.answers.iter().enumerate() {
                let place = answer_of("read", &read.name, index);
                if is_success(answer.is) {
                    self.needs_sign(&place, answer.is.word(), &answer.when);
                }
            }
        }
        for act in &self.file.acts {
            for (index, answer) in act.answers.iter().enumerate() {
                let place = answer_of("act", &act.name, index);
                if matches!(answer.is, Says::Done | Says::DoneBefore) {
                    self.needs_sign(&place, answer.is.word(), &answer.when);
                }
            }
        }
        let ok = branches::of(&self.file.probe.ok).unwrap_or_default();
        if !ok.iter().all(says_something) {
            self.refuse(
                "probe.ok",
                "accepts a reply that says nothing: a login page on 200 would show a working credential",
                "write a place and its value: { at = \"/user/id\", type = \"number\" }",
            );
        }
    }

    fn needs_sign(&mut self, place: &str, word: &str, when: &Matcher) {
        let branches = branches::of(when).unwrap_or_default();
        if branches.iter().all(|branch| says_something(branch) || branch.only_absent()) {
            return;
        }
        self.refuse(
            &format!("{place}.when"),
            format!(
                "takes a reply as {word} that says nothing of its own: a login page, another region or an empty reply \
                 would look the same"
            ),
            "write a place whose value only the vendor's success has: { at = \"/status\", is = \"deleted\" } (a status \
             alone counts only if it is 404 or 410)",
        );
    }
}

/// True if one of the conditions is a sign that only a reply of the vendor's own form gives.
fn says_something(branch: &Branch<'_>) -> bool {
    branch.atoms.iter().any(|atom| match atom {
        Matcher::Header(..) => true,
        Matcher::At(_, test) => is_sign(test),
        _ => false,
    })
}

fn is_sign(test: &Test) -> bool {
    match test {
        Test::Is(value) => value != "",
        Test::In(values) => values.iter().all(|value| value != ""),
        Test::Type(of) => *of != Type::Null,
        Test::Count(count) => *count > 0,
        Test::Has(_) | Test::Begins(_) => true,
        // The place of `deleted_at: null` exists.
        Test::Exists(_) => false,
    }
}

/// True if the answer holds of a 404 or 410, whatever else it asks for.
pub(super) fn rests_on_absence(when: &Matcher) -> bool {
    let branches = branches::of(when).unwrap_or_default();
    branches.iter().any(|branch| branch.status.as_ref().is_some_and(|all| all.iter().any(|status| is_absent(*status))))
}

//! Success rests on something that the reply says.

use super::{Trial, answer_of, is_success};
use crate::branches::{self, Branch, is_absent};
use crate::model::{Matcher, Says, Test, Type};

impl Trial<'_> {
    /// `gone`, `done` and `done_before` need in each alternative a value that the vendor writes only then, or the bare
    /// status 404 or 410. A status such as 200 and an empty, missing or null place are also what a login page, another
    /// region or a renamed field give; a type is also what the vendor's error has, and a header what every reply has.
    /// The probe needs less: a place and its type.
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
        if !ok.iter().all(is_the_vendors) {
            self.refuse(
                "probe.ok",
                "accepts a reply that says nothing: a login page on 200 would show a working credential",
                "write a place and its value: { at = \"/user/id\", type = \"number\" }",
            );
        }
    }

    fn needs_sign(&mut self, place: &str, word: &str, when: &Matcher) {
        let branches = branches::of(when).unwrap_or_default();
        let Some(weak) = branches.iter().find(|branch| !has_sign(branch) && !is_bare_absence(branch)) else { return };
        let place = format!("{place}.when");
        if weak.only_absent() {
            self.refuse(
                &place,
                format!(
                    "takes a 404 or 410 as {word} by a place that every error has: a proxy and a wrong path give it, too"
                ),
                "write the vendor's own word, such as { status = 404, at = \"/error\", is = \"not_found\" }, or the status \
                 alone: then `connector test` shows what rests on it",
            );
            return;
        }
        self.refuse(
            &place,
            format!(
                "takes a reply as {word} that says nothing of its own: a login page, another region, an empty reply or the \
                 vendor's error would look the same"
            ),
            "write a place whose value only the vendor's success has: { at = \"/status\", is = \"deleted\" }, or with in, \
             begins, has, or a count over 0. A type, a header, exists and a status are no such value (a status alone \
             counts only if it is 404 or 410)",
        );
    }
}

/// True if a place has a value that the vendor writes.
fn has_sign(branch: &Branch<'_>) -> bool {
    branch.atoms.iter().any(|atom| matches!(atom, Matcher::At(_, test) if is_sign(test)))
}

/// True of a 404 or 410 without a condition on a place: the reply has no words, and the file claims none.
fn is_bare_absence(branch: &Branch<'_>) -> bool {
    branch.only_absent() && branch.atoms.iter().all(|atom| **atom == Matcher::Empty)
}

fn is_sign(test: &Test) -> bool {
    match test {
        Test::Is(value) => value != "",
        // Both bools are a type in other words.
        Test::In(values) => {
            values.iter().all(|value| value != "") && !(values.contains(&true.into()) && values.contains(&false.into()))
        }
        Test::Count(count) => *count > 0,
        Test::Has(_) | Test::Begins(_) => true,
        // `{"ok": false}` has a bool, too; the place of `deleted_at: null` exists.
        Test::Type(_) | Test::Exists(_) => false,
    }
}

/// True if one of the conditions tells a reply of the vendor's own form from a page: enough for a probe, which decides
/// nothing about a person.
fn is_the_vendors(branch: &Branch<'_>) -> bool {
    branch.atoms.iter().any(|atom| match atom {
        Matcher::Header(..) => true,
        Matcher::At(_, Test::Type(of)) => *of != Type::Null,
        Matcher::At(_, test) => is_sign(test),
        _ => false,
    })
}

/// True if the answer holds of a 404 or 410, whatever else it asks for.
pub(super) fn rests_on_absence(when: &Matcher) -> bool {
    let branches = branches::of(when).unwrap_or_default();
    branches.iter().any(|branch| branch.status.as_ref().is_some_and(|all| all.iter().any(|status| is_absent(*status))))
}

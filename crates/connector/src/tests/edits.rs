//! One good file, and the smallest edits that break one rule of it.

use crate::fault::Fault;
use crate::load;

pub(super) const BASE: &str = include_str!("base.toml");

/// The base with one edit; the old text must be there exactly once.
pub(super) fn edited(old: &str, new: &str) -> String {
    assert_eq!(BASE.matches(old).count(), 1, "{old:?} is not once in the base");
    BASE.replace(old, new)
}

/// The faults of a file; none if it loads.
pub(super) fn faults(text: &str) -> Vec<Fault> {
    load(text.as_bytes()).err().map(|faults| faults.0).unwrap_or_default()
}

/// One edit, and the only fault that it must give.
pub(super) struct Case {
    pub old: &'static str,
    pub new: &'static str,
    /// A text that begins on the line of the fault in the edited file; the first such place counts.
    pub line: &'static str,
    pub place: &'static str,
    /// Parts of the fault's text: the reason, and what to write.
    pub says: [&'static str; 2],
}

/// Shorter in a table.
pub(super) const fn case(
    old: &'static str,
    new: &'static str,
    line: &'static str,
    place: &'static str,
    says: [&'static str; 2],
) -> Case {
    Case { old, new, line, place, says }
}

/// Tries each edit: nothing else may be wrong with the file.
pub(super) fn each_is_the_only_fault(cases: &[Case]) {
    each(cases, true);
}

/// Tries each edit: the fault is reported, perhaps with further faults that the edit causes.
pub(super) fn each_is_told(cases: &[Case]) {
    each(cases, false);
}

fn each(cases: &[Case], alone: bool) {
    let mut wrong = Vec::new();
    for Case { old, new, line, place, says } in cases {
        let text = edited(old, new);
        let number = text.find(line).map_or(0, |at| text[..at].matches('\n').count() + 1);
        let found = faults(&text);
        let fits = |one: &Fault| {
            one.line == number && one.place == *place && says.iter().all(|part| one.to_string().contains(part))
        };
        if !found.iter().any(fits) || (alone && found.len() > 1) {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            wrong.push(format!(
                "{old:?} -> {new:?}\n  wanted {number}: {place}: {says:?}\n  found  {}",
                found.join("\n         ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn the_base_loads() {
    assert_eq!(faults(BASE), []);
}

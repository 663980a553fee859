//! With which arguments a file of members was submitted, as the result file keeps it.
//!
//! The rule it keeps: a run that asks for something else than the one before it never passes for the
//! same; nothing of a member stands in it.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What may not stand in a value as it is.
const APART: &AsciiSet = &CONTROLS.add(b';').add(b'=').add(b'"').add(b'%');
/// When the file was changed, where no time was given.
const CHANGED_AT: &str = "file_changed_at";
/// What a job may be told again, with something else.
const PROOFS: [&str; 3] = ["also customer_password", "confirmed-at", "requested-by"];

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments(BTreeMap<String, String>);

/// How two runs differ.
#[derive(Debug, Default)]
pub struct Differences {
    /// Another file.
    pub is_other_file: bool,
    /// What makes other jobs.
    pub jobs: Vec<String>,
    /// What the same jobs may be told.
    pub proofs: Vec<String>,
}

impl Arguments {
    /// Adds one.
    pub fn add(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// Adds when the file was changed, which is the time of the request where none is given.
    pub fn add_changed_at(&mut self, at: impl ToString) {
        self.add(CHANGED_AT, at);
    }

    /// When the file was changed, where that counts.
    pub fn changed_at(&self) -> Option<jiff::Timestamp> {
        self.0.get(CHANGED_AT)?.parse().ok()
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// As the note of a row.
    pub fn to_note(&self) -> String {
        let pair = |(name, value): (&String, &String)| format!("{name}={}", utf8_percent_encode(value, APART));
        self.0.iter().map(pair).collect::<Vec<_>>().join("; ")
    }

    /// Reads what [`Arguments::to_note`] made.
    pub fn of_note(note: &str) -> Arguments {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()))
        };
        Arguments(note.split("; ").filter_map(pair).collect())
    }

    /// How this run differs from one before.
    pub fn differ_from(&self, before: &Arguments) -> Differences {
        let mut differences = Differences::default();
        let names: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        for name in names.into_iter().filter(|name| *name != CHANGED_AT) {
            let told = match (before.0.get(name), self.0.get(name)) {
                (Some(then), Some(now)) if then == now => continue,
                (Some(then), Some(now)) => format!("--{name} is {now:?} now and was {then:?}"),
                (None, Some(now)) => format!("--{name} {now:?} is new"),
                (Some(then), None) => format!("--{name} {then:?} is missing now"),
                (None, None) => continue,
            };
            match name.as_str() {
                "file" => differences.is_other_file = true,
                proof if PROOFS.contains(&proof) => differences.proofs.push(told),
                _ => differences.jobs.push(told),
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_in_a_note_and_are_read_from_it_whatever_is_in_them() {
        let mut all = Arguments::default();
        for (number, value) in ["a", "x; y=z", "\"q\"", "100%", "line\nend", "é,", ""].into_iter().enumerate() {
            all.add(&format!("name{number}"), value);
        }
        let note = all.to_note();
        assert!(!note.contains(['"', '\n']), "{note}");
        assert_eq!(Arguments::of_note(&note), all);
    }

    #[test]
    fn each_argument_that_differs_is_named_and_is_either_a_proof_or_makes_other_jobs() {
        let of = |pairs: &[(&str, &str)]| {
            Arguments(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let before = of(&[("file", "1"), ("tenant", "acme"), ("method", "manual"), ("file_changed_at", "then")]);
        let now = of(&[("file", "1"), ("tenant", "acme"), ("also codes", "Codes"), ("confirmed-at", "now")]);
        let told = now.differ_from(&before);
        assert_eq!(told.jobs, ["--also codes \"Codes\" is new", "--method \"manual\" is missing now"]);
        assert!(told.proofs == ["--confirmed-at \"now\" is new"] && !told.is_other_file, "{told:?}");
        let told = before.differ_from(&before);
        assert!(told.jobs.is_empty() && told.proofs.is_empty() && !told.is_other_file);
        assert!(of(&[("file", "2")]).differ_from(&before).is_other_file);
    }
}

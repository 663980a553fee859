//! The arguments of a submitted file of members, as recorded in the result file.
//!
//! The rule it keeps: a run with other arguments than the earlier run is recognised. Nothing about a member is recorded.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The characters that are percent-encoded in a value.
const ENCODED: &AsciiSet = &CONTROLS.add(b';').add(b'=').add(b'"').add(b'%');
/// The time of the file's last change, if no time of the request was given.
const CHANGED_AT: &str = "file_changed_at";
/// The arguments that may differ when the same jobs are published again, besides the columns of proofs.
const PROOFS: [&str; 2] = ["confirmed-at", "requested-by"];

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments(BTreeMap<String, String>);

/// The differences of two runs.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// True for another file.
    pub is_other_file: bool,
    /// Differences that make other jobs.
    pub jobs: Vec<String>,
    /// Differences with which the jobs are the same.
    pub proofs: Vec<String>,
}

impl Arguments {
    /// Adds an argument.
    pub fn add(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// Adds the time of the file's last change: it is the time of the request if none is given.
    pub(crate) fn add_changed_at(&mut self, at: impl ToString) {
        self.add(CHANGED_AT, at);
    }

    /// The time of the file's last change, if it is the time of the request.
    pub(crate) fn changed_at(&self) -> Option<jiff::Timestamp> {
        self.0.get(CHANGED_AT)?.parse().ok()
    }

    /// An argument's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The text for the note of a row.
    pub(crate) fn to_note(&self) -> String {
        let pair = |(name, value): (&String, &String)| format!("{name}={}", utf8_percent_encode(value, ENCODED));
        self.0.iter().map(pair).collect::<Vec<_>>().join("; ")
    }

    /// The reverse of [`Arguments::to_note`].
    pub(crate) fn of_note(note: &str) -> Arguments {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()))
        };
        Arguments(note.split("; ").filter_map(pair).collect())
    }

    /// The differences of this run from an earlier one. `is_proof` tells whether a column of this name is a proof.
    pub(crate) fn differ_from(&self, earlier: &Arguments, is_proof: impl Fn(&str) -> bool) -> Differences {
        let may_differ = |name: &str| PROOFS.contains(&name) || name.strip_prefix("also ").is_some_and(&is_proof);
        let mut differences = Differences::default();
        let names: BTreeSet<&String> = self.0.keys().chain(earlier.0.keys()).collect();
        for name in names.into_iter().filter(|name| *name != CHANGED_AT) {
            let difference = match (earlier.0.get(name), self.0.get(name)) {
                (Some(then), Some(now)) if then == now => continue,
                (Some(then), Some(now)) => format!("--{name} is {now:?} now and was {then:?}"),
                (None, Some(now)) => format!("--{name} {now:?} is new"),
                (Some(then), None) => format!("--{name} {then:?} is missing now"),
                (None, None) => continue,
            };
            match name.as_str() {
                "file" => differences.is_other_file = true,
                name if may_differ(name) => differences.proofs.push(difference),
                _ => differences.jobs.push(difference),
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_to_a_note_and_read_from_it_whatever_their_characters() {
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
        let earlier = of(&[("file", "1"), ("tenant", "acme"), ("method", "manual"), ("file_changed_at", "then")]);
        let now = of(&[("file", "1"), ("tenant", "acme"), ("also codes", "Codes"), ("confirmed-at", "now")]);
        let of_no_proof = |_: &str| false;
        let differences = now.differ_from(&earlier, of_no_proof);
        assert_eq!(differences.jobs, ["--also codes \"Codes\" is new", "--method \"manual\" is missing now"]);
        assert!(
            differences.proofs == ["--confirmed-at \"now\" is new"] && !differences.is_other_file,
            "{differences:?}"
        );
        let differences = earlier.differ_from(&earlier, of_no_proof);
        assert!(differences.jobs.is_empty() && differences.proofs.is_empty() && !differences.is_other_file);
        assert!(of(&[("file", "2")]).differ_from(&earlier, of_no_proof).is_other_file);
        // A column of this name is a proof of one system and an identifier of another.
        for is_proof in [true, false] {
            let differences = of(&[("also code", "Code")]).differ_from(&of(&[]), |name| is_proof && name == "code");
            assert_eq!((differences.proofs.len(), differences.jobs.len()), if is_proof { (1, 0) } else { (0, 1) });
        }
    }
}

//! The findings about a file, as text.
//!
//! The rule it keeps: the same file and seed give the same text. Times are told apart from it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use erasure_connector::Connector;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The trial.
    pub trial: String,
    /// The promise.
    pub what: String,
    /// The run, line by line.
    pub story: Vec<String>,
}

/// The numbers of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Scenarios.
    pub scenarios: u64,
    /// Jobs that were run.
    pub runs: u64,
    /// Requests of these jobs.
    pub calls: u64,
    /// Runs with one fault.
    pub faults: u64,
    /// Runs in which the process ended.
    pub deaths: u64,
    /// Trials of which a sample takes some.
    pub enumerated: u64,
    /// Changed replies.
    pub replies: u64,
    /// Changed replies that the file trusts by their status alone.
    pub replies_trusted: u64,
    /// Changed files.
    pub files: u64,
    /// Those that were noticed.
    pub files_noticed: u64,
    /// By the loader.
    pub files_by_loader: u64,
    /// By a run.
    pub files_by_run: u64,
    /// By a changed reply.
    pub files_by_reply: u64,
    /// Texts that were searched for a planted value.
    pub searched: u64,
    /// Runs that ended as a success while the vendor had the person.
    pub false_successes: u64,
    /// Runs with an act that was repeated blindly.
    pub blind_repeats: u64,
}

/// The marks in the comments of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// From the vendor's pages.
    pub documented: usize,
    /// Concluded.
    pub inferred: usize,
    /// Not known.
    pub unknown: usize,
}

/// The findings.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file's name for the vendor.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// What a target ends as.
    pub outcome: &'static str,
    /// The seed.
    pub seed: u64,
    /// The numbers.
    pub counts: Counts,
    /// The broken promises, each once.
    pub violations: Vec<Violation>,
    /// Runs that broke a promise that was told before, or one too many.
    pub more_violations: u64,
    /// Changes of the file that nothing noticed.
    pub unnoticed: Vec<String>,
    /// Replies that the file trusts by their status alone.
    pub trusts: BTreeSet<String>,
    /// Replies that neither a record nor a condition gives: `read.person: gone`.
    pub gaps: BTreeSet<String>,
    /// The marks in the file.
    pub marks: Marks,
    /// The number of recorded replies.
    pub recorded: usize,
    /// How long it took; no part of the text.
    pub took: Duration,
}

/// The part of changed files that must be noticed, in thousandths.
pub const MUST_NOTICE: u64 = 950;

/// What no trial against a stand-in can show.
pub const LIMITS: [&str; 4] = [
    "The stand-in is made from this file. If the file misreads the vendor, the stand-in does too.",
    "Recorded replies are as true as the page or the call that they were copied from.",
    "Delays, limits and rights of the vendor's own installation are not seen.",
    "Next, by hand: `systems check`, a preview, and one job about a test person that is then looked up at the vendor.",
];

impl Report {
    pub(super) fn new(file: &Connector, text: &str, seed: u64) -> Report {
        let comments: Vec<&str> =
            text.lines().filter_map(|line| line.split_once('#')).map(|(_, after)| after).collect();
        let count = |word: &str| comments.iter().filter(|comment| comment.contains(word)).count();
        Report {
            name: file.name.clone(),
            digest: file.digest.clone(),
            outcome: file.outcome.word(),
            seed,
            counts: Counts::default(),
            violations: Vec::new(),
            more_violations: 0,
            unnoticed: Vec::new(),
            trusts: BTreeSet::new(),
            gaps: BTreeSet::new(),
            marks: Marks { documented: count("documented"), inferred: count("inferred"), unknown: count("unknown") },
            recorded: file.examples.len(),
            took: Duration::ZERO,
        }
    }

    /// True if every promise was kept, and enough slips were noticed.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.counts.noticed() >= MUST_NOTICE
    }

    /// The runs that broke a promise.
    fn broken_runs(&self) -> u64 {
        self.violations.len() as u64 + self.more_violations
    }

    /// The lines of numbers.
    pub fn numbers(&self) -> Vec<(&'static str, String)> {
        let counts = &self.counts;
        let share = |thousandths: u64| format!("{}.{} %", thousandths / 10, thousandths % 10);
        vec![
            ("scenarios", counts.scenarios.to_string()),
            ("jobs run", format!("{} with {} requests", counts.runs, counts.calls)),
            ("one fault at one request", counts.faults.to_string()),
            ("ends of the process", counts.deaths.to_string()),
            (
                "changed replies",
                format!("{}, and {} that the file trusts by status", counts.replies, counts.replies_trusted),
            ),
            (
                "slips in the file",
                format!(
                    "{} of {} noticed ({}): {} by the loader, {} by a changed reply, {} by a run",
                    counts.files_noticed,
                    counts.files,
                    share(counts.noticed()),
                    counts.files_by_loader,
                    counts.files_by_reply,
                    counts.files_by_run
                ),
            ),
            (
                "broken",
                format!(
                    "{} false successes, {} blind repeats, {} other runs",
                    counts.false_successes,
                    counts.blind_repeats,
                    self.broken_runs().saturating_sub(counts.false_successes + counts.blind_repeats)
                ),
            ),
            ("texts searched for personal data", counts.searched.to_string()),
            (
                "marks in the file",
                format!(
                    "{} documented, {} inferred, {} unknown; {} recorded replies",
                    self.marks.documented, self.marks.inferred, self.marks.unknown, self.recorded
                ),
            ),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "every promise holds" } else { "NOT SAFE TO USE" };
        writeln!(
            f,
            "{} ({}, ends as {}): {verdict}",
            self.name,
            &self.digest[..self.digest.len().min(12)],
            self.outcome
        )?;
        for (name, value) in self.numbers() {
            writeln!(f, "  {name}: {value}")?;
        }
        for violation in &self.violations {
            writeln!(f, "  VIOLATION: {}\n    in: {}", violation.what, violation.trial)?;
            for line in &violation.story {
                writeln!(f, "      {line}")?;
            }
        }
        if self.more_violations > 0 {
            writeln!(f, "  {} more runs broke these or other promises", self.more_violations)?;
        }
        for trust in &self.trusts {
            writeln!(f, "  trusted: {trust}")?;
        }
        for gap in &self.gaps {
            writeln!(f, "  the stand-in has no such reply: {gap}")?;
        }
        for slip in &self.unnoticed {
            writeln!(f, "  a slip that nothing notices: {slip}")?;
        }
        for limit in LIMITS {
            writeln!(f, "  not shown: {limit}")?;
        }
        Ok(())
    }
}

//! The demonstration's table, from the stand-ins' ledger and the events.
//!
//! The rule it keeps: "completed" counts only if the stand-ins no longer have the person's data.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::jobs::{Case, OTP_RESEND_AFTER};
use crate::sandbox::{Sandbox, Summary};

/// The demonstration's result.
pub(super) struct Report {
    jobs: usize,
    outcomes: BTreeMap<String, usize>,
    lost: usize,
    several_endings: usize,
    falsely_completed: Vec<String>,
    reasons: BTreeMap<String, usize>,
    summary: Summary,
    crashes: usize,
    took: Duration,
}

impl Report {
    /// Compares the events with the ledger.
    pub(crate) fn draw_up(
        cases: &[Case],
        sandbox: &Sandbox,
        events: &[Value],
        crashes: usize,
        took: Duration,
    ) -> Report {
        let mut endings: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for event in events.iter().filter(|event| event["data"]["final"] == true) {
            let job = event["subject"].as_str().unwrap_or_default();
            endings.entry(job).or_default().insert(event["id"].as_str().unwrap_or_default());
            for target in event["data"]["targets"].as_array().into_iter().flatten() {
                if let Some(reason) = target["error"]["reason"].as_str() {
                    let step = target["error"]["step"].as_str().unwrap_or_default();
                    *reasons
                        .entry(format!("{} {step}: {reason}", target["system"].as_str().unwrap_or_default()))
                        .or_default() += 1;
                }
            }
            last.insert(job, event["data"]["outcome"].as_str().unwrap_or_default());
        }
        let mut outcomes = BTreeMap::new();
        let (mut lost, mut falsely_completed) = (0, Vec::new());
        for case in cases {
            let id = case.job_id.to_string();
            match last.get(id.as_str()) {
                None => lost += 1,
                Some(outcome) => {
                    *outcomes.entry((*outcome).to_owned()).or_default() += 1;
                    let remains = case.remains(sandbox);
                    if *outcome == "completed" && !remains.is_empty() {
                        falsely_completed.push(format!("{id}: {}", remains.join(", ")));
                    }
                }
            }
        }
        Report {
            jobs: cases.len(),
            outcomes,
            lost,
            several_endings: endings.values().filter(|ids| ids.len() > 1).count(),
            falsely_completed,
            reasons,
            summary: sandbox.summary_with(OTP_RESEND_AFTER),
            crashes,
            took,
        }
    }

    fn completed(&self) -> usize {
        self.outcomes.get("completed").copied().unwrap_or(0)
    }

    fn faults(&self) -> u64 {
        self.summary.by_operation.values().map(|count| count.faults).sum()
    }

    fn repeats(&self) -> usize {
        self.summary.ambiguous_repeats.len() + self.summary.effective_repeats.len() + self.summary.otp_repeats.len()
    }

    /// True if every promise held.
    pub fn holds(&self) -> bool {
        self.completed() == self.jobs
            && self.lost == 0
            && self.several_endings == 0
            && self.falsely_completed.is_empty()
            && self.repeats() == 0
            && self.summary.misuse.is_empty()
    }

    /// Prints the table, or JSON.
    pub fn print(&self, as_json: bool, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let rows = [
            ("jobs", self.jobs as u64),
            ("completed", self.completed() as u64),
            ("other outcomes", (self.jobs - self.lost - self.completed()) as u64),
            ("calls received by the systems", self.summary.calls),
            ("calls that changed something", self.summary.effects),
            ("calls that met a fault", self.faults()),
            ("worker processes killed", self.crashes as u64),
            ("jobs lost", self.lost as u64),
            ("jobs with two endings", self.several_endings as u64),
            ("completed, but still there", self.falsely_completed.len() as u64),
            ("ambiguous calls repeated without a read-back", self.repeats() as u64),
        ];
        if as_json {
            let map: serde_json::Map<_, _> =
                rows.iter().map(|(name, count)| (name.replace(' ', "_"), json!(count))).collect();
            return writeln!(out, "{:#}", json!({ "holds": self.holds(), "counts": map, "outcomes": self.outcomes }));
        }
        writeln!(out, "\n{:<48} {:>8}", "from the ledger of the systems and the events", "count")?;
        for (name, count) in rows {
            writeln!(out, "{name:<48} {count:>8}")?;
        }
        writeln!(out, "{:<48} {:>7.1}s", "took", self.took.as_secs_f64())?;
        for (reason, count) in &self.reasons {
            writeln!(out, "  not completed: {reason} ({count})")?;
        }
        let repeats = self.summary.ambiguous_repeats.iter().chain(&self.summary.effective_repeats);
        for repeat in repeats.chain(&self.summary.otp_repeats) {
            writeln!(
                out,
                "  repeated: {:?} for {} (calls {} and {})",
                repeat.operation, repeat.system, repeat.first_seq, repeat.repeat_seq
            )?;
        }
        for line in &self.falsely_completed {
            writeln!(out, "  {line}")?;
        }
        let verdict = if self.holds() { "every promise held" } else { "NOT every promise held" };
        writeln!(out, "\n{verdict}")
    }
}

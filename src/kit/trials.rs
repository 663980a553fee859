//! All trials of a file: its scenarios, each call with each fault, the process ending at each entry, changed replies,
//! changed files, and the search for what was planted.
//!
//! The rule it keeps: trials are enumerated. A sample takes every so many of them; chance adds, and replaces nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use erasure_connector::Connector;
use erasure_connector::model::{Evidence, Outcome};
use erasure_connector::stand_in::{Pace, Part};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::bench::{Bench, Proof, Scenario};
use super::report::{Counts, Report, Violation};
use super::run::{Broken, Ended, LEFT, Plan, Survives, run};
use super::vendor::Behaviour;
use super::watch::BLIND;
use super::{canary, files, replies};
use crate::job::{Reason, TargetEnd, TargetOutcome};
use crate::systems::System;

/// How many of the trials are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// Every so many of the deaths and of the changed replies; all others whole.
    Sample(usize),
}

/// The options of a trial.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For the trials by chance.
    pub seed: u64,
    /// How many trials.
    pub extent: Extent,
    /// The trials by chance.
    pub by_chance: usize,
    /// Put around the worker's client: a test of the kit lets it lie.
    pub around: Option<Around>,
}

/// Makes another client of a client.
pub type Around = fn(Arc<dyn System>) -> Arc<dyn System>;

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, extent: Extent::Whole, by_chance: 200, around: None }
    }
}

/// After as many violations no more are looked for.
const MOST_VIOLATIONS: usize = 20;

/// The file under trial.
pub(super) struct Trials<'a> {
    pub(super) bench: &'a Bench,
    pub(super) file: &'a Arc<Connector>,
    pub(super) options: Options,
    pub(super) report: Report,
    seen: BTreeSet<String>,
}

/// Tries a file. `text` is the file as it was written, for its marks.
pub async fn test(file: &Arc<Connector>, text: &str, options: Options) -> Report {
    let report = Report::new(file, text, options.seed);
    let bench = match Bench::new(file, file) {
        Ok(bench) => bench.with_client_in(options.around),
        Err(what) => {
            let mut report = report;
            report.violations.push(Violation { trial: "the file".to_owned(), what, story: Vec::new() });
            return report;
        }
    };
    let mut trials = Trials { bench: &bench, file, options, report, seen: BTreeSet::new() };
    trials.scenarios().await;
    trials.faults().await;
    trials.chance().await;
    replies::tried(&mut trials).await;
    files::tried(&mut trials).await;
    canary::tried(&mut trials).await;
    trials.report
}

impl Trials<'_> {
    /// True after so many violations that the file must be mended first.
    pub(super) fn is_enough(&self) -> bool {
        self.report.violations.len() >= MOST_VIOLATIONS
    }

    /// One run; a broken promise is kept once.
    pub(super) async fn run(&mut self, trial: &str, scenario: &Scenario, plan: Plan) -> Option<Ended> {
        self.report.counts.runs += 1;
        self.report.counts.deaths += u64::from(plan.death.is_some());
        match run(self.bench, scenario, plan).await {
            Ok(ended) => {
                self.report.counts.calls += ended.made.len() as u64;
                self.report.gaps.extend(ended.gaps.iter().cloned());
                Some(ended)
            }
            Err(broken) => {
                self.broken(trial, broken);
                None
            }
        }
    }

    pub(super) fn broken(&mut self, trial: &str, broken: Broken) {
        let Broken { what, story } = broken;
        self.report.counts.false_successes += u64::from(what.contains(LEFT));
        self.report.counts.blind_repeats += u64::from(what.contains(BLIND));
        if self.seen.insert(what.clone()) && !self.is_enough() {
            self.report.violations.push(Violation { trial: trial.to_owned(), what, story });
        } else {
            self.report.more_violations += 1;
        }
    }

    /// Each scenario without faults: it must end as the file says.
    async fn scenarios(&mut self) {
        for scenario in all(self.bench) {
            self.report.counts.scenarios += 1;
            let Some(ended) = self.run(&scenario.name, &scenario, Plan::default()).await else { continue };
            let wanted = wanted(self.file, &scenario);
            if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted.fits(&ended.end)) {
                let what = format!("{}: ends as {}, expected {}", scenario.name, words(&ended.end), wanted[0].words());
                let story = ended.made.iter().map(|made| format!("{} -> HTTP {:?}", made.names, made.status)).collect();
                self.broken(&scenario.name, Broken { what, story });
            }
        }
    }

    /// Each call with each fault, and the process ending at each point after it.
    async fn faults(&mut self) {
        let scenarios = [prompt(), slow(self.file)];
        for (number, scenario) in scenarios.iter().enumerate() {
            let Some(plain) = self.run(&scenario.name, scenario, Plan::default()).await else { continue };
            self.deaths(&scenario.name, scenario, &Plan::default(), 0, plain.points).await;
            for (call, made) in plain.made.iter().enumerate() {
                for behaviour in Behaviour::ALL {
                    if self.is_enough() {
                        return;
                    }
                    // A vendor's word that is a lie cannot be found out where the file takes it for evidence.
                    if behaviour == Behaviour::NotTaken && self.is_by_word(&made.parts) {
                        continue;
                    }
                    let trial = format!("{}, call {call} ({}): {}", scenario.name, made.names, behaviour.words());
                    let plan = Plan::fault(call, behaviour);
                    let Some(ended) = self.run(&trial, scenario, plan.clone()).await else { continue };
                    self.report.counts.faults += 1;
                    // The slow vendor's deaths are those of the prompt one, with more waits.
                    if number == 0 {
                        self.deaths(&trial, scenario, &plan, call, ended.points).await;
                    }
                }
            }
        }
    }

    async fn deaths(&mut self, trial: &str, scenario: &Scenario, plan: &Plan, first: usize, points: usize) {
        for point in first..points {
            for survives in [Survives::Durable, Survives::All] {
                if !self.is_taken() || self.is_enough() {
                    continue;
                }
                let plan = Plan { death: Some((point, survives)), ..plan.clone() };
                self.run(&format!("{trial}; the process ends at point {point}"), scenario, plan).await;
            }
        }
    }

    /// True for the trials of the sample.
    pub(super) fn is_taken(&mut self) -> bool {
        self.report.counts.enumerated += 1;
        match self.options.extent {
            Extent::Whole => true,
            Extent::Sample(every) => {
                (self.report.counts.enumerated + self.options.seed).is_multiple_of(every.max(1) as u64)
            }
        }
    }

    /// Several faults and a death, by chance.
    async fn chance(&mut self) {
        let mut random = StdRng::seed_from_u64(self.options.seed);
        let scenarios = all(self.bench);
        for number in 0..self.options.by_chance {
            let scenario = &scenarios[random.random_range(0..scenarios.len())];
            let mut plan = Plan::default();
            for _ in 0..random.random_range(1..4) {
                let behaviour = Behaviour::ALL[random.random_range(0..Behaviour::ALL.len())];
                let has_word = self.file.acts.iter().any(|act| !matches!(act.evidence, Evidence::Read { .. }));
                if behaviour != Behaviour::NotTaken || !has_word {
                    plan.faults.insert(random.random_range(0..8), behaviour);
                }
            }
            let survives = if random.random() { Survives::All } else { Survives::Durable };
            plan.death = Some((random.random_range(0..50), survives));
            if self.is_enough() {
                return;
            }
            self.run(&format!("by chance, number {number}: {}", scenario.name), scenario, plan).await;
        }
    }

    fn is_by_word(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| match part {
            Part::Act(act) => {
                self.file.acts.get(*act).is_some_and(|act| !matches!(act.evidence, Evidence::Read { .. }))
            }
            _ => false,
        })
    }
}

pub(super) fn prompt() -> Scenario {
    Scenario::new("a vendor that acts at once")
}

/// Longer than every first pause, and than the usual pause between two reads.
pub(super) fn slow(file: &Connector) -> Scenario {
    let first = file.acts.iter().filter_map(|act| match &act.evidence {
        Evidence::Read { first, .. } => Some(*first),
        _ => None,
    });
    let slowest = first.max().unwrap_or_default().max(Duration::from_secs(30)) + Duration::from_secs(45);
    let effect_ms = u64::try_from(slowest.as_millis()).ok();
    Scenario::new("a vendor that acts later").but(|scenario| scenario.pace = Pace { effect_ms, form: 0 })
}

pub(super) fn never() -> Scenario {
    Scenario::new("a vendor that accepts, and never acts")
        .but(|scenario| scenario.pace = Pace { effect_ms: None, form: 0 })
}

/// The scenarios of a file.
pub(super) fn all(bench: &Bench) -> Vec<Scenario> {
    let file = &bench.original;
    let mut all = vec![prompt(), slow(file), never()];
    for form in 1..4 {
        let name = format!("a vendor that acts at once, form {form} of its replies");
        all.push(Scenario::new(name).but(|scenario| scenario.pace.form = form));
    }
    let nobody = Scenario::new("nobody, and a credential that has found somebody")
        .but(|scenario| (scenario.exists, scenario.knows_somebody) = (false, true));
    all.push(nobody);
    all.push(
        Scenario::new("nobody, and a credential that never found anybody").but(|scenario| scenario.exists = false),
    );
    for name in bench.compared() {
        let named = format!("another person's {name}");
        all.push(Scenario::new(named).but(|scenario| scenario.differs = Some(name)));
    }
    if !file.proofs.is_empty() {
        all.push(Scenario::new("a proof that comes when it is asked for").but(|it| it.proof = Proof::Missing));
        all.push(Scenario::new("a wrong proof").but(|it| it.proof = Proof::Wrong));
    }
    all.push(Scenario::new("a preview").but(|scenario| scenario.is_preview = true));
    all
}

/// An end that a scenario may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Outcome(TargetOutcome),
    Failed(Reason),
}

impl Wanted {
    pub(super) fn fits(self, end: &TargetEnd) -> bool {
        match self {
            Wanted::Outcome(outcome) => end.outcome == outcome,
            Wanted::Failed(reason) => end.outcome == TargetOutcome::Failed && end.reason == Some(reason),
        }
    }

    fn words(self) -> String {
        match self {
            Wanted::Outcome(outcome) => outcome.to_string(),
            Wanted::Failed(reason) => format!("failed ({})", reason.as_str()),
        }
    }
}

/// The ends that a scenario without faults may have; none if anything but a false success will do.
fn wanted(file: &Connector, scenario: &Scenario) -> Vec<Wanted> {
    let is_prompt = scenario.pace.effect_ms.is_some() && scenario.exists && scenario.differs.is_none();
    let by_read = file.acts.iter().any(|act| matches!(act.evidence, Evidence::Read { .. }));
    if scenario.is_preview {
        vec![Wanted::Outcome(TargetOutcome::Previewed)]
    } else if scenario.proof == Proof::Wrong {
        Vec::new()
    } else if is_prompt {
        match file.outcome {
            Outcome::Erased | Outcome::Declared => vec![Wanted::Outcome(TargetOutcome::Erased)],
            Outcome::Unproven => vec![Wanted::Failed(Reason::Unproven)],
        }
    } else if scenario.pace.effect_ms.is_none() && by_read {
        vec![Wanted::Failed(Reason::NotGone), Wanted::Failed(Reason::Unproven)]
    } else if !scenario.exists && scenario.knows_somebody && reads_the_person(file) {
        vec![Wanted::Outcome(TargetOutcome::Absent)]
    } else {
        Vec::new()
    }
}

fn reads_the_person(file: &Connector) -> bool {
    file.reads.first().is_some_and(|read| read.call.is_some())
}

/// An end, in words.
pub(super) fn words(end: &TargetEnd) -> String {
    match end.reason {
        Some(reason) => format!("{} ({})", end.outcome, reason.as_str()),
        None => end.outcome.to_string(),
    }
}

impl Counts {
    /// The part of changed files that were noticed, in thousandths.
    pub fn noticed(&self) -> u64 {
        (self.files_noticed * 1000).checked_div(self.files).unwrap_or(1000)
    }
}

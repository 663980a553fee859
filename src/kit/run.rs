//! One run of a job's target, as the engine does it: asks the flow, makes the call, folds the entries. The process ends
//! where the plan says.
//!
//! The rule it keeps: a restarted run knows only the fold of the batches that survived, and has a new client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::bench::{Bench, PERSON, Scenario};
use super::vendor::{Behaviour, Made, Replaced, Vendor};
use super::watch::{self, Watch};
use crate::job::flow::{self, Next};
use crate::job::{At, Entry, Failure, FailureKind, Job, Spec, Step, TargetEnd, TargetOutcome, TargetState};
use crate::systems::{Call, Facts, System};

/// No run may take more turns.
const MOST_TURNS: usize = 2_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Longer stories lose their middle.
const MOST_LINES: usize = 40;
/// A longer wait parks the job.
const INLINE: Duration = Duration::from_secs(2);
/// The time at which each run begins.
pub(super) const START: At = At(1_795_341_600_000);

/// The words of a false success.
pub(super) const LEFT: &str = "although the vendor still has the person";

/// The batches that survive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    Durable,
    All,
}

/// What goes wrong in a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// By the number of the request.
    pub(super) faults: BTreeMap<usize, Behaviour>,
    /// The process ends at this point.
    pub(super) death: Option<(usize, Survives)>,
    pub(super) replaced: Option<Replaced>,
}

impl Plan {
    pub(super) fn fault(call: usize, behaviour: Behaviour) -> Plan {
        Plan { faults: [(call, behaviour)].into(), ..Plan::default() }
    }
}

/// A broken promise.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) story: Vec<String>,
}

/// A run that ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) end: TargetEnd,
    /// The points at which the process could have ended.
    pub(super) points: usize,
    pub(super) made: Vec<Made>,
    pub(super) state: TargetState,
    pub(super) job: Job,
    /// Replies that the stand-in could not make.
    pub(super) gaps: BTreeSet<String>,
}

enum Stopped {
    Died,
    Broken(String),
}

type Turn<T> = Result<T, Stopped>;

/// A run, going on.
pub(super) struct Run<'a> {
    bench: &'a Bench,
    scenario: &'a Scenario,
    plan: Plan,
    job: Job,
    vendor: Arc<Vendor>,
    client: Arc<dyn System>,
    state: TargetState,
    batches: Vec<Vec<Entry>>,
    durable: usize,
    seq: u64,
    now: At,
    points: usize,
    is_given: bool,
    deaths: usize,
    watch: Watch,
    notes: Vec<String>,
}

/// Runs a scenario to its end.
///
/// # Errors
/// The first promise that was broken, with the story of the run.
pub(super) async fn run(bench: &Bench, scenario: &Scenario, plan: Plan) -> Result<Ended, Broken> {
    let early = |what: String| Broken { what, story: Vec::new() };
    let job = bench.job(scenario).map_err(early)?;
    let vendor = Arc::new(bench.vendor(scenario));
    {
        let mut inner = vendor.lock();
        (inner.now, inner.faults, inner.replaced) = (START, plan.faults.clone(), plan.replaced.clone());
    }
    let client = bench.client(&vendor).map_err(early)?;
    let mut run = Run {
        bench,
        scenario,
        plan,
        job,
        vendor,
        client,
        state: TargetState::default(),
        batches: Vec::new(),
        durable: 0,
        seq: 0,
        now: START,
        points: 0,
        is_given: false,
        deaths: 0,
        watch: Watch::default(),
        notes: Vec::new(),
    };
    run.begin_life();
    match run.finish().await {
        Ok(end) => {
            let mut inner = run.vendor.lock();
            let made = std::mem::take(&mut inner.made);
            let gaps = inner.stand_in.gaps().clone();
            drop(inner);
            Ok(Ended { end, points: run.points, made, state: run.state, job: run.job, gaps })
        }
        Err(what) => Err(Broken { story: run.story(), what }),
    }
}

impl Run<'_> {
    fn begin_life(&self) {
        if self.scenario.knows_somebody {
            self.client.credential().prove();
        }
    }

    async fn finish(&mut self) -> Result<TargetEnd, String> {
        for _ in 0..MOST_TURNS {
            let turn = match self.turn().await {
                Err(Stopped::Died) => self.restart().map(|()| None),
                turn => turn,
            };
            match turn {
                Ok(None) => {}
                Ok(Some(end)) => return self.judge(&end).map_or(Ok(end), Err),
                // A restart does not end the process.
                Err(Stopped::Died) => {}
                Err(Stopped::Broken(what)) => return Err(what),
            }
        }
        Err("the job does not end".to_owned())
    }

    /// What is wrong with the end.
    fn judge(&self, end: &TargetEnd) -> Option<String> {
        let inner = self.vendor.lock();
        let is_success = end.outcome.is_erased() || end.outcome == TargetOutcome::Absent;
        let holds = inner.stand_in.holds(PERSON, inner.now_ms());
        if is_success && holds {
            return Some(format!("ends as {} {LEFT}", end.outcome));
        }
        let acts = inner.made.iter().filter(|made| made.effect).count();
        if acts > 0 && self.scenario.is_preview {
            return Some("a preview changes something".to_owned());
        }
        if acts > 0 && self.scenario.differs.is_some() && !is_unchecked(self.bench) {
            return Some("something is erased although the identifiers name two persons".to_owned());
        }
        if end.outcome == TargetOutcome::Absent && !self.scenario.exists && !self.scenario.knows_somebody {
            let found = inner.made.iter().any(|made| made.person.is_some() && made.status == Some(200));
            if !found {
                return Some("ends as absent with a credential that has found nobody".to_owned());
            }
        }
        let somebody_else = (0..inner.stand_in.people().len()).filter(|place| *place != PERSON);
        let mut others = somebody_else.filter(|place| !inner.stand_in.holds(*place, inner.now_ms()));
        others.next().map(|_| "another person was erased".to_owned())
    }

    fn story(&self) -> Vec<String> {
        let inner = self.vendor.lock();
        let mut story = vec![format!("scenario: {}", self.scenario.name)];
        for (number, made) in inner.made.iter().enumerate() {
            let status = made.status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
            let fault = made.behaviour.map_or(String::new(), |behaviour| format!(", {}", behaviour.words()));
            let replaced = if made.is_replaced { ", a changed reply" } else { "" };
            let effect = if made.effect { ", takes effect" } else { "" };
            story.push(format!("call {number}: {} -> {status}{fault}{replaced}{effect}", made.names));
        }
        if let Some((point, survives)) = self.plan.death {
            story.push(format!("the process ends at point {point}; survives: {survives:?}"));
        }
        if let Some(replaced) = &self.plan.replaced {
            story.push(format!("the changed reply: {}", replaced.by.what));
        }
        story.extend(self.notes.iter().cloned());
        if story.len() > MOST_LINES {
            let left_out = story.len() - MOST_LINES;
            story.splice(MOST_LINES / 2..MOST_LINES / 2 + left_out, [format!("({left_out} lines left out)")]);
        }
        story
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.vendor.lock().now = self.now;
    }

    async fn turn(&mut self) -> Turn<Option<TargetEnd>> {
        let at = self.now;
        let next = flow::next(&self.job, 0, &self.state, &self.bench.rules, &self.bench.limits, at);
        match next {
            Next::End(end) if self.state.end.is_some() => return Ok(Some(end)),
            Next::End(end) => {
                self.notes.push(format!("ends as {}", end.outcome));
                self.append(vec![Entry::Ended { target: 0, end, at }])?;
            }
            Next::Settle { step, done } => self.append(vec![Entry::Settled { target: 0, step, done, at }])?,
            Next::Intend(steps) => {
                self.append(steps.into_iter().map(|step| Entry::Intent { target: 0, step, at }).collect())?;
                self.durable = self.batches.len();
                self.point()?;
            }
            Next::Wait { until, .. } => {
                if until <= at {
                    return Err(Stopped::Broken("waits until a time that has passed".to_owned()));
                }
                if until.since(at) > INLINE {
                    self.park()?;
                }
                self.wait(until.since(self.now));
            }
            Next::Ask(asks) => {
                let new: Vec<Entry> = asks
                    .iter()
                    .filter(|ask| !self.state.asked.contains_key(&ask.kind))
                    .map(|ask| Entry::Asked { target: 0, kind: ask.kind, at })
                    .collect();
                if !new.is_empty() {
                    self.append(new)?;
                }
                self.park()?;
                self.give()?;
            }
            Next::Call(step) => self.call(step).await?,
        }
        Ok(None)
    }

    /// The person gives the right proof, once; then time passes.
    fn give(&mut self) -> Turn<()> {
        self.wait(MINUTE);
        if self.is_given {
            self.wait(MINUTE * 15);
            return Ok(());
        }
        self.is_given = true;
        let right = self.bench.proofs();
        if let Some(Spec::Connector { proofs, .. }) = self.job.targets.first_mut().map(|target| &mut target.spec) {
            *proofs = right.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
        }
        self.append(vec![Entry::Continued { at: self.now }])
    }

    async fn call(&mut self, step: Step) -> Turn<()> {
        self.point()?;
        if let Some(what) = self.watch.before(&self.bench.original, step, &self.batches[..self.durable]) {
            return Err(Stopped::Broken(what));
        }
        self.wait(Duration::from_millis(50));
        let before = self.vendor.lock().made.len();
        let Some(target) = self.job.targets.first() else { return Err(Stopped::Broken("no target".to_owned())) };
        let facts = Facts::of(&self.job, 0, &self.state, step, &|_, _| Vec::new());
        let call = Call { job: &self.job, target, index: 0, step, facts: &facts };
        let said = self.client.call(call).await;
        {
            let inner = self.vendor.lock();
            self.now = inner.now;
            let made = &inner.made[before.min(inner.made.len())..];
            let person = (self.scenario.exists && self.scenario.differs.is_none()).then_some(PERSON);
            let is_changed = self.plan.replaced.is_some();
            if let Some(what) = watch::of_requests(&self.bench.original, step, made, person, is_changed) {
                return Err(Stopped::Broken(what));
            }
            if let Some(what) = watch::of_lost(&self.bench.original, made, &said) {
                return Err(Stopped::Broken(what));
            }
        }
        self.watch.made(&self.bench.original, step, &said, self.batches.len());
        self.point()?;
        let at = self.now;
        match said {
            Ok(answer) => self.append(vec![Entry::Answered { target: 0, step, answer: Some(answer), at }]),
            Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }) => {
                // The engine writes nothing; the gate makes the job wait.
                self.park()?;
                self.wait(MINUTE * 15);
                self.refused_too_often()
            }
            Err(Failure { kind, reason, .. }) => {
                let attempt = self.state.get(step).map_or(0, |state| state.attempts);
                let not_before = at.plus(Duration::from_millis(500 << attempt.min(11)));
                self.append(vec![Entry::Failed { target: 0, step, kind, reason, at, not_before }])
            }
        }
    }

    /// A vendor that refuses the credential for a day holds the job: nothing is reported.
    fn refused_too_often(&mut self) -> Turn<()> {
        if self.now.since(START) < Duration::from_secs(24 * 3600) {
            return Ok(());
        }
        let end = TargetEnd::failed(crate::job::Reason::SystemUnavailable, crate::job::StepName::Resolve);
        self.append(vec![Entry::Ended { target: 0, end, at: self.now }])
    }

    /// Settles intents whose call was not made, makes everything durable, and folds the journal again.
    fn park(&mut self) -> Turn<()> {
        let at = self.now;
        let unsent = self.state.unsent();
        if !unsent.is_empty() {
            let settled = |step| Entry::Settled { target: 0, step, done: false, at };
            self.append(unsent.into_iter().map(settled).collect())?;
        }
        self.durable = self.batches.len();
        self.point()?;
        self.reload();
        Ok(())
    }

    fn append(&mut self, entries: Vec<Entry>) -> Turn<()> {
        for entry in &entries {
            self.seq += 1;
            self.state.apply(entry, self.seq);
        }
        self.batches.push(entries);
        self.point()
    }

    /// The process may end here.
    fn point(&mut self) -> Turn<()> {
        let point = self.points;
        self.points += 1;
        match self.plan.death {
            Some((at, survives)) if at == point => {
                let kept = if survives == Survives::All { self.batches.len() } else { self.durable };
                self.batches.truncate(kept);
                self.deaths += 1;
                Err(Stopped::Died)
            }
            _ => Ok(()),
        }
    }

    fn restart(&mut self) -> Turn<()> {
        self.wait(Duration::from_secs(3));
        self.durable = self.batches.len();
        self.watch.died(self.batches.len());
        self.notes.push("the process was started again".to_owned());
        self.client = self.bench.client(&self.vendor).map_err(Stopped::Broken)?;
        self.begin_life();
        self.reload();
        // The continuation is redelivered, if it was lost.
        let is_known = self.batches.iter().flatten().any(|entry| matches!(entry, Entry::Continued { .. }));
        if self.is_given && !is_known {
            self.append(vec![Entry::Continued { at: self.now }])?;
        }
        Ok(())
    }

    fn reload(&mut self) {
        let mut state = TargetState::default();
        self.seq = 0;
        for entry in self.batches.iter().flatten() {
            self.seq += 1;
            state.apply(entry, self.seq);
        }
        state.doubt_open_intents();
        self.state = state;
    }
}

fn is_unchecked(bench: &Bench) -> bool {
    bench.original.reads.first().is_none_or(|read| read.call.is_none()) || bench.compared().is_empty()
}

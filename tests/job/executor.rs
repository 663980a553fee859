//! Runs a scenario as the engine does: asks the flow, makes the call to the model, folds the entries. It loses answers
//! and crashes according to the plan.
//!
//! The rule it keeps: a restarted run knows only the fold of the batches that survived.

use std::time::Duration;

use erasure_worker::job::flow::{self, Next, Why};
use erasure_worker::job::{
    Answer, At, Entry, Failure, FailureKind, InputKind, Job, Reason, RowState, Step, StepName, TargetEnd, TargetState,
};

use crate::plan::{Fault, Plan, Survives};
use crate::scenario::{Reply, Scenario};
use crate::watch::Watch;
use crate::world::{Changed, Said, World, fails, theirs};

/// No run may take more turns.
const MOST_TURNS: usize = 1000;
/// After a wait of this length reads are repeated.
const MINUTE: Duration = Duration::from_secs(60);
/// A longer wait parks the job.
const INLINE: Duration = Duration::from_secs(2);

/// A pause that the flow asked for, and the number of calls before it.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    pub why: Why,
    pub from: At,
    pub until: At,
    pub calls: usize,
}

/// The reason why a turn did not end.
enum Stopped {
    /// The process crashed.
    Crashed,
    /// A promise was broken.
    Violated(String),
}

type Turn<T> = Result<T, Stopped>;

/// A run, going on or ended.
pub struct Run<'a> {
    pub scenario: &'a Scenario,
    plan: Plan,
    pub job: Job,
    pub world: Box<dyn World>,
    pub state: TargetState,
    /// The written entries, in batches.
    pub batches: Vec<Vec<Entry>>,
    durable: usize,
    seq: u64,
    pub now: At,
    /// The calls so far, and the points at which it could have crashed.
    pub calls: usize,
    pub points: usize,
    /// The point just before the first call with a fault.
    pub first_fault_at: Option<usize>,
    /// The number of calls before the first crash.
    pub calls_at_crash: Option<usize>,
    /// Every pause that the flow asked for.
    pub rests: Vec<Rest>,
    /// The possible changes in each wait so far.
    pub waits: Vec<Vec<Changed>>,
    /// The plan's change was made.
    pub is_changed: bool,
    asks: Vec<(InputKind, u32)>,
    /// A continuation that is not acked yet: it is redelivered after a crash.
    continuation: Option<At>,
    /// The beginning of a new run: begun again if a crash lost it.
    new_run_at: Option<At>,
    pub watch: Watch,
}

impl<'a> Run<'a> {
    pub fn new(scenario: &'a Scenario, plan: Plan) -> Run<'a> {
        Run {
            scenario,
            plan,
            job: scenario.job.clone(),
            world: scenario.world.copy(),
            state: TargetState::default(),
            batches: Vec::new(),
            durable: 0,
            seq: 0,
            now: At(1_795_341_600_000),
            calls: 0,
            points: 0,
            first_fault_at: None,
            calls_at_crash: None,
            rests: Vec::new(),
            waits: Vec::new(),
            is_changed: false,
            asks: Vec::new(),
            continuation: None,
            new_run_at: None,
            watch: Watch::default(),
        }
    }

    /// Runs to the target's end, and checks every promise that holds for any run.
    pub fn finish(&mut self) -> Result<TargetEnd, String> {
        while self.scenario.needs_approval && self.batches.is_empty() {
            let needed = Entry::ApprovalNeeded { by: "ann".to_owned(), at: self.now };
            let written = match self.append(vec![needed]) {
                Err(Stopped::Crashed) => self.restart(),
                other => other,
            };
            if let Err(Stopped::Violated(what)) = written {
                return Err(self.story(&what));
            }
        }
        for _ in 0..MOST_TURNS {
            let turn = match self.turn() {
                Err(Stopped::Crashed) => self.restart().map(|()| None),
                turn => turn,
            };
            match turn {
                Ok(None) => {}
                Ok(Some(end)) => return self.check(&end).map(|()| end),
                Err(Stopped::Crashed) => unreachable!("a restart does not crash"),
                Err(Stopped::Violated(what)) => return Err(self.story(&what)),
            }
        }
        Err(self.story("it does not end"))
    }

    /// Replays a failed job; the process may crash this many points later.
    pub fn replay(&mut self, crash: Option<(usize, Survives)>) -> Result<TargetEnd, String> {
        self.plan = Plan { change: self.plan.change, ..Plan::none() };
        self.wait(Duration::from_secs(600));
        if let Some((after, survives)) = crash {
            self.plan.crashes.insert(self.points + after, survives);
        }
        self.durable = self.batches.len();
        self.reload();
        self.watch.new_run(&self.state, self.now);
        self.asks.clear();
        self.new_run_at = Some(self.now);
        if let Err(Stopped::Crashed) = self.append(vec![Entry::NewRun { at: self.now }]) {
            let _ = self.restart();
        }
        self.finish()
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.batches.iter().flatten()
    }

    /// The run so far, for a violation's message.
    pub fn story(&self, what: &str) -> String {
        let mut story = format!("{}: {what}\n{:?}\ncalls: {:?}", self.scenario.name, self.plan, self.watch.made);
        for (index, batch) in self.batches.iter().enumerate().rev().take(30) {
            story += &format!("\n  {index}: {batch:?}");
        }
        story
    }

    fn check(&self, end: &TargetEnd) -> Result<(), String> {
        if end.outcome.is_erased() && !self.world.is_gone() {
            return Err(self.story(&format!("ended {} although the person is still there", end.outcome)));
        }
        if let Some(harm) = self.world.harm() {
            return Err(self.story(harm));
        }
        if let Some(what) = crate::ends::of(self) {
            return Err(self.story(&what));
        }
        match self.watch.last_word(self.scenario, &self.batches) {
            Some(what) => Err(self.story(&what)),
            None => Ok(()),
        }
    }

    /// Time passes, and the plan's change is made.
    fn wait(&mut self, long: Duration) {
        self.now = self.now.plus(long);
        let mut changes: Vec<Changed> = Changed::ALL.to_vec();
        // After the last read-back no call could show it.
        let is_shown = !self.watch.made.contains(&StepName::TellRequester);
        changes.retain(|changed| long >= MINUTE || (is_shown && changed.shows_afterwards()));
        // Before the first read nothing counts as a change.
        if !self.entries().any(|entry| matches!(entry, Entry::Answered { .. })) {
            changes.clear();
        }
        match self.plan.change {
            Some((wait, changed)) if wait == self.waits.len() => {
                self.is_changed = changes.contains(&changed) && self.world.change(self.now, changed);
            }
            Some(_) => {}
            None => changes.retain(|changed| self.world.copy().change(self.now, *changed)),
        }
        self.waits.push(changes);
    }

    fn next(&self) -> Next {
        flow::next(&self.job, 0, &self.state, &self.scenario.rules, &self.scenario.limits, self.now)
    }

    fn turn(&mut self) -> Turn<Option<TargetEnd>> {
        let at = self.now;
        match self.next() {
            Next::End(end) if self.state.end.is_some() => return Ok(Some(end)),
            Next::End(end) => self.append(vec![Entry::Ended { target: 0, end, at }])?,
            Next::Settle { step, done } => self.append(vec![Entry::Settled { target: 0, step, done, at }])?,
            Next::Intend(steps) => {
                self.append(steps.into_iter().map(|step| Entry::Intent { target: 0, step, at }).collect())?;
                self.durable = self.batches.len();
                self.point()?;
            }
            Next::Wait { until, why } => {
                if until <= at {
                    return Err(Stopped::Violated("waits until a time that has passed".to_owned()));
                }
                self.rests.push(Rest { why, from: at, until, calls: self.watch.made.len() });
                if until.since(at) > INLINE {
                    self.park()?;
                }
                self.wait(until.since(self.now));
            }
            Next::Ask(asks) => self.ask(&asks.iter().map(|ask| ask.kind).collect::<Vec<_>>())?,
            Next::Call(step) => self.call(step)?,
        }
        Ok(None)
    }

    fn call(&mut self, step: Step) -> Turn<()> {
        self.point()?;
        if let Some(what) = self.watch.before_call(self.scenario, step, &self.batches[..self.durable], self.now) {
            return Err(Stopped::Violated(what));
        }
        let fault = self.plan.of(self.calls);
        if fault.is_some() {
            self.first_fault_at.get_or_insert(self.points - 1);
        }
        self.calls += 1;
        self.now = self.now.plus(Duration::from_millis(50));
        let said = self.said(step, fault);
        self.watch.made(self.scenario, step, &said, self.now, self.batches.len());
        self.point()?;
        let at = self.now;
        match said {
            Ok(answer) => self.append(vec![Entry::Answered { target: 0, step, answer: Some(answer), at }]),
            Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }) => {
                // The engine writes nothing; the gate makes the job wait.
                self.park()?;
                self.wait(MINUTE);
                Ok(())
            }
            Err(Failure { kind, reason, .. }) => {
                let attempt = self.state.get(step).map_or(0, |state| state.attempts);
                let not_before = at.plus(Duration::from_millis(500 << attempt.min(11)));
                self.append(vec![Entry::Failed { target: 0, step, kind, reason, at, not_before }])
            }
        }
    }

    /// A call's result, with the fault.
    fn said(&mut self, step: Step, fault: Option<Fault>) -> Said {
        let changes = step.name.needs_intent();
        let reason = Reason::SystemUnavailable;
        let does = matches!(fault, None | Some(Fault::Lost | Fault::Garbled | Fault::Nonsense));
        let real = if does { Some(self.world.call(self.now, &self.job, step, &self.state)) } else { None };
        let lost = if changes { FailureKind::Ambiguous } else { FailureKind::Unavailable };
        match (fault, real) {
            (None, Some(real)) => real,
            (Some(Fault::Lost | Fault::LostUndone), _) => fails(lost, reason),
            (Some(Fault::Garbled | Fault::GarbledUndone), _) => fails(FailureKind::Unreadable, Reason::UnreadableReply),
            (Some(Fault::Nonsense), _) => Ok(nonsense(step)),
            (Some(Fault::Refused), _) => fails(FailureKind::Refused, Reason::ActiveEntitlement),
            (Some(Fault::Rejected), _) => fails(FailureKind::Rejected, Reason::RequestRejected),
            (Some(Fault::Theirs), _) => theirs(InputKind::AccessToken),
            (Some(Fault::Limited), _) => fails(FailureKind::RateLimited, reason),
            (Some(Fault::Ours), _) => fails(FailureKind::UnauthorisedOurs, reason),
            _ => fails(FailureKind::Unavailable, reason),
        }
    }

    fn ask(&mut self, kinds: &[InputKind]) -> Turn<()> {
        let at = self.now;
        let new: Vec<_> = kinds.iter().copied().filter(|kind| !self.state.asked.contains_key(kind)).collect();
        if !new.is_empty() {
            self.append(new.into_iter().map(|kind| Entry::Asked { target: 0, kind, at }).collect())?;
        }
        self.park()?;
        // The engine reads again after about as long as it has waited.
        let oldest = self.state.asked.values().min().copied().unwrap_or(at);
        let until = self.now.plus(self.now.since(oldest).max(Duration::from_secs(5)));
        for kind in kinds {
            let times = self.asks.iter().filter(|(asked, _)| asked == kind).count() as u32 + 1;
            self.asks.push((*kind, times));
            match (self.scenario.person)(&mut self.job, *kind, times, &*self.world) {
                Reply::Silence => {}
                Reply::Approve(seconds) => {
                    self.wait(Duration::from_secs(seconds));
                    return self.append(vec![Entry::Approved { by: "bob".to_owned(), at: self.now }]);
                }
                Reply::Operator => self.world.operator(self.now, *kind),
                Reply::Again(seconds) => {
                    self.wait(Duration::from_secs(seconds));
                    self.continuation = Some(self.now);
                    return self.append(vec![Entry::Continued { at: self.now }]);
                }
            }
        }
        self.wait(until.since(self.now));
        Ok(())
    }

    /// Settles intents whose call was not made, makes everything durable, and folds the journal again, as the next
    /// delivery does.
    fn park(&mut self) -> Turn<()> {
        let at = self.now;
        let unsent = self.state.unsent();
        if !unsent.is_empty() {
            let settled = |step| Entry::Settled { target: 0, step, done: false, at };
            self.append(unsent.into_iter().map(settled).collect())?;
        }
        self.durable = self.batches.len();
        self.point()?;
        self.continuation = None;
        let mut known = self.state.clone();
        known.doubt_open_intents();
        self.reload();
        if known != self.state {
            return Err(Stopped::Violated("the journal's fold differs from the run's state".to_owned()));
        }
        Ok(())
    }

    fn append(&mut self, entries: Vec<Entry>) -> Turn<()> {
        for entry in &entries {
            self.seq += 1;
            self.state.apply(entry, self.seq);
        }
        self.watch.wrote(&entries);
        self.batches.push(entries);
        self.point()
    }

    /// The process may crash here.
    fn point(&mut self) -> Turn<()> {
        let point = self.points;
        self.points += 1;
        let Some(survives) = self.plan.crashes.get(&point) else { return Ok(()) };
        let kept = match survives {
            Survives::Durable => self.durable,
            Survives::OneMore => self.batches.len().min(self.durable + 1),
            Survives::All => self.batches.len(),
        };
        self.calls_at_crash.get_or_insert(self.calls);
        self.batches.truncate(kept);
        Err(Stopped::Crashed)
    }

    fn restart(&mut self) -> Turn<()> {
        self.wait(Duration::from_secs(3));
        self.durable = self.batches.len();
        self.watch.crashed(self.batches.len());
        self.reload();
        // The unacked copy is redelivered. It is a continuation again if a crash lost that entry.
        let at = self.now;
        let opened = |since: At| self.entries().any(|entry| matches!(entry, Entry::NewRun { at } if *at >= since));
        if self.new_run_at.is_some_and(|since| !opened(since)) {
            match self.append(vec![Entry::NewRun { at }]) {
                Err(Stopped::Crashed) => return self.restart(),
                other => other?,
            }
        }
        let known = |since: At| self.entries().any(|entry| matches!(entry, Entry::Continued { at } if *at >= since));
        if self.continuation.is_some_and(|since| !known(since)) {
            match self.append(vec![Entry::Continued { at }]) {
                Err(Stopped::Crashed) => return self.restart(),
                other => other?,
            }
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

/// An answer of another step's kind.
fn nonsense(step: Step) -> Answer {
    match step.name {
        StepName::ImportResult => Answer::Values { stand: true },
        StepName::RequestOtp | StepName::TellRequester => Answer::Done,
        _ => Answer::Row(RowState::Deleted),
    }
}

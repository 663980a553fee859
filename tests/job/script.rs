//! A target whose answers a test writes, one by one.

use std::time::Duration;

use erasure_worker::job::flow::{self, Ask, Next};
use erasure_worker::job::{
    Answer, At, Entry, FailureKind, InputKind, Job, Reason, Rules, Step, StepName, TargetEnd, TargetState,
};
use serde_json::Value;

use crate::jobs;
use crate::scenario::limits;

/// The time of the beginning.
pub const START: At = At(1_795_341_600_000);

/// A target and the journal that the test writes.
pub struct Script {
    pub job: Job,
    pub rules: Rules,
    pub state: TargetState,
    pub entries: Vec<Entry>,
    pub now: At,
}

impl Script {
    pub fn new(target: Value) -> Script {
        let job = jobs::good(&jobs::one(target));
        let rules = jobs::accepts().systems[&job.targets[0].system].clone();
        Script { job, rules, state: TargetState::default(), entries: Vec::new(), now: START }
    }

    pub fn next(&self) -> Next {
        flow::next(&self.job, 0, &self.state, &self.rules, &limits(), self.now)
    }

    pub fn write(&mut self, entry: Entry) {
        self.state.apply(&entry, self.entries.len() as u64 + 1);
        self.entries.push(entry);
    }

    /// The process restarts.
    pub fn restart(&mut self) {
        self.state = TargetState::default();
        for (entry, seq) in self.entries.iter().zip(1..) {
            self.state.apply(entry, seq);
        }
        self.state.doubt_open_intents();
    }

    #[track_caller]
    pub fn expect_call(&self, name: StepName) -> Step {
        match self.next() {
            Next::Call(step) if step.name == name => step,
            other => panic!("{other:?}, not a call of {name:?}"),
        }
    }

    /// Carries intents, expects a call of this step, and answers it.
    #[track_caller]
    pub fn answer(&mut self, name: StepName, answer: Answer) -> &mut Script {
        self.carry_intents();
        let step = self.expect_call(name);
        self.write(Entry::Answered { target: 0, step, answer: Some(answer), at: self.now });
        self
    }

    #[track_caller]
    pub fn fail(&mut self, name: StepName, kind: FailureKind, reason: Reason) -> &mut Script {
        self.carry_intents();
        let step = self.expect_call(name);
        let (at, not_before) = (self.now, self.now.plus(Duration::from_secs(1)));
        self.write(Entry::Failed { target: 0, step, kind, reason, at, not_before });
        self
    }

    pub fn carry_intents(&mut self) {
        loop {
            match self.next() {
                Next::Intend(steps) => {
                    steps.into_iter().for_each(|step| self.write(Entry::Intent { target: 0, step, at: self.now }));
                }
                Next::Settle { step, done } => self.write(Entry::Settled { target: 0, step, done, at: self.now }),
                _ => return,
            }
        }
    }

    #[track_caller]
    pub fn expect_ask(&mut self, kind: InputKind) -> Ask {
        self.carry_intents();
        match self.next() {
            Next::Ask(asks) if asks.len() == 1 && asks[0].kind == kind => {
                if !self.state.asked.contains_key(&kind) {
                    self.write(Entry::Asked { target: 0, kind, at: self.now });
                }
                asks[0].clone()
            }
            other => panic!("{other:?}, not asked for {kind:?}"),
        }
    }

    #[track_caller]
    pub fn expect_end(&mut self, end: TargetEnd) {
        self.carry_intents();
        assert_eq!(self.next(), Next::End(end));
    }

    pub fn pass(&mut self, seconds: u64) -> &mut Script {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self
    }

    pub fn continued(&mut self) -> &mut Script {
        self.write(Entry::Continued { at: self.now });
        self
    }

    pub fn new_run(&mut self) -> &mut Script {
        let end = match self.next() {
            Next::End(end) => end,
            other => panic!("{other:?}, not an end"),
        };
        self.write(Entry::Ended { target: 0, end, at: self.now });
        self.restart();
        self.write(Entry::NewRun { at: self.now });
        self
    }
}

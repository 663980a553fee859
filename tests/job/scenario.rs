//! The start of a run: a job with one target, its system's rules, a model of the system, and a person who is asked.

use std::time::Duration;

use erasure_worker::job::flow::Limits;
use erasure_worker::job::{InputKind, Job, Mode, Rules};
use serde_json::Value;

use crate::jobs;
use crate::world::World;

/// A person's reply to a request for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// No reply.
    Silence,
    /// A continuation after this many seconds: the job as the person's function changed it.
    Again(u64),
    /// Another operator approves the findings after this many seconds.
    Approve(u64),
    /// An operator acts in the system.
    Operator,
}

/// Asked for a kind of input for the n-th time (from 1): changes the job and returns the reply. From the world it may
/// read only the codes that were sent to the person.
pub type Person = fn(&mut Job, InputKind, u32, &dyn World) -> Reply;

/// The start of a run.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub job: Job,
    pub rules: Rules,
    pub limits: Limits,
    pub world: Box<dyn World>,
    pub person: Person,
    /// The identifiers name two persons: no destructive call may be made.
    pub is_mismatch: bool,
    /// The erasure needs an approval.
    pub needs_approval: bool,
}

/// The documented limits, but shorter waits for inputs and deletions.
pub fn limits() -> Limits {
    Limits {
        max_attempts: 8,
        max_elapsed: Duration::from_secs(72 * 3600),
        max_interval: Duration::from_secs(15 * 60),
        input_max: Duration::from_secs(2 * 3600),
        pending_max: Duration::from_secs(2 * 3600),
        approval_max: Duration::from_secs(24 * 3600),
    }
}

/// Nobody answers.
pub fn silent(_: &mut Job, _: InputKind, _: u32, _: &dyn World) -> Reply {
    Reply::Silence
}

impl Scenario {
    /// A target with the rules of its kind. No input ever comes.
    pub fn new(name: &'static str, target: Value, world: impl World + 'static) -> Scenario {
        let job = jobs::good(&jobs::one(target));
        let rules = jobs::accepts().systems[&job.targets[0].system].clone();
        Scenario {
            name,
            job,
            rules,
            limits: limits(),
            world: Box::new(world),
            person: silent,
            is_mismatch: false,
            needs_approval: false,
        }
    }

    /// With other rules.
    pub fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Scenario {
        change(&mut self.rules);
        self
    }

    /// With a person who answers.
    pub fn person(mut self, person: Person) -> Scenario {
        self.person = person;
        self
    }

    /// Waiting for an approval.
    pub fn approval(mut self) -> Scenario {
        self.needs_approval = true;
        self
    }

    /// As a preview.
    pub fn preview(mut self) -> Scenario {
        self.job.mode = Mode::Preview;
        self
    }

    /// Of identifiers that name two persons.
    pub fn mismatch(mut self) -> Scenario {
        self.is_mismatch = true;
        self
    }
}

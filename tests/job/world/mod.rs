//! Model systems: a vendor's data, and its client's answers to calls, peculiar ones included.
//!
//! The rule it keeps: a model knows nothing about the flows; only [`World::is_gone`] and [`World::harm`] judge them.

pub mod cleeng;
pub mod connector;
pub mod easycms;
pub mod vitalsource;
pub mod zeta;

use std::time::Duration;

use erasure_worker::job::{Absence, Answer, At, Failure, FailureKind, InputKind, Job, Reason, Step, TargetState};

/// A call's result.
pub type Said = Result<Answer, Failure>;

/// A vendor's side of one target.
pub trait World: std::fmt::Debug {
    /// Makes a call. `state` holds the facts that the engine takes from earlier answers.
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said;
    /// True if the person is gone, or will be gone by an accepted request.
    fn is_gone(&self) -> bool;
    /// The damage that no order of calls may do, if there is any.
    fn harm(&self) -> Option<&'static str> {
        None
    }
    /// An operator does the requested work.
    fn operator(&mut self, _now: At, _kind: InputKind) {}
    /// The latest one-time password.
    fn latest_code(&self) -> Option<String> {
        None
    }
    /// Makes a change while the job waits. `false` if this system cannot have it.
    fn change(&mut self, _now: At, _changed: Changed) -> bool {
        false
    }
    /// A copy, for another run.
    fn copy(&self) -> Box<dyn World>;
}

/// A change of a person's data while a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// They have another e-mail address.
    Email,
    /// They fill in empty fields.
    Names,
    /// They get something new: an entitlement, a licence, a code in use.
    More,
    /// Their record is merged into another.
    Merged,
    /// The job's identifiers now name another person.
    Stranger,
    /// The job's identifiers lead nowhere any more; the record stays.
    Renamed,
    /// Somebody else erased them.
    Gone,
}

impl Changed {
    pub const ALL: [Changed; 7] =
        [Self::Email, Self::Names, Self::More, Self::Merged, Self::Stranger, Self::Renamed, Self::Gone];

    /// True if every read-back shows the change, however short the wait was. Only reads before a call show the other
    /// changes.
    pub const fn shows_afterwards(self) -> bool {
        matches!(self, Changed::Email | Changed::Names | Changed::Gone)
    }
}

/// A client's answer to an interface that finds nobody.
pub fn absence(is_vouched: bool) -> Answer {
    if is_vouched { Answer::Missing(Absence::vouched()) } else { Answer::Unclear(Reason::Unproven) }
}

/// A failed call.
pub fn fails(kind: FailureKind, reason: Reason) -> Said {
    Err(Failure::new(kind, reason))
}

/// The person's proof is refused.
pub fn theirs(kind: InputKind) -> Said {
    fails(FailureKind::UnauthorisedTheirs(kind), Reason::InputRefused)
}

/// A change that shows some time after it was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// The time of the change.
    pub made_at: Option<At>,
    /// The time for which the old state still shows.
    pub lag: Duration,
}

impl Change {
    /// A change that shows after this time.
    pub fn after(lag: Duration) -> Change {
        Change { made_at: None, lag }
    }

    /// Makes it, once.
    pub fn make(&mut self, now: At) {
        self.made_at.get_or_insert(now);
    }

    pub fn is_made(&self) -> bool {
        self.made_at.is_some()
    }

    pub fn shows(&self, now: At) -> bool {
        self.made_at.is_some_and(|at| now >= at.plus(self.lag))
    }
}

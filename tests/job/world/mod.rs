//! Model systems: what is true at a vendor, and what its client says to a call, odd ways included.
//!
//! The rule it keeps: a model knows nothing of the flows; only [`World::is_gone`] judges them.

pub mod cleeng;
pub mod easycms;
pub mod vitalsource;
pub mod zeta;

use std::time::Duration;

use erasure_worker::job::{Absence, Answer, At, Failure, FailureKind, InputKind, Job, Reason, Step, TargetState};

/// What a call comes to.
pub type Said = Result<Answer, Failure>;

/// A vendor's side of one target.
pub trait World: std::fmt::Debug {
    /// Makes a call. `state` is where the engine takes its facts from.
    fn call(&mut self, now: At, job: &Job, step: Step, state: &TargetState) -> Said;
    /// True where the person is gone, or will be by a request that was accepted.
    fn is_gone(&self) -> bool;
    /// What was done to it that no order of calls may do.
    fn harm(&self) -> Option<&'static str> {
        None
    }
    /// An operator does what was asked for.
    fn operator(&mut self, _now: At, _kind: InputKind) {}
    /// The one-time password that was sent last.
    fn latest_code(&self) -> Option<String> {
        None
    }
    /// Something changes while the job waits, for so long. `false` where that cannot be here.
    fn change(&mut self, _now: At, _changed: Changed) -> bool {
        false
    }
    /// A copy, for another run.
    fn copy(&self) -> Box<dyn World>;
}

/// What may become of a person while a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// They have another e-mail address.
    Email,
    /// They fill in what was empty.
    Names,
    /// They get something more: an entitlement, a licence, a code in use.
    More,
    /// Their record becomes a part of another one.
    Merged,
    /// What names them names another person by now.
    Stranger,
    /// What the job names them by leads nowhere any more; their record stays.
    Renamed,
    /// They are gone by somebody else's doing.
    Gone,
}

impl Changed {
    /// Every change.
    pub const ALL: [Changed; 7] =
        [Self::Email, Self::Names, Self::More, Self::Merged, Self::Stranger, Self::Renamed, Self::Gone];

    /// True where whatever reads the effect back shows it, however short the wait was. The others are
    /// seen by those reads only that come before a call.
    pub const fn shows_afterwards(self) -> bool {
        matches!(self, Changed::Email | Changed::Names | Changed::Gone)
    }
}

/// What a client makes of the interface's word that nobody is there.
pub fn absence(is_vouched: bool) -> Answer {
    if is_vouched { Answer::Missing(Absence::vouched()) } else { Answer::Unclear(Reason::Unproven) }
}

/// A failed call.
pub fn fails(kind: FailureKind, reason: Reason) -> Said {
    Err(Failure::new(kind, reason))
}

/// A proof of the person's is refused.
pub fn theirs(kind: InputKind) -> Said {
    fails(FailureKind::UnauthorisedTheirs(kind), Reason::InputRefused)
}

/// A change that shows some time after it was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// When it was made.
    pub made_at: Option<At>,
    /// How long the old state is still shown.
    pub lag: Duration,
}

impl Change {
    /// One that will show after this long.
    pub fn after(lag: Duration) -> Change {
        Change { made_at: None, lag }
    }

    /// Makes it, once.
    pub fn make(&mut self, now: At) {
        self.made_at.get_or_insert(now);
    }

    /// True once made.
    pub fn is_made(&self) -> bool {
        self.made_at.is_some()
    }

    /// True once it shows.
    pub fn shows(&self, now: At) -> bool {
        self.made_at.is_some_and(|at| now >= at.plus(self.lag))
    }
}

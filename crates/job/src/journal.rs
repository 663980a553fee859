//! A job's journal: the entries that are made durable.
//!
//! The rule it keeps: an entry records a fact and its time, never an action to take.

use serde::{Deserialize, Serialize};

use super::outcome::{InputKind, Reason, TargetEnd};
use super::step::{Answer, FailureKind, Step};

/// A moment in milliseconds since 1970, as in journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct At(pub i64);

impl At {
    /// This much later.
    pub fn plus(self, wait: std::time::Duration) -> At {
        At(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This much earlier.
    pub fn minus(self, wait: std::time::Duration) -> At {
        At(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time from an earlier moment to this one; zero if it is not earlier.
    pub fn since(self, earlier: At) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds.
    pub fn to_rfc3339(self) -> String {
        // RFC 3339 has four digits for a year, and consumers rely on the form.
        const FIRST: i64 = -62_135_596_800_000;
        let last = jiff::Timestamp::MAX;
        let time = jiff::Timestamp::from_millisecond(self.0.clamp(FIRST, last.as_millisecond())).unwrap_or(last);
        format!("{time:.3}")
    }
}

impl From<jiff::Timestamp> for At {
    fn from(time: jiff::Timestamp) -> At {
        At(time.as_millisecond())
    }
}

/// A fact. The order of the variants is their form on the disk.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A call whose repeat is not harmless is next.
    Intent {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// When.
        at: At,
    },
    /// A call was answered.
    Answered {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// The answer; `None` on the disk if it is sealed beside the entry.
        answer: Option<Answer>,
        /// When.
        at: At,
    },
    /// An attempt failed.
    Failed {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// How.
        kind: FailureKind,
        /// Why.
        reason: Reason,
        /// When.
        at: At,
        /// The next attempt is not made before this.
        not_before: At,
    },
    /// A doubt was settled by a read-back: it had been done, or it had not. Also written when an
    /// intended call was certainly not made.
    Settled {
        /// Target index.
        target: u16,
        /// The step in doubt.
        step: Step,
        /// True where the read-back shows that it was done.
        done: bool,
        /// When.
        at: At,
    },
    /// A person must give something.
    Asked {
        /// Target index.
        target: u16,
        /// What.
        kind: InputKind,
        /// When.
        at: At,
    },
    /// The publisher sent the whole job again.
    Continued {
        /// When.
        at: At,
    },
    /// A target ended.
    Ended {
        /// Target index.
        target: u16,
        /// How.
        end: TargetEnd,
        /// When.
        at: At,
    },
    /// A failed job goes on as a new run: what was done stays done, what failed is open again.
    NewRun {
        /// When.
        at: At,
    },
    /// The publisher's message came again, sent again or only delivered again: proofs that were
    /// refused are tried anew, but nobody is sent a new code.
    OfferedAgain {
        /// When.
        at: At,
    },
    /// An operator asks for the erasure, which waits for another's approval from here on.
    ApprovalNeeded {
        /// Who asks.
        by: String,
        /// When.
        at: At,
    },
    /// What was found so far may be erased.
    Approved {
        /// Who says so.
        by: String,
        /// When.
        at: At,
    },
    /// Nothing is to be erased.
    Rejected {
        /// Who says so.
        by: String,
        /// When.
        at: At,
    },
    /// The job may destroy, as far as the ceilings are concerned.
    LetThrough {
        /// It is counted, in the hour of this time; otherwise an operator released it.
        counted: bool,
        /// When.
        at: At,
    },
    /// What came of a step's calls speaks of the system, or may do so: no attempt is spent on it.
    Excused {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// True where the system works for others: one attempt is given back, the time goes on. Else
        /// the step begins anew.
        works: bool,
        /// When.
        at: At,
        /// The next attempt is not made before this.
        not_before: At,
    },
}

impl Entry {
    /// The target that it speaks of; `None` for the whole job.
    pub const fn target(&self) -> Option<u16> {
        match self {
            Entry::Intent { target, .. }
            | Entry::Answered { target, .. }
            | Entry::Failed { target, .. }
            | Entry::Settled { target, .. }
            | Entry::Asked { target, .. }
            | Entry::Excused { target, .. }
            | Entry::Ended { target, .. } => Some(*target),
            Entry::Continued { .. }
            | Entry::NewRun { .. }
            | Entry::OfferedAgain { .. }
            | Entry::ApprovalNeeded { .. }
            | Entry::Approved { .. }
            | Entry::Rejected { .. }
            | Entry::LetThrough { .. } => None,
        }
    }
}

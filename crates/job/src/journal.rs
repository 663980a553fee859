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

/// A fact about a job. The order of entries matters.
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
        /// The time.
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
        /// The time.
        at: At,
    },
    /// An attempt failed.
    Failed {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// The kind of the failure.
        kind: FailureKind,
        /// The reason.
        reason: Reason,
        /// The time.
        at: At,
        /// The next attempt is not made before this.
        not_before: At,
    },
    /// A read-back settled a doubt: the call had taken effect, or it had not. Also written if an intended call was
    /// certainly not made.
    Settled {
        /// Target index.
        target: u16,
        /// The step in doubt.
        step: Step,
        /// True if the read-back shows that it was done.
        done: bool,
        /// The time.
        at: At,
    },
    /// A person must give an input.
    Asked {
        /// Target index.
        target: u16,
        /// The input.
        kind: InputKind,
        /// The time.
        at: At,
    },
    /// A continuation: the publisher sent the whole job again.
    Continued {
        /// The time.
        at: At,
    },
    /// A target ended.
    Ended {
        /// Target index.
        target: u16,
        /// The end.
        end: TargetEnd,
        /// The time.
        at: At,
    },
    /// A failed job continues as a new run: done steps stay done, failed ones are open again.
    NewRun {
        /// The time.
        at: At,
    },
    /// The publisher's message arrived again, sent again or only redelivered: refused proofs are tried again, but no
    /// new code is sent.
    OfferedAgain {
        /// The time.
        at: At,
    },
    /// An operator requests the erasure, which waits for another operator's approval from now on.
    ApprovalNeeded {
        /// The requester.
        by: String,
        /// The time.
        at: At,
    },
    /// The findings up to now may be erased.
    Approved {
        /// The operator.
        by: String,
        /// The time.
        at: At,
    },
    /// The erasure is rejected.
    Rejected {
        /// The operator.
        by: String,
        /// The time.
        at: At,
    },
    /// The ceilings let the job through.
    LetThrough {
        /// It is counted, in the hour of this time; otherwise an operator released it.
        counted: bool,
        /// The time.
        at: At,
    },
    /// The results of a step's calls concern the system, or may concern it: they spend no attempt.
    Excused {
        /// Target index.
        target: u16,
        /// The step.
        step: Step,
        /// True if the system works for others: one attempt is given back, and the step's time continues. Otherwise
        /// the step begins again.
        works: bool,
        /// The time.
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

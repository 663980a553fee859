//! What of a job must not go back when another worker takes it, with a store of its own.
//!
//! The rule it keeps: of two accounts of a job, the one that is further on holds; adopting changes
//! nothing that is already known, and the order in which accounts are adopted makes no difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::due::Deadline;
use super::journal::At;
use super::wait::Standstill;

/// What must not go back, whichever worker takes the job next, with whatever store: each copy that the
/// worker publishes carries it, and a worker that takes a copy adopts it before it decides anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lasting {
    /// The targets that a destructive intent was written for.
    pub touched: BTreeSet<u16>,
    /// The targets at which something was changed, or may have been.
    pub changed: BTreeSet<u16>,
    /// The one-time passwords that were sent, by target.
    pub codes: BTreeMap<u16, Codes>,
    /// When a cancellation was refused.
    pub cancel_refused: Option<At>,
    /// When the job was counted against its ceilings.
    pub counted: Option<At>,
    /// What was told last of the term, and in which run.
    pub told: Option<(u32, Deadline)>,
}

impl Lasting {
    /// Takes on whatever of another worker's is further on.
    pub fn adopt(&mut self, other: &Lasting) {
        self.touched.extend(&other.touched);
        self.changed.extend(&other.changed);
        for (target, codes) in &other.codes {
            let known = self.codes.entry(*target).or_insert_with(|| codes.clone());
            // Of one number, a code that was sent is further on than one that is about to be.
            if (codes.count, codes.by.is_none()) > (known.count, known.by.is_none()) {
                known.clone_from(codes);
            }
        }
        self.cancel_refused = self.cancel_refused.max(other.cancel_refused);
        // Where two have counted it, the earlier count is over earlier.
        self.counted = self.counted.max(other.counted);
        self.told = self.told.max(other.told);
    }
}

/// The one-time passwords that were sent for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codes {
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub at: At,
    /// The process that is about to send the last one, and alone may; `None` once it was sent.
    pub by: Option<String>,
}

/// When a job was last delivered to this worker. It tells nothing of one that may be another's now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// During which of this worker's terms as the active one.
    pub term: u64,
    /// When.
    pub at: At,
    /// Another worker may have changed something of which no copy that came here tells.
    pub elsewhere: bool,
}

/// What a copy carries: the number of the job's last event, and what else must not go back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carried {
    /// The number of the job's last event.
    pub seq: u32,
    /// What else.
    pub lasting: Lasting,
    /// How long it has stood still, and what was told of that.
    pub stands: Standstill,
}

impl Carried {
    /// Takes on whatever of another account is further on.
    pub fn adopt(&mut self, other: &Carried) {
        self.seq = self.seq.max(other.seq);
        self.lasting.adopt(&other.lasting);
        self.stands.adopt(&other.stands);
    }
}

//! The parts of a job that must not go back when another worker, with its own store, gets the job.
//!
//! The rule it keeps: of two records of a job, the newer knowledge counts. Adopting changes nothing that is already
//! known, and the order of adoptions makes no difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::due::Deadline;
use super::journal::At;
use super::wait::Standstill;

/// The parts of a job that must not go back. Each published copy carries them, and a worker that gets a copy adopts
/// them before it decides anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lasting {
    /// The targets for which a destructive intent was written.
    pub touched: BTreeSet<u16>,
    /// The targets at which something was changed, or may have been.
    pub changed: BTreeSet<u16>,
    /// The one-time passwords that were sent, by target.
    pub codes: BTreeMap<u16, Codes>,
    /// The time at which a cancellation was refused.
    pub cancel_refused: Option<At>,
    /// The time at which the job was counted against its ceilings.
    pub counted: Option<At>,
    /// The last event about the due time, with its run.
    #[serde(rename = "told")]
    pub reported: Option<(u32, Deadline)>,
}

impl Lasting {
    /// Adopts another worker's newer knowledge.
    pub fn adopt(&mut self, other: &Lasting) {
        self.touched.extend(&other.touched);
        self.changed.extend(&other.changed);
        for (target, codes) in &other.codes {
            let known = self.codes.entry(*target).or_insert_with(|| codes.clone());
            // Of the same number, a sent code is newer than an announced one.
            if (codes.count, codes.by.is_none()) > (known.count, known.by.is_none()) {
                known.clone_from(codes);
            }
        }
        self.cancel_refused = self.cancel_refused.max(other.cancel_refused);
        // Of two counts, the earlier one leaves the hour first.
        self.counted = self.counted.max(other.counted);
        self.reported = self.reported.max(other.reported);
    }
}

/// The one-time passwords that were sent for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codes {
    /// The number.
    pub count: u32,
    /// The time of the last one.
    pub at: At,
    /// The process that announced the last one, and alone may send it; `None` after it was sent.
    pub by: Option<String>,
}

/// The last delivery of a job to this worker. Another worker may have had the job since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// This worker's term at that time.
    pub term: u64,
    /// The time.
    pub at: At,
    /// True if another worker may have made a change that no copy here carries.
    pub elsewhere: bool,
}

/// The content that a copy carries: the number of the job's last event, and the parts that must not go back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carried {
    /// The number of the job's last event.
    pub seq: u32,
    /// The parts that must not go back.
    pub lasting: Lasting,
    /// The standstill, and the reports about it.
    pub stands: Standstill,
}

impl Carried {
    /// Adopts newer knowledge of another record.
    pub fn adopt(&mut self, other: &Carried) {
        self.seq = self.seq.max(other.seq);
        self.lasting.adopt(&other.lasting);
        self.stands.adopt(&other.stands);
    }
}

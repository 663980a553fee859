//! Counters for metrics: plain numbers, without labels of tenants, jobs or people.
//!
//! The rule it keeps: counting never fails and never waits.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters from the process's start.
#[derive(Debug, Default)]
pub struct Figures {
    /// Deliveries taken.
    pub deliveries: AtomicU64,
    /// Messages refused (dead-lettered without becoming a job).
    pub rejected: AtomicU64,
    /// Messages and cancellations whose sender has no right to them; the label family `unauthorised` names the cause.
    pub unauthorised: AtomicU64,
    /// Copies of a job acked without a call because a newer one exists.
    pub stale: AtomicU64,
    /// Older copies that were worked on because the newest one was gone.
    pub older_used: AtomicU64,
    /// New control streams that were found in the place of the old one, and read from the first message.
    pub control_replaced: AtomicU64,
    /// Messages sent as cancellations that cannot be read and became dead letters.
    pub cancels_unreadable: AtomicU64,
    /// Final events repeated for a publisher.
    pub repeated: AtomicU64,
    /// Events published and confirmed.
    pub events: AtomicU64,
    /// Dead letters published and confirmed.
    pub dead_letters: AtomicU64,
    /// Publishes that had to be repeated.
    pub publish_retries: AtomicU64,
    /// Failed attempts at steps.
    pub failed_attempts: AtomicU64,
    /// Runs that lost their delivery.
    pub lost: AtomicU64,
    /// Jobs opened again after a crash, with at least one intent in doubt.
    pub doubts: AtomicU64,
    labelled: Mutex<BTreeMap<(&'static str, String, &'static str), u64>>,
}

impl Figures {
    /// Adds one.
    pub fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one to a family with a system (or nothing) and a word.
    pub fn label(&self, family: &'static str, system: &str, word: &'static str) {
        if let Ok(mut map) = self.labelled.lock() {
            *map.entry((family, system.to_owned(), word)).or_default() += 1;
        }
    }

    /// The labelled counts.
    pub fn labelled(&self) -> Vec<(&'static str, String, &'static str, u64)> {
        let Ok(map) = self.labelled.lock() else { return Vec::new() };
        map.iter().map(|((family, system, word), count)| (*family, system.clone(), *word, *count)).collect()
    }
}

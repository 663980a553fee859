//! Links that end repeatedly before a delivery is settled: a message is then the cause.
//!
//! The rule it keeps: this is noticed, logged, and narrowed down to one message. No message is dropped for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::Ailment;
use crate::broker::topology::Topology;

/// The number of such links in a row.
const MANY: u32 = 3;
/// A link that lived longer did not end at its first delivery.
const AT_ONCE: Duration = Duration::from_secs(20);
/// The number of deliveries to settle one at a time before the full prefetch is used again.
const CALM: u64 = 64;

/// The state.
#[derive(Debug, Default)]
pub(super) struct Losses {
    in_a_row: AtomicU32,
    count: AtomicU64,
    settled: AtomicU64,
    is_narrow: AtomicBool,
    /// The number of settled deliveries at the beginning of the narrow time.
    since: AtomicU64,
    /// When jobs were first requested over the present link.
    asked: Mutex<Option<Instant>>,
}

impl Losses {
    /// A delivery was settled: work continues.
    pub(super) fn settled(&self) {
        let settled = self.settled.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_a_row.store(0, Ordering::Relaxed);
        if self.is_narrow.load(Ordering::Relaxed) && settled >= self.since.load(Ordering::Relaxed) + CALM {
            self.is_narrow.store(false, Ordering::Relaxed);
        }
    }

    /// The number of settled deliveries.
    pub(super) fn so_far(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// The number of links that ended before a delivery was settled.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// True while deliveries are taken one at a time.
    pub(super) fn is_narrow(&self) -> bool {
        self.is_narrow.load(Ordering::Relaxed)
    }

    /// Jobs are requested over the present link.
    pub(super) fn asked(&self) {
        self.first_asked().get_or_insert_with(Instant::now);
    }

    /// The time since jobs were requested over the present link.
    pub(super) fn lived(&self) -> Option<Duration> {
        self.first_asked().as_ref().map(Instant::elapsed)
    }

    fn first_asked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the end of a link. `lived`: the time since jobs were requested; `settled`: the count at its beginning.
    pub(super) fn ended(&self, settled: u64, lived: Option<Duration>, topology: &Topology) {
        *self.first_asked() = None;
        let Some(lived) = lived.filter(|_| self.so_far() == settled) else { return };
        self.count.fetch_add(1, Ordering::Relaxed);
        if lived > AT_ONCE {
            self.in_a_row.store(0, Ordering::Relaxed);
            return;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if in_a_row >= MANY {
            self.since.store(self.so_far(), Ordering::Relaxed);
            self.is_narrow.store(true, Ordering::Relaxed);
            // At once, then less and less often.
            if in_a_row.is_multiple_of(MANY) && (in_a_row / MANY).is_power_of_two() {
                tracing::error!(links = in_a_row, "{}", links_lost(topology));
            }
        }
    }

    /// The report while it lasts: until a delivery is settled, or the present link has lived for long enough. `lived`:
    /// the time since jobs were requested over it.
    pub(super) fn ailment(&self, lived: Option<Duration>, topology: &Topology) -> Option<Ailment> {
        let is_many = self.in_a_row.load(Ordering::Relaxed) >= MANY;
        let is_calm = lived.is_some_and(|lived| lived > AT_ONCE);
        (is_many && !is_calm).then(|| Ailment { what: "links_lost_idle", detail: links_lost(topology) })
    }
}

fn links_lost(topology: &Topology) -> String {
    let jobs = topology.name("jobs");
    format!(
        "the link to the broker ends each time before a delivery is settled: a message in {jobs} cannot be delivered \
         over AMQP 0-9-1. One at a time is taken now. Way out: a policy with a delivery-limit on {jobs} for some \
         minutes, so that the broker dead-letters it (docs/runbook.md, \"Links lost before anything is settled\")"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(losses: &Losses, times: u32) {
        for _ in 0..times {
            losses.ended(losses.so_far(), Some(Duration::from_secs(1)), &Topology::new("p"));
        }
    }

    #[test]
    fn several_links_in_a_row_that_settle_nothing_are_logged_and_one_delivery_is_taken_at_a_time() {
        let losses = Losses::default();
        ends(&losses, 2);
        assert_eq!((losses.ailment(None, &Topology::new("p")), losses.is_narrow()), (None, false));
        ends(&losses, 1);
        assert!(losses.ailment(None, &Topology::new("p")).is_some() && losses.is_narrow());
        assert!(losses.ailment(None, &Topology::new("p")).unwrap().detail.contains("p.jobs"));
        // The message may be gone, and no other one may come for a long time.
        assert!(losses.ailment(Some(AT_ONCE), &Topology::new("p")).is_some());
        assert_eq!(losses.ailment(Some(AT_ONCE * 2), &Topology::new("p")), None);
        losses.settled();
        assert_eq!((losses.ailment(None, &Topology::new("p")), losses.is_narrow()), (None, true));
        (0..CALM).for_each(|_| losses.settled());
        assert!(!losses.is_narrow());
        assert_eq!(losses.count(), 3);
    }

    #[test]
    fn a_link_that_lived_or_settled_something_or_took_no_jobs_is_none_of_these() {
        let losses = Losses::default();
        for _ in 0..10 {
            ends(&losses, 2);
            losses.ended(losses.so_far(), Some(Duration::from_secs(60)), &Topology::new("p"));
            ends(&losses, 2);
            losses.settled();
            losses.ended(losses.so_far() - 1, Some(Duration::from_secs(1)), &Topology::new("p"));
            losses.ended(losses.so_far(), None, &Topology::new("p"));
        }
        assert_eq!((losses.ailment(None, &Topology::new("p")), losses.is_narrow()), (None, false));
    }
}

//! Whether this worker is the active one, as far as it can know.
//!
//! The rule it keeps: this worker publishes nothing on its own about a job that another worker may have. The broker
//! does not say which worker is active, but a delivery does. A term begins with the first delivery on a channel, and
//! ends with the channel or when intake stops.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::job::{At, JobRecord};

/// A copy that is later than this was delivered to another worker.
const LATE: std::time::Duration = std::time::Duration::from_secs(60);

/// The present term, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Terms(Mutex<Option<Term>>);

#[derive(Debug)]
struct Term {
    /// Random, because the store also holds terms of other processes.
    id: u64,
    epoch: u64,
    lost: CancellationToken,
}

impl Terms {
    /// True if a delivery of this channel begins a term: another worker may have been the active one before it.
    pub(crate) fn is_new(&self, epoch: u64) -> bool {
        !self.lock().as_ref().is_some_and(|term| term.epoch == epoch && !term.lost.is_cancelled())
    }

    /// This worker is the active one.
    pub(crate) fn begin(&self, epoch: u64, lost: &CancellationToken) {
        let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
        *self.lock() = Some(Term { id, epoch, lost: lost.clone() });
    }

    /// Ends the term: intake stops, and the broker may deliver to another worker.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// The present term; 0 if there is none.
    pub(crate) fn current(&self) -> u64 {
        self.lock().as_ref().filter(|term| !term.lost.is_cancelled()).map_or(0, |term| term.id)
    }

    /// True if the job is this worker's: it was delivered here in this term, and its copy is not late.
    pub(crate) fn has(&self, record: &JobRecord, now: At) -> bool {
        let is_due_back = record.waiting.is_none_or(|(_, until)| now <= until.plus(LATE));
        let current = self.current();
        current != 0 && record.seen.term == current && is_due_back
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Term>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Whether this worker is the one that works, as far as it can know.
//!
//! The rule it keeps: of a job that another worker may have by now, this one tells nothing of its own
//! accord. The broker does not say whom it delivers to; what is delivered does. A term begins with the first
//! delivery on a channel and ends with the channel, or where intake is stopped.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::job::{At, JobRecord};

/// A copy that lies on the broker is back this much later than it was to be, or it went elsewhere.
const LATE: std::time::Duration = std::time::Duration::from_secs(60);

/// The term that goes on, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Terms(Mutex<Option<Term>>);

#[derive(Debug)]
struct Term {
    /// Random, for terms of other processes stand in the store.
    id: u64,
    epoch: u64,
    lost: CancellationToken,
}

impl Terms {
    /// A delivery came: this worker is the active one. True where a term begins with it.
    pub(crate) fn delivered(&self, epoch: u64, lost: &CancellationToken) -> bool {
        let mut term = self.lock();
        let goes_on = |term: &Term| term.epoch == epoch && !term.lost.is_cancelled();
        let begins = !term.as_ref().is_some_and(goes_on);
        if begins {
            let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
            *term = Some(Term { id, epoch, lost: lost.clone() });
        }
        begins
    }

    /// Nothing is taken any more: the broker may turn to another worker.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// The term that goes on; 0 where none does.
    pub(crate) fn current(&self) -> u64 {
        self.lock().as_ref().filter(|term| !term.lost.is_cancelled()).map_or(0, |term| term.id)
    }

    /// True where the job is this worker's: it was delivered here during this term, and its copy is not
    /// overdue.
    pub(crate) fn has(&self, record: &JobRecord, now: At) -> bool {
        let is_due_back = record.waiting.is_none_or(|(_, until)| now <= until.plus(LATE));
        let current = self.current();
        current != 0 && record.seen.term == current && is_due_back
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Term>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

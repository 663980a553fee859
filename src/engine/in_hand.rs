//! A job in hand: the lock on it, its run, and the copy that brought it.
//!
//! The rule it keeps: one copy of a job is in hand at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::starts::Arrived;
use crate::broker::Properties;
use crate::job::{Job, JobKey};

/// The jobs in hand.
#[derive(Debug, Default)]
pub struct Hands {
    jobs: Mutex<HashMap<JobKey, CancellationToken>>,
    freed: Notify,
}

/// A job in hand; dropped, the next copy may be worked on.
pub struct Hand<'a> {
    hands: &'a Hands,
    key: JobKey,
    /// Cancelled when a cancellation for the job arrives.
    pub cancelled: CancellationToken,
}

impl Hands {
    /// Waits until no other copy of the job is in hand.
    pub async fn take(&self, key: &JobKey) -> Hand<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                if !jobs.contains_key(key) {
                    let cancelled = CancellationToken::new();
                    jobs.insert(key.clone(), cancelled.clone());
                    return Hand { hands: self, key: key.clone(), cancelled };
                }
            }
            freed.await;
        }
    }

    /// The same; `None` where the delivery is lost before.
    pub async fn take_unless_lost(&self, key: &JobKey, lost: &CancellationToken) -> Option<Hand<'_>> {
        tokio::select! {
            biased;
            hand = self.take(key) => Some(hand),
            () = lost.cancelled() => None,
        }
    }

    /// The job, where no copy of it is in hand.
    pub fn try_take(&self, key: &JobKey) -> Option<Hand<'_>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let cancelled = CancellationToken::new();
        let is_free = !jobs.contains_key(key);
        is_free.then(|| {
            jobs.insert(key.clone(), cancelled.clone());
            Hand { hands: self, key: key.clone(), cancelled }
        })
    }

    /// Tells the copy in hand, if there is one, of a cancellation.
    pub fn cancel(&self, key: &JobKey) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(key).inspect(|cancelled| cancelled.cancel()).is_some()
    }

    /// How many jobs are in hand.
    pub fn count(&self) -> usize {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True while a copy of the job is in hand.
    pub fn holds(&self, key: &JobKey) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.hands.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.hands.freed.notify_waiters();
    }
}

/// A job being worked on.
pub(crate) struct Run<'a> {
    pub job: &'a Job,
    pub journal: &'a Journal,
    /// The delivery's channel is gone.
    pub lost: &'a CancellationToken,
    /// A cancellation came.
    pub cancelled: &'a CancellationToken,
    /// Its delivery's arrival.
    pub arrived: &'a Arrived,
}

/// The copy of the job in hand, as its messages are made from it.
pub(super) struct Received<'a> {
    pub body: &'a [u8],
    pub properties: &'a Properties,
    pub traceparent: Option<&'a str>,
}

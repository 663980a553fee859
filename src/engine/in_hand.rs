//! A job in hand: its lock, its run, and the copy that was delivered.
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

/// The locks of the jobs in hand.
#[derive(Debug, Default)]
pub struct JobLocks {
    jobs: Mutex<HashMap<JobKey, CancellationToken>>,
    freed: Notify,
}

/// The lock of a job in hand. After its drop the next copy may be worked on.
pub struct JobLock<'a> {
    locks: &'a JobLocks,
    key: JobKey,
    /// Cancelled when a cancellation of the job arrives.
    pub cancelled: CancellationToken,
}

impl JobLocks {
    /// Locks the job; waits while another copy of it is in hand.
    pub async fn take(&self, key: &JobKey) -> JobLock<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                if !jobs.contains_key(key) {
                    let cancelled = CancellationToken::new();
                    jobs.insert(key.clone(), cancelled.clone());
                    return JobLock { locks: self, key: key.clone(), cancelled };
                }
            }
            freed.await;
        }
    }

    /// As `take`; `None` if the delivery is lost first.
    pub async fn take_unless_lost(&self, key: &JobKey, lost: &CancellationToken) -> Option<JobLock<'_>> {
        tokio::select! {
            biased;
            lock = self.take(key) => Some(lock),
            () = lost.cancelled() => None,
        }
    }

    /// Locks the job if no copy of it is in hand.
    pub fn try_take(&self, key: &JobKey) -> Option<JobLock<'_>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let cancelled = CancellationToken::new();
        let is_free = !jobs.contains_key(key);
        is_free.then(|| {
            jobs.insert(key.clone(), cancelled.clone());
            JobLock { locks: self, key: key.clone(), cancelled }
        })
    }

    /// Cancels the copy in hand, if there is one. True if there was one.
    pub fn cancel(&self, key: &JobKey) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(key).inspect(|cancelled| cancelled.cancel()).is_some()
    }

    /// The number of jobs in hand.
    pub fn count(&self) -> usize {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True while a copy of the job is in hand.
    pub fn holds(&self, key: &JobKey) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl Drop for JobLock<'_> {
    fn drop(&mut self) {
        self.locks.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.locks.freed.notify_waiters();
    }
}

/// A job being worked on.
pub(crate) struct Run<'a> {
    pub job: &'a Job,
    pub journal: &'a Journal,
    /// Cancelled when the delivery's channel is lost.
    pub lost: &'a CancellationToken,
    /// Cancelled when a cancellation of the job arrives.
    pub cancelled: &'a CancellationToken,
    /// The delivery's arrival.
    pub arrived: &'a Arrived,
}

/// The copy in hand: the messages about the job are made from it.
pub(super) struct Received<'a> {
    pub body: &'a [u8],
    pub properties: &'a Properties,
    pub traceparent: Option<&'a str>,
}

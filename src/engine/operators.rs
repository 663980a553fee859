//! The engine for operators: views of its work, and the few actions.
//!
//! The rule it keeps: nothing here opens a sealed answer or a body to show it. Every shown value is a count, a time,
//! a name from the configuration or a word of a closed list.
//!
//! Reads of the store block: async callers run them on a blocking thread.

mod dead_letters;
mod forecast;
mod listing;
mod pulse;
mod showing;
mod states;

pub use dead_letters::{
    Discard, Discarded, LetterError, LetterFilter, LetterPage, LetterView, MAX_LETTERS, Replayed, Swept,
};
pub use forecast::{Forecast, SystemForecast};
pub use listing::{JobFilter, JobPage, JobStatus, JobSummary, Survey, WaitShown, WaitView};
pub use pulse::{Heart, Pulse};
pub use showing::JobView;
pub use states::JobBrief;

use super::Engine;
use super::decisions::{DecisionError, Published, What};
use super::journal::{JournalError, ended_of, folded, record_of};
use crate::job::{JobKey, JobOutcome};
use crate::store::Batch;

/// The result of an operator's cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is stored, and takes effect at the job's next delivery, or at once if the job is in hand.
    Remembered {
        /// False if this store does not know the job (yet).
        known: bool,
        /// The workers that know the cancellation.
        published: Published,
    },
    /// The job was cancelled before.
    AlreadyCancelled,
    /// The job has ended with another outcome.
    Ended(JobOutcome),
    /// An irreversible step was begun.
    TooLate,
}

impl Engine {
    /// The heartbeats of the loops.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The number of jobs in hand.
    pub fn jobs_in_hand(&self) -> usize {
        self.job_locks.count()
    }

    /// True after the worker began to stop: it takes no new jobs.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ends a system's hold at every worker.
    ///
    /// # Errors
    /// The broker does not confirm it, or the store fails: the system stays held.
    pub async fn release_system_for_operator(&self, system: &str, by: &str) -> Result<(), DecisionError> {
        self.carry_out(&self.decided(by, "", What::ReleaseSystem { system: system.to_owned() })).await?;
        Ok(())
    }

    /// Cancels a job at every worker, if that is not too late. A job that this store does not know yet is cancelled
    /// at its first delivery.
    ///
    /// # Errors
    /// The store fails.
    pub async fn cancel_for_operator(&self, key: &JobKey, by: &str) -> Result<CancelAnswer, JournalError> {
        if let Some(ended) = ended_of(&*self.store, key)? {
            return Ok(match ended.outcome {
                JobOutcome::Cancelled => CancelAnswer::AlreadyCancelled,
                outcome => CancelAnswer::Ended(outcome),
            });
        }
        let record = record_of(&*self.store, key)?;
        if let Some(record) = &record
            && folded(&*self.store, key, record.systems.len())?.iter().any(|target| target.touched)
        {
            return Ok(CancelAnswer::TooLate);
        }
        let jobs = vec![key.clone()];
        let mut batch = Batch::new();
        // The job may have ended meanwhile.
        if ended_of(&*self.store, key)?.is_none() {
            let decided = self.decided(by, "", What::Cancel { jobs: jobs.clone() });
            self.keep_done(&decided, &mut batch);
        }
        let open = self.take_cancels(&jobs, batch).await?;
        if !open.contains(&true) {
            return Ok(CancelAnswer::TooLate);
        }
        Ok(CancelAnswer::Remembered { known: record.is_some(), published: self.publish_decisions().await })
    }
}

//! What operators may see of the engine's work, and the few things that they may do to it.
//!
//! The rule it keeps: nothing here opens a sealed answer or a body for showing: what is told is a
//! count, a time, a name from the configuration or a word of a closed list.
//!
//! Reads of the store block for as long as they take: async callers hand them to a blocking thread.

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
use super::decisions::{DecisionError, Told, What};
use super::journal::{JournalError, ended_of, folded, record_of};
use crate::job::{JobKey, JobOutcome};
use crate::store::Batch;

/// What became of an operator's cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is remembered and takes effect at the job's next delivery, or at once where it is in hand.
    Remembered {
        /// False where this store does not know the job (yet).
        known: bool,
        /// Whether other workers know it.
        told: Told,
    },
    /// The job was cancelled before.
    AlreadyCancelled,
    /// The job has ended otherwise.
    Ended(JobOutcome),
    /// Something that cannot be taken back was begun.
    TooLate,
}

impl Engine {
    /// The heartbeats of the loops.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// How many jobs are in hand.
    pub fn jobs_in_hand(&self) -> usize {
        self.hands.count()
    }

    /// True once no new jobs are taken because the worker stops.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ends a system's hold at every worker.
    ///
    /// # Errors
    /// Where the broker does not take it or the store fails; then it stays held.
    pub async fn release_system_for_operator(&self, system: &str, by: &str) -> Result<(), DecisionError> {
        self.carry_out(&self.decided(by, "", What::ReleaseSystem { system: system.to_owned() })).await?;
        Ok(())
    }

    /// Cancels a job, here and at every other worker, unless that could no longer keep it from harm. A
    /// job that this store does not know yet is cancelled when it comes.
    ///
    /// # Errors
    /// Where the store fails.
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
        // It may have ended in between.
        if ended_of(&*self.store, key)?.is_none() {
            let decided = self.decided(by, "", What::Cancel { jobs: jobs.clone() });
            self.keep_done(&decided, &mut batch);
        }
        let open = self.take_cancels(&jobs, batch).await?;
        if !open.contains(&true) {
            return Ok(CancelAnswer::TooLate);
        }
        Ok(CancelAnswer::Remembered { known: record.is_some(), told: self.tell_everywhere().await })
    }
}

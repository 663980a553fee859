//! The states of many jobs, in short.
//!
//! The rule it keeps: a target's outcome is read from the final event, never guessed.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::listing::{JobStatus, JobSummary};
use crate::engine::Engine;
use crate::engine::journal::{JournalError, ended_of, record_of};
use crate::job::{Ended, JobKey};

/// A job's state, in short.
#[derive(Debug, Clone, Serialize)]
pub struct JobBrief {
    /// The job's id.
    pub job_id: Uuid,
    /// The status.
    pub state: JobStatus,
    /// The outcome of its targets, if all have the same: `erased`, `anonymised`, `absent`…
    pub target_outcome: Option<String>,
    /// The code of a failed job.
    pub code: Option<&'static str>,
}

impl Engine {
    /// The states of a tenant's jobs; jobs that this store does not know are left out.
    ///
    /// # Errors
    /// The store fails, or a record cannot be decoded.
    pub fn states(&self, tenant: &str, ids: &[Uuid]) -> Result<Vec<JobBrief>, JournalError> {
        let mut states = Vec::with_capacity(ids.len());
        for job_id in ids {
            let key = JobKey { tenant: tenant.to_owned(), job_id: *job_id };
            let ended = ended_of(&*self.store, &key)?;
            let record = if ended.is_none() { record_of(&*self.store, &key)? } else { None };
            if ended.is_none() && record.is_none() {
                continue;
            }
            let state = JobSummary::new(&key, record.as_ref(), ended.as_ref(), self.job_locks.holds(&key)).state;
            states.push(JobBrief {
                job_id: *job_id,
                state,
                target_outcome: ended.as_ref().and_then(target_outcome),
                code: ended.and_then(|ended| ended.dead_letter).map(|note| note.reason.code()),
            });
        }
        Ok(states)
    }
}

fn target_outcome(ended: &Ended) -> Option<String> {
    let event: Value = serde_json::from_slice(&ended.event.body).ok()?;
    let targets = event.pointer("/data/targets")?.as_array()?;
    let mut outcomes = targets.iter().filter_map(|target| target.get("outcome")?.as_str());
    let first = outcomes.next()?;
    outcomes.all(|outcome| outcome == first).then(|| first.to_owned())
}

//! The meaning of a job's copy, from the store's knowledge: a new job, the same copy again, a continuation, a new
//! run, a stale copy, an ended job, or another identity.
//!
//! The rule it keeps: park numbers order the copies, and only the newest copy is worked on. The knowledge that a copy
//! carries is adopted before that decision.

use super::Engine;
use super::adoption::is_further_on;
use super::envelope::{Origin, Unsealed};
use super::journal::{BODY, IDENTITY, Journal, JournalError, ended_of, entries_of, forget_checkpoints, record_of};
use crate::job::wait::Waiting;
use crate::job::{At, Ended, Entry, Job, JobOutcome, JobRecord, Lasting, Mode, Seen, Standstill};
use crate::store::{Batch, Table};

/// The meaning of a copy.
pub enum Opened {
    /// The job must be worked on.
    Work(Box<Journal>),
    /// A newer copy exists. New knowledge from this copy must be durable before the ack.
    Stale(Option<Box<Journal>>),
    /// The job ended.
    Ended(Box<Ended>),
    /// Another worker ended the job after this copy was made.
    EndedElsewhere,
    /// The job id belongs to another identity.
    Conflict,
}

impl Engine {
    /// Decides the meaning of a copy. Nothing is durable yet when this returns.
    pub(crate) fn open(&self, job: &Job, unsealed: &Unsealed, redelivered: bool) -> Result<Opened, JournalError> {
        let identity = job.identity_bytes();
        let same = |stored: &[u8]| self.keyring.matches_digest(IDENTITY, &identity, stored).unwrap_or(true);
        let same_body = |stored: &[u8]| self.keyring.matches_digest(BODY, &unsealed.body, stored) == Some(true);
        let record = self.readable_record(job)?;
        if let Some(ended) = ended_of(&*self.store, &job.key)? {
            if !same(&ended.identity) {
                return Ok(Opened::Conflict);
            }
            let again = match &unsealed.origin {
                Origin::Publisher => {
                    // A redelivered message does not start a second run after the run that it started has failed. It
                    // still does if it was requeued before any work began.
                    let opened = |record: &JobRecord| {
                        self.keyring.matches_digest(BODY, &unsealed.body, &record.body) == Some(true)
                    };
                    let is_done = redelivered && record.as_ref().is_none_or(opened);
                    job.retry && ended.outcome == JobOutcome::Failed && ended.published && !is_done
                }
                Origin::Ours { run, .. } => *run > ended.run && ended.outcome == JobOutcome::Failed,
            };
            if !again {
                return self.ended_before(job, unsealed, ended);
            }
            if let Some(record) = &record
                && is_too_late_to_preview(job, unsealed, &self.load(job, record.clone())?)
            {
                return Ok(Opened::Conflict);
            }
            return self.new_run(job, unsealed, record, &ended).map(|journal| Opened::Work(Box::new(journal)));
        }
        if self.ended_elsewhere(&job.key, unsealed)? {
            return Ok(Opened::EndedElsewhere);
        }
        let Some(record) = record else {
            let journal = self.accept(job, unsealed)?;
            self.adopt(job, &journal, unsealed)?;
            if redelivered || unsealed.origin != Origin::Publisher {
                journal.note_elsewhere();
            }
            return Ok(Opened::Work(Box::new(journal)));
        };
        if !same(&record.identity) {
            return Ok(Opened::Conflict);
        }
        let number = match &unsealed.origin {
            Origin::Ours { run, park, .. } if *run == record.run => Some(*park),
            Origin::Ours { run, .. } if *run < record.run => return self.stale(job, record, unsealed),
            Origin::Ours { .. } => None,
            Origin::Publisher => (redelivered && same_body(&record.body)).then_some(record.copy),
        };
        let is_passed = number.is_some_and(|number| number < record.park_confirmed);
        if is_passed && unsealed.origin != Origin::Publisher {
            return self.stale(job, record, unsealed);
        }
        let waits_for_input = matches!(record.waiting, Some((Waiting::Input, _)));
        // A person ended such a wait, and may have changed data that was read before it.
        let was_stopped = matches!(record.waiting, Some((Waiting::Held | Waiting::Paused | Waiting::Guard, _)));
        // Between two deliveries another worker may have had the job; it certainly had if it parked this copy.
        let by_another = number.is_some_and(|number| number > record.park_written);
        let was_above = matches!(record.waiting, Some((Waiting::Guard, _)));
        let journal = self.load(job, record)?;
        let is_new = self.adopt(job, &journal, unsealed)?;
        if was_above {
            journal.note_above();
        }
        if number.is_none() && is_too_late_to_preview(job, unsealed, &journal) {
            return Ok(Opened::Conflict);
        }
        if by_another || is_new {
            journal.note_elsewhere();
        }
        if by_another || is_new || redelivered || was_stopped {
            journal.distrust_reads();
        }
        if number.is_none() {
            self.continued(job, &journal, unsealed, |at| Entry::Continued { at })?;
        } else if is_passed {
            // Identical bytes are either the parked message, redelivered, or the publisher's answer, delivered before
            // a stop and not worked on. The two cannot be distinguished, and an answer must not be lost.
            let refused = journal.with(|state| state.targets.iter().any(crate::job::TargetState::has_refused_proof));
            if !waits_for_input || !refused {
                return Ok(Opened::Stale(None));
            }
            self.continued(job, &journal, unsealed, |at| Entry::OfferedAgain { at })?;
        }
        Ok(Opened::Work(Box::new(journal)))
    }

    /// An older copy. It may still carry knowledge that this store lacks.
    fn stale(&self, job: &Job, record: JobRecord, unsealed: &Unsealed) -> Result<Opened, JournalError> {
        if !is_further_on(unsealed, &record) {
            return Ok(Opened::Stale(None));
        }
        let journal = self.load(job, record)?;
        self.adopt(job, &journal, unsealed)?;
        Ok(Opened::Stale(Some(Box::new(journal))))
    }

    /// An older copy without a newer one: it is worked on like the newest copy.
    pub(crate) fn open_older(
        &self,
        job: &Job,
        unsealed: &Unsealed,
        record: JobRecord,
    ) -> Result<Journal, JournalError> {
        let journal = self.load(job, record)?;
        self.adopt(job, &journal, unsealed)?;
        journal.distrust_reads();
        Ok(journal)
    }

    /// A copy of an ended job. Another worker may have published more events about the job.
    fn ended_before(&self, job: &Job, unsealed: &Unsealed, mut ended: Ended) -> Result<Opened, JournalError> {
        if let Origin::Ours { carried, .. } = &unsealed.origin
            && carried.seq > ended.seq
        {
            ended.seq = carried.seq;
            let mut batch = Batch::new();
            batch.put(Table::Ended, job.key.to_bytes(), ended.to_bytes());
            drop(self.store.submit(batch));
        }
        Ok(Opened::Ended(Box::new(ended)))
    }

    fn load(&self, job: &Job, mut record: JobRecord) -> Result<Journal, JournalError> {
        let (term, at) = (self.terms.current(), self.now());
        // True if another worker may have been active since this worker last had the job.
        let elsewhere = record.seen.elsewhere || term == 0 || record.seen.term != term;
        record.seen = Seen { term, at, elsewhere };
        self.watch_again(&job.key, &record)?;
        let journal = Journal::load(&*self.store, job.key.clone(), self.sealer(job), record, job.targets.len())?;
        if journal.with(|state| state.targets.iter().any(crate::job::TargetState::has_doubt)) {
            self.figures.count(&self.figures.doubts);
        }
        Ok(journal)
    }

    /// Reads the job's record. An undecodable record is forgotten together with its journal: read-backs then show
    /// which steps are done. A requeue instead would repeat without end.
    fn readable_record(&self, job: &Job) -> Result<Option<JobRecord>, JournalError> {
        let readable = record_of(&*self.store, &job.key).and_then(|record| {
            if record.is_some() {
                entries_of(&*self.store, &job.key)?;
            }
            Ok(record)
        });
        match readable {
            Err(JournalError::Undecodable(error)) => {
                tracing::error!(%error, "a job's records cannot be decoded and are forgotten; read-backs decide");
                let mut batch = Batch::new();
                forget_checkpoints(&*self.store, &job.key, &mut batch)?;
                drop(self.store.submit(batch));
                Ok(None)
            }
            other => other,
        }
    }

    fn sealer(&self, job: &Job) -> crate::seal::JobSecret {
        self.keyring.job_secret(&job.key.tenant, &job.key.job_id.to_string(), &job.identity_bytes())
    }

    /// Accepts a job that the store does not know. The same write records whether a ceiling holds it.
    fn accept(&self, job: &Job, unsealed: &Unsealed) -> Result<Journal, JournalError> {
        let mut turn = self.ceilings.lock(&*self.store)?;
        let mut batch = Batch::new();
        let verdict = turn.accept(job, unsealed, self.now(), &mut batch);
        self.note_above(&verdict);
        let counted = verdict.counted_at.map(|at| Entry::LetThrough { counted: true, at });
        let journal = self.new_job(job, unsealed, counted.into_iter().collect(), batch)?;
        if verdict.above.is_empty() && unsealed.wait.as_deref() == Some(Waiting::Guard.as_str()) {
            journal.note_above();
        }
        journal.note_counted(verdict.counted_at);
        Ok(journal)
    }

    fn new_job(
        &self,
        job: &Job,
        unsealed: &Unsealed,
        entries: Vec<Entry>,
        mut batch: Batch,
    ) -> Result<Journal, JournalError> {
        // The parked copy of an unknown job: the store was lost. Its number orders the later copies.
        let (run, park) = match &unsealed.origin {
            Origin::Ours { run, park, .. } => (*run, *park),
            Origin::Publisher => (1, 0),
        };
        let identity = job.identity_bytes();
        let record = JobRecord {
            identity: self.keyring.digest(IDENTITY, &identity).to_vec(),
            run,
            seq: 0,
            body: self.keyring.digest(BODY, &unsealed.body).to_vec(),
            copy: park,
            park_written: park,
            park_confirmed: park,
            opened_at: self.now(),
            requested_at: job.requested_at.into(),
            due_at: job.due_at.map(At::from),
            regulation: job.regulation.clone(),
            systems: job.targets.iter().map(|target| target.system.clone()).collect(),
            subject_ref: self.keyring.pseudonym(&job.key.tenant, &[&identity]),
            waiting: None,
            announced: Vec::new(),
            owed: None,
            lasting: Lasting::default(),
            seen: Seen { term: self.terms.current(), at: self.now(), elsewhere: false },
            stands: Standstill::default(),
            waits_at: None,
        };
        self.watch_deadline(&mut batch, &job.key, record.due_at);
        let journal = Journal::new(job.key.clone(), self.sealer(job), record, job.targets.len());
        journal.write(&*self.store, entries, batch)?;
        Ok(journal)
    }

    /// A continuation: the publisher sent the whole job again, with more or newer proofs. It takes the next number,
    /// so that older copies are stale.
    fn continued(
        &self,
        job: &Job,
        journal: &Journal,
        unsealed: &Unsealed,
        entry: fn(At) -> Entry,
    ) -> Result<(), JournalError> {
        let at = self.now();
        let due_at = job.due_at.map(At::from);
        let mut batch = Batch::new();
        if journal.with(|state| state.record.due_at != due_at) {
            self.watch_deadline(&mut batch, &job.key, due_at);
        }
        let entry = journal.change_record(|record| {
            let (copy, entry) = match &unsealed.origin {
                Origin::Publisher => (record.park_written + 1, entry(at)),
                // Another worker began this later run: its park numbers count from now on.
                Origin::Ours { run, park, .. } => {
                    record.run = *run;
                    (*park, Entry::NewRun { at })
                }
            };
            record.body = self.keyring.digest(BODY, &unsealed.body).to_vec();
            record.due_at = due_at;
            record.copy = copy;
            record.park_written = copy;
            record.park_confirmed = copy;
            // The person has answered, so the job's next wait is a new one.
            if matches!(record.waiting, Some((Waiting::Input, _))) {
                record.stands.end(at);
            }
            record.waiting = None;
            record.announced.clear();
            entry
        });
        journal.write(&*self.store, vec![entry], batch)
    }

    /// A failed job continues from its checkpoints as a new run.
    fn new_run(
        &self,
        job: &Job,
        unsealed: &Unsealed,
        record: Option<JobRecord>,
        ended: &Ended,
    ) -> Result<Journal, JournalError> {
        let journal = match record {
            Some(record) => self.load(job, record)?,
            // The checkpoints were forgotten: read-backs show which steps are done.
            None => self.new_job(job, unsealed, Vec::new(), Batch::new())?,
        };
        self.adopt(job, &journal, unsealed)?;
        let park = match &unsealed.origin {
            Origin::Ours { park, .. } => *park.max(&(ended.park + 1)),
            Origin::Publisher => ended.park + 1,
        };
        journal.change_record(|record| {
            record.run = match &unsealed.origin {
                // Another worker may have seen more runs than this store.
                Origin::Ours { run, .. } => *run.max(&(ended.run + 1)),
                Origin::Publisher => ended.run + 1,
            };
            record.seq = record.seq.max(ended.seq);
            record.due_at = job.due_at.map(At::from);
            record.body = self.keyring.digest(BODY, &unsealed.body).to_vec();
            record.copy = park;
            record.park_written = park;
            // A redelivery of this copy must not count as stale, whatever its number.
            record.park_confirmed = match &unsealed.origin {
                Origin::Ours { park: number, .. } => *number.min(&park),
                Origin::Publisher => park,
            };
            record.waiting = None;
            record.announced.clear();
            record.owed = None;
        });
        let mut batch = Batch::new();
        batch.remove(Table::Ended, job.key.to_bytes());
        self.watch_deadline(&mut batch, &job.key, journal.with(|state| state.record.due_at));
        journal.write(&*self.store, vec![Entry::NewRun { at: self.now() }], batch)?;
        let run = journal.with(|state| state.record.run);
        tracing::info!(run, "a failed job continues as a new run");
        Ok(journal)
    }
}

/// An erasure that has begun cannot end as a preview.
fn is_too_late_to_preview(job: &Job, unsealed: &Unsealed, journal: &Journal) -> bool {
    let is_touched = || journal.with(|state| state.targets.iter().any(|target| target.touched));
    unsealed.origin == Origin::Publisher && job.mode == Mode::Preview && is_touched()
}

//! Operators' decisions about held jobs: a release or a discard.
//!
//! The rule it keeps: a decision is about all jobs that its scope held at its time, at every worker. A worker that
//! holds more jobs than the decision names publishes the others.

use super::{Lock, Scope};
use crate::engine::Engine;
use crate::engine::decisions::{Decided, DecisionError, MOST_JOBS, What};
use crate::engine::journal::{JournalError, ended_of, record_of};
use crate::job::{At, JobKey};
use crate::store::{Batch, StoreError, Ticket};

/// Makes one of the two decisions.
type AboutGuarded = fn(Scope, Option<At>, Vec<JobKey>) -> What;

/// The jobs of a decision, as read from the stream.
pub(crate) struct Guarded<'a> {
    /// The decision.
    pub decided: &'a Decided,
    /// The scope whose ceiling holds them.
    pub scope: &'a Scope,
    /// All jobs that were held at this time; `None`: only the named ones.
    pub until: Option<At>,
    /// The named jobs.
    pub named: &'a [JobKey],
}

impl Guarded<'_> {
    /// All jobs of the decision, and those of them that it does not name.
    fn meant(&self, lock: &mut Lock<'_>) -> (Vec<JobKey>, Vec<JobKey>) {
        let held = self.until.map_or_else(Vec::new, |until| lock.of(self.scope, until));
        let unnamed: Vec<JobKey> = held.into_iter().filter(|key| !self.named.contains(key)).collect();
        (self.named.iter().chain(&unnamed).cloned().collect(), unnamed)
    }
}

impl Engine {
    /// Releases all jobs that this scope holds, at every worker, unless another scope holds them too. It takes effect
    /// when a job is redelivered after its wait, within a quarter of an hour. Returns the number of jobs here.
    ///
    /// # Errors
    /// The broker does not confirm it, or the store failed: the jobs stay held.
    pub async fn release_guard(&self, scope: &Scope, by: &str) -> Result<usize, DecisionError> {
        self.decide_guarded(scope, by, |scope, until, jobs| What::ReleaseGuard { scope, until, jobs }).await
    }

    /// Publishes a decision about all that a scope holds, in as many messages as needed. The last message is for the
    /// jobs that only other workers know.
    async fn decide_guarded(&self, scope: &Scope, by: &str, what: AboutGuarded) -> Result<usize, DecisionError> {
        let until = self.now();
        let keys = self.ceilings.lock(&*self.store)?.of(scope, until);
        for portion in keys.chunks(MOST_JOBS) {
            self.carry_out(&self.decided(by, "", what(scope.clone(), None, portion.to_vec()))).await?;
        }
        self.carry_out(&self.decided(by, "", what(scope.clone(), Some(until), Vec::new()))).await?;
        Ok(keys.len())
    }

    /// Publishes the jobs that the decision does not name, for the other workers.
    fn publish_unnamed(&self, about: &Guarded<'_>, unnamed: &[JobKey], what: AboutGuarded, batch: &mut Batch) {
        let Decided { by, reason, .. } = about.decided;
        for portion in unnamed.chunks(MOST_JOBS) {
            let what = what(about.scope.clone(), None, portion.to_vec());
            self.keep_decision(&self.decided(by, reason, what), batch);
        }
    }

    /// Takes a release that was read from the stream. Returns the number of jobs released here.
    pub(crate) async fn take_guard_release(
        &self,
        about: &Guarded<'_>,
        mut batch: Batch,
    ) -> Result<usize, JournalError> {
        let now = self.now();
        let (keys, unnamed, noted) = {
            let mut lock = self.ceilings.lock(&*self.store)?;
            let (keys, unnamed) = about.meant(&mut lock);
            for key in &keys {
                if lock.held(key).is_some() {
                    lock.release(key, about.scope, &mut batch);
                } else if record_of(&*self.store, key)?.is_none() && ended_of(&*self.store, key)?.is_none() {
                    lock.release_unseen(key, about.scope, now, &mut batch);
                }
            }
            let what: AboutGuarded = |scope, until, jobs| What::ReleaseGuard { scope, until, jobs };
            self.publish_unnamed(about, &unnamed, what, &mut batch);
            (keys, unnamed, self.store.submit(batch))
        };
        self.let_go(&keys, noted, |lock, key| lock.release(key, about.scope, &mut Batch::new())).await?;
        if !unnamed.is_empty() {
            self.decisions_more();
        }
        Ok(keys.len())
    }

    /// Waits until the release of these jobs is durable. A job in hand may have read the disk too early, so `done` is
    /// applied to memory again. If the store refused the release, it is undone in memory.
    async fn let_go(
        &self,
        keys: &[JobKey],
        noted: Ticket,
        done: impl Fn(&mut Lock<'_>, &JobKey),
    ) -> Result<(), StoreError> {
        let noted = noted.await;
        let mut lock = self.ceilings.lock(&*self.store)?;
        for key in keys {
            match &noted {
                Ok(()) => done(&mut lock, key),
                Err(_) => lock.read_again(&*self.store, key)?,
            }
        }
        noted
    }

    /// Ends all jobs that this scope holds as cancelled, at every worker: no call was made for any of them. It takes
    /// effect when a job is redelivered after its wait, within a quarter of an hour. Returns the number of jobs here.
    ///
    /// # Errors
    /// The broker does not confirm it, or the store failed: the jobs stay held.
    pub async fn discard_guarded(&self, scope: &Scope, by: &str) -> Result<usize, DecisionError> {
        self.decide_guarded(scope, by, |scope, until, jobs| What::DiscardGuarded { scope, until, jobs }).await
    }

    /// Takes a discard that was read from the stream. Returns the number of jobs cancelled here.
    pub(crate) async fn take_guard_discard(
        &self,
        about: &Guarded<'_>,
        mut batch: Batch,
    ) -> Result<usize, JournalError> {
        let (keys, unnamed) = about.meant(&mut self.ceilings.lock(&*self.store)?);
        // The cancellations are written first: after a crash between the two writes the jobs are still held.
        for portion in keys.chunks(MOST_JOBS) {
            let is_open = |key: &&JobKey| ended_of(&*self.store, key).map(|ended| ended.is_none());
            let open = portion.iter().filter_map(|key| is_open(&key).map(|open| open.then(|| key.clone())).transpose());
            self.take_cancels(&open.collect::<Result<Vec<_>, _>>()?, Batch::new()).await?;
        }
        let noted = {
            let mut lock = self.ceilings.lock(&*self.store)?;
            for key in &keys {
                lock.forget(key, &mut batch);
            }
            let what: AboutGuarded = |scope, until, jobs| What::DiscardGuarded { scope, until, jobs };
            self.publish_unnamed(about, &unnamed, what, &mut batch);
            self.store.submit(batch)
        };
        self.let_go(&keys, noted, |lock, key| lock.forget(key, &mut Batch::new())).await?;
        if !unnamed.is_empty() {
            self.decisions_more();
        }
        Ok(keys.len())
    }
}

//! What an operator decides about jobs that a ceiling holds: a release, or a discard.
//!
//! The rule it keeps: a decision is about all that its scope held when it was given, at whichever worker; one
//! that holds more than the decision names publishes the others.

use super::{Lock, Scope};
use crate::engine::Engine;
use crate::engine::decisions::{Decided, DecisionError, MOST_JOBS, What};
use crate::engine::journal::{JournalError, ended_of, record_of};
use crate::job::{At, JobKey};
use crate::store::{Batch, StoreError, Ticket};

/// Makes one of the two decisions.
type AboutGuarded = fn(Scope, Option<At>, Vec<JobKey>) -> What;

/// Which jobs a decision is about, as it was read from the stream.
pub(crate) struct Guarded<'a> {
    /// The decision.
    pub decided: &'a Decided,
    /// Whose ceiling holds them.
    pub scope: &'a Scope,
    /// All that was held by then; `None` for the named ones alone.
    pub until: Option<At>,
    /// The jobs that it names.
    pub named: &'a [JobKey],
}

impl Guarded<'_> {
    /// Those that it is about, and of these the ones that it does not name.
    fn meant(&self, lock: &mut Lock<'_>) -> (Vec<JobKey>, Vec<JobKey>) {
        let held = self.until.map_or_else(Vec::new, |until| lock.of(self.scope, until));
        let unnamed: Vec<JobKey> = held.into_iter().filter(|key| !self.named.contains(key)).collect();
        (self.named.iter().chain(&unnamed).cloned().collect(), unnamed)
    }
}

impl Engine {
    /// Lets every job go on that this scope holds, at every worker, unless another one holds it too. Takes
    /// effect when the job comes back from its wait, within a quarter of an hour. How many it was here.
    ///
    /// # Errors
    /// Where the broker does not take it or the store failed: then they stay held.
    pub async fn release_guard(&self, scope: &Scope, by: &str) -> Result<usize, DecisionError> {
        self.decide_guarded(scope, by, |scope, until, jobs| What::ReleaseGuard { scope, until, jobs }).await
    }

    /// A decision about all that a scope holds, in as many messages as that takes: the last one is about
    /// what only another worker knows.
    async fn decide_guarded(&self, scope: &Scope, by: &str, what: AboutGuarded) -> Result<usize, DecisionError> {
        let until = self.now();
        let keys = self.ceilings.lock(&*self.store)?.of(scope, until);
        for portion in keys.chunks(MOST_JOBS) {
            self.carry_out(&self.decided(by, "", what(scope.clone(), None, portion.to_vec()))).await?;
        }
        self.carry_out(&self.decided(by, "", what(scope.clone(), Some(until), Vec::new()))).await?;
        Ok(keys.len())
    }

    /// Other workers learn of the jobs that a decision does not name.
    fn publish_unnamed(&self, about: &Guarded<'_>, unnamed: &[JobKey], what: AboutGuarded, batch: &mut Batch) {
        let Decided { by, reason, .. } = about.decided;
        for portion in unnamed.chunks(MOST_JOBS) {
            let what = what(about.scope.clone(), None, portion.to_vec());
            self.keep_decision(&self.decided(by, reason, what), batch);
        }
    }

    /// A release as it was read from the stream: how many were let go here.
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

    /// Waits until what no longer holds these jobs is durable. A job in hand may have read the disk
    /// before it was, so it is `done` in memory again; where it was refused, it is undone.
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

    /// Ends every job as cancelled that this scope holds, at every worker: nothing was called for any of
    /// them. Takes effect when the job comes back from its wait, within a quarter of an hour. How many it
    /// was here.
    ///
    /// # Errors
    /// Where the broker does not take it or the store failed: then they stay held.
    pub async fn discard_guarded(&self, scope: &Scope, by: &str) -> Result<usize, DecisionError> {
        self.decide_guarded(scope, by, |scope, until, jobs| What::DiscardGuarded { scope, until, jobs }).await
    }

    /// A discard as it was read from the stream: how many were cancelled here.
    pub(crate) async fn take_guard_discard(
        &self,
        about: &Guarded<'_>,
        mut batch: Batch,
    ) -> Result<usize, JournalError> {
        let (keys, unnamed) = about.meant(&mut self.ceilings.lock(&*self.store)?);
        // Cancelled first: a crash between leaves them held, and never lets them go on.
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

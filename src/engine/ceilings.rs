//! Ceilings: the most jobs that a tenant may start in an hour, or that may name a system. The jobs above a ceiling
//! wait for an operator.
//!
//! The rule it keeps: a job counts in the hour of its first destructive step. An erasure is checked when it is
//! accepted, so that not even the reads of a flood are made; and again before its first intent, where its count moves
//! to that hour. A held job stays held, over restarts and a lost store, until an operator releases or discards it.
//!
//! Only jobs below the ceiling are counted. So a flood does not raise the mean by which it is measured, and its
//! second hour lets no more jobs through than its first.

mod counts;
mod deciding;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::MutexGuard;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::envelope::{Origin, Unsealed};
use super::in_hand::Run;
use super::journal::JournalError;
use super::mirror::{Locked, Mirror, Mirrored, RowKey};
use super::{Engine, rows};
use crate::job::wait::Waiting;
use crate::job::{At, Entry, Job, JobKey, LetThrough, Mode};
use crate::store::{Batch, Store, StoreError};
use counts::Counts;
pub use counts::SPIKE_FLOOR;
pub(crate) use deciding::Guarded;

/// Long enough for the wait queue of a quarter of an hour: a released job continues within that time.
const LOOK_AGAIN: Duration = Duration::from_secs(910);
/// The longest wait of a copy whose store was lost.
const RELEASED_KEPT: Duration = Duration::from_secs(91 * 86_400);

/// The jobs that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The jobs of a tenant.
    Tenant(String),
    /// The jobs that name a system.
    System(String),
}

impl Scope {
    /// `tenant` or `system`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Scope::Tenant(_) => "tenant",
            Scope::System(_) => "system",
        }
    }

    /// The tenant's or system's name.
    pub fn name(&self) -> &str {
        match self {
            Scope::Tenant(name) | Scope::System(name) => name,
        }
    }
}

impl RowKey for Scope {
    fn name(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn of_name(name: &[u8]) -> Option<Scope> {
        let (kind, name) = std::str::from_utf8(name).ok()?.split_once(':')?;
        match kind {
            "tenant" => Some(Scope::Tenant(name.to_owned())),
            "system" => Some(Scope::System(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

/// A ceiling. Without numbers it lets every job through.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ceiling {
    /// Jobs in any hour.
    pub max_jobs_per_hour: Option<u32>,
    /// This multiple of the last day's hourly mean, but never less than [`SPIKE_FLOOR`].
    pub spike_factor: Option<f64>,
}

/// A scope as shown to operators.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardView {
    /// The scope.
    pub scope: Scope,
    /// The most jobs in the hour up to now; `None` if the ceiling was removed.
    pub limit: Option<u32>,
    /// Jobs counted in that hour.
    pub passed: u32,
    /// Jobs that wait for an operator.
    pub held: usize,
    /// The time since which the oldest of them waits.
    pub held_since: Option<At>,
}

/// A job that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    since: i64,
    /// The scopes above their ceiling: each must be released.
    pub(crate) scopes: BTreeSet<Scope>,
    /// True after its event was written.
    #[serde(rename = "told")]
    reported: bool,
}

impl Held {
    /// True if one of its scopes still has a ceiling: a ceiling that was removed from the configuration holds
    /// nothing.
    fn is_bound(&mut self, ceilings: &BTreeMap<Scope, Ceiling>) -> bool {
        self.scopes.retain(|scope| ceilings.contains_key(scope));
        !self.scopes.is_empty()
    }
}

impl Mirrored for Held {
    type Key = JobKey;
    const PREFIX: &'static [u8] = rows::CEILING_HELD.prefix;
}

/// The scopes that an operator released for a job which this store has not seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Released(BTreeSet<Scope>);

impl Mirrored for Released {
    type Key = JobKey;
    const PREFIX: &'static [u8] = rows::CEILING_RELEASED.prefix;
}

/// The rows of the ceilings.
#[derive(Debug)]
struct State {
    counts: Mirror<Counts>,
    held: Mirror<Held>,
    released: Mirror<Released>,
}

/// The ceilings of an engine.
#[derive(Debug)]
pub(crate) struct Ceilings {
    ceilings: BTreeMap<Scope, Ceiling>,
    state: Locked<State>,
}

/// The ceilings' decision about a job.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The scopes above their ceiling; empty: the job may continue.
    pub(crate) above: BTreeSet<Scope>,
    /// The time at which the job was counted, if it was.
    pub(crate) counted_at: Option<At>,
}

/// The locked ceilings. A batch with their changes must be submitted before the lock is released.
pub(crate) struct Lock<'a> {
    ceilings: &'a BTreeMap<Scope, Ceiling>,
    state: MutexGuard<'a, State>,
}

impl Ceilings {
    pub(crate) fn new(ceilings: BTreeMap<Scope, Ceiling>) -> Ceilings {
        let bounded = |ceiling: &Ceiling| ceiling.max_jobs_per_hour.is_some() || ceiling.spike_factor.is_some();
        let ceilings = ceilings.into_iter().filter(|(_, ceiling)| bounded(ceiling)).collect();
        Ceilings { ceilings, state: Locked::default() }
    }

    /// Locks the rows; the first use reads them from the store.
    pub(crate) fn lock(&self, store: &dyn Store) -> Result<Lock<'_>, StoreError> {
        let read = || {
            let counts = Mirror::of(store, self.ceilings.keys())?;
            let (mut held, released) = (Mirror::read(store)?, Mirror::read(store)?);
            held.keep(|held: &mut Held| held.is_bound(&self.ceilings));
            Ok(State { counts, held, released })
        };
        Ok(Lock { ceilings: &self.ceilings, state: self.state.lock(read)? })
    }
}

impl Lock<'_> {
    /// The job's scopes that have a ceiling.
    fn bounded(&self, job: &Job) -> BTreeMap<Scope, Ceiling> {
        let mut scopes = vec![Scope::Tenant(job.key.tenant.clone())];
        scopes.extend(job.targets.iter().map(|target| Scope::System(target.system.clone())));
        scopes.into_iter().filter_map(|scope| self.ceilings.get(&scope).map(|ceiling| (scope, *ceiling))).collect()
    }

    /// Decides about a job that the store does not know; the batch that accepts the job gets the decision.
    pub(crate) fn accept(&mut self, job: &Job, unsealed: &Unsealed, now: At, batch: &mut Batch) -> Verdict {
        let bounded = self.bounded(job);
        let above: BTreeSet<Scope> = match &unsealed.origin {
            // A preview destroys nothing.
            _ if job.mode == Mode::Preview => return Verdict::default(),
            // The store was lost, or another worker's store knows the reason. All of the job's ceilings hold it
            // again, except those that an operator has released.
            Origin::Ours { .. } if unsealed.wait.as_deref() == Some(Waiting::Guard.as_str()) => {
                let released = self.state.released.get(&job.key);
                bounded.into_keys().filter(|scope| released.is_none_or(|one| !one.0.contains(scope))).collect()
            }
            Origin::Ours { .. } => return Verdict::default(),
            Origin::Publisher => return self.count(job, now, batch),
        };
        self.hold(job, &above, now, batch);
        Verdict { above, counted_at: None }
    }

    /// Decides about a job before its first intent. If the job was counted earlier, its count moves to this hour, if
    /// this hour has room.
    pub(crate) fn decide(&mut self, job: &Job, before: Option<LetThrough>, now: At, batch: &mut Batch) -> Verdict {
        let bounded = self.bounded(job);
        let is_new = match before {
            Some(LetThrough::Released) => false,
            Some(LetThrough::Counted(at)) if Counts::bucket(at) == Counts::bucket(now) => false,
            Some(LetThrough::Counted(at)) => {
                self.take_back(job, at);
                true
            }
            None => true,
        };
        if bounded.is_empty() || !is_new {
            return Verdict::default();
        }
        self.count(job, now, batch)
    }

    /// Counts a job if all of its ceilings have room; otherwise holds it.
    fn count(&mut self, job: &Job, now: At, batch: &mut Batch) -> Verdict {
        let bounded = self.bounded(job);
        let is_full = |(scope, ceiling): &(&Scope, &Ceiling)| {
            let (hour, limit) = self.counts(scope).limit(ceiling, now);
            limit.is_some_and(|limit| hour >= limit)
        };
        let above: BTreeSet<Scope> = bounded.iter().filter(is_full).map(|(scope, _)| scope.clone()).collect();
        let is_counted = above.is_empty() && !bounded.is_empty();
        for scope in bounded.into_keys() {
            let mut counts = self.counts(&scope);
            if is_counted {
                counts.add(now);
            }
            self.state.counts.put(scope, counts, batch);
        }
        self.hold(job, &above, now, batch);
        Verdict { above, counted_at: is_counted.then_some(now) }
    }

    /// Counts a job at the time at which another worker counted it. It is not counted again.
    pub(crate) fn count_then(&mut self, job: &Job, at: At, now: At, batch: &mut Batch) {
        for scope in self.bounded(job).into_keys() {
            let mut counts = self.counts(&scope);
            counts.add_then(at, now);
            self.state.counts.put(scope, counts, batch);
        }
    }

    fn counts(&self, scope: &Scope) -> Counts {
        self.state.counts.get(scope).cloned().unwrap_or_default()
    }

    fn hold(&mut self, job: &Job, above: &BTreeSet<Scope>, now: At, batch: &mut Batch) {
        if !above.is_empty() {
            let is_holding = |scope: &Scope| self.state.held.values().any(|held| held.scopes.contains(scope));
            for scope in above.iter().filter(|scope| !is_holding(scope)) {
                tracing::error!(%scope, "more jobs than the ceiling allows; from now on they wait for an operator");
            }
            let held = Held { since: now.0, scopes: above.clone(), reported: false };
            self.state.held.put(job.key.clone(), held, batch);
        }
    }

    /// Undoes a count: the write that accepts the job was refused, and the redelivered job is checked again.
    pub(crate) fn take_back(&mut self, job: &Job, counted_at: At) {
        for scope in self.bounded(job).into_keys() {
            if let Some(counts) = self.state.counts.get_mut(&scope) {
                counts.take_back(counted_at);
            }
        }
    }

    /// Reloads from the disk whether the job is held, after a refused write.
    pub(crate) fn read_again(&mut self, store: &dyn Store, key: &JobKey) -> Result<(), StoreError> {
        self.state.held.read_again(store, key)?;
        let ceilings = self.ceilings;
        self.state.held.keep(|held| held.is_bound(ceilings));
        Ok(())
    }

    /// Releases the job from one of its scopes.
    fn release(&mut self, key: &JobKey, scope: &Scope, batch: &mut Batch) {
        let Some(mut held) = self.state.held.get(key).cloned() else { return };
        held.scopes.remove(scope);
        if held.scopes.is_empty() {
            self.forget(key, batch);
        } else {
            self.state.held.put(key.clone(), held, batch);
        }
    }

    /// As [`Lock::release`], for a job that this store has not seen: a copy of it may say that it is held.
    fn release_unseen(&mut self, key: &JobKey, scope: &Scope, now: At, batch: &mut Batch) {
        let mut released = self.state.released.get(key).cloned().unwrap_or_default();
        released.0.insert(scope.clone());
        super::retention::expire_fact(batch, now.plus(RELEASED_KEPT), &Mirror::<Released>::row(key));
        self.state.released.put(key.clone(), released, batch);
    }

    /// The scopes that an operator must release before the job continues.
    pub(crate) fn held(&self, key: &JobKey) -> Option<&Held> {
        self.state.held.get(key)
    }

    /// The scopes to be named in the job's event, if no event has named them yet.
    pub(crate) fn unreported(&self, key: &JobKey) -> Option<BTreeSet<Scope>> {
        self.state.held.get(key).filter(|held| !held.reported).map(|held| held.scopes.clone())
    }

    /// The job's event is in this batch.
    pub(crate) fn note_reported(&mut self, key: &JobKey, batch: &mut Batch) {
        if let Some(held) = self.state.held.get(key) {
            let held = Held { reported: true, ..held.clone() };
            self.state.held.put(key.clone(), held, batch);
        }
    }

    /// Removes the job's row: it is no longer held.
    pub(crate) fn forget(&mut self, key: &JobKey, batch: &mut Batch) {
        self.state.held.remove(key, batch);
    }

    fn of(&self, scope: &Scope, until: At) -> Vec<JobKey> {
        let is_meant = |held: &Held| held.scopes.contains(scope) && held.since <= until.0;
        let held = self.state.held.iter().filter(|(_, held)| is_meant(held));
        held.map(|(key, _)| key.clone()).collect()
    }
}

impl Engine {
    /// The time at which a held job is checked again; `None` if it may continue. A job that was held and is not now
    /// was released, and is not held again.
    pub(crate) fn held_by_ceiling(&self, run: &Run<'_>) -> Result<Option<At>, JournalError> {
        if self.ceilings.lock(&*self.store)?.held(&run.job.key).is_some() {
            return Ok(Some(self.now().plus(LOOK_AGAIN)));
        }
        if run.journal.with(|state| state.was_above) {
            let released = Entry::LetThrough { counted: false, at: self.now() };
            run.journal.append(&*self.store, vec![released])?;
        }
        Ok(None)
    }

    /// Checks the ceilings before the first irreversible step, and before a person is asked for a deletion by hand.
    /// `Some`: the job is held; the time of the next check.
    pub(crate) fn count_before_acting(&self, run: &Run<'_>) -> Result<Option<At>, JournalError> {
        if !self.can_cancel(run) {
            // The job has begun, and was counted then.
            return Ok(None);
        }
        let now = self.now();
        let mut lock = self.ceilings.lock(&*self.store)?;
        if lock.held(&run.job.key).is_some() {
            return Ok(Some(now.plus(LOOK_AGAIN)));
        }
        let before = run.journal.with(|state| state.targets.first().and_then(|target| target.let_through));
        let mut batch = Batch::new();
        let verdict = lock.decide(run.job, before, now, &mut batch);
        if batch.is_empty() {
            return Ok(None);
        }
        let counted = verdict.counted_at.map(|at| Entry::LetThrough { counted: true, at });
        run.journal.write(&*self.store, counted.into_iter().collect(), batch)?;
        drop(lock);
        self.note_above(&verdict);
        Ok((!verdict.above.is_empty()).then(|| now.plus(LOOK_AGAIN)))
    }

    pub(crate) fn note_above(&self, verdict: &Verdict) {
        for scope in verdict.above.iter().take(1) {
            self.figures.label("jobs_guarded", "", scope.kind());
        }
    }

    /// Every scope with a ceiling or held jobs, for operators and metrics.
    pub fn guard_views(&self) -> Result<Vec<GuardView>, StoreError> {
        let now = self.now();
        let lock = self.ceilings.lock(&*self.store)?;
        Ok(lock
            .ceilings
            .iter()
            .map(|(scope, ceiling)| {
                let (passed, limit) = lock.counts(scope).limit(ceiling, now);
                let held: Vec<At> = lock
                    .state
                    .held
                    .values()
                    .filter(|held| held.scopes.contains(scope))
                    .map(|held| At(held.since))
                    .collect();
                let held_since = held.iter().min().copied();
                GuardView { scope: scope.clone(), limit, passed, held: held.len(), held_since }
            })
            .collect())
    }
}

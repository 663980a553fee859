//! The blast-radius guard: how many jobs a tenant may start, or a system may be named by, in an
//! hour, and which jobs wait for an operator because there were more.
//!
//! The rule it keeps: a job counts in the hour in which it first may destroy. An erasure is decided on when
//! it is accepted, so that a flood is not even read, and once more before its first intent, however it came
//! to be one: there its count moves to that hour. What is held stays held, over restarts and a lost store,
//! until an operator releases or discards it.
//!
//! Only jobs that were let through are counted, so that a flood neither feeds the mean it is
//! measured by nor lets more through in its second hour than in its first.

mod deciding;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::envelope::{Letter, Origin};
use super::in_hand::Run;
use super::journal::JournalError;
use super::{Engine, rows};
use crate::job::wait::Waiting;
use crate::job::{At, Entry, Job, JobKey, LetThrough, Mode};
use crate::store::{Batch, Store, StoreError, Table};
pub(crate) use deciding::Guarded;

/// An hour with no more jobs than this is no spike, however quiet the day was.
pub const SPIKE_FLOOR: u32 = 20;
/// Long enough for the wait queue of a quarter of an hour, within which a released job goes on.
const LOOK_AGAIN: Duration = Duration::from_secs(910);
const BUCKET_MS: i64 = 5 * 60 * 1000;
/// Whole buckets in an hour; the one that is being filled comes on top, so that no hour, wherever
/// it begins, has more than its ceiling.
const HOUR: i64 = 12;
const DAY: i64 = 24 * HOUR;
const COUNTS: &[u8] = rows::CEILING_COUNT.prefix;
const HELD: &[u8] = rows::CEILING_HELD.prefix;
/// Jobs that this store has not seen, by which scopes let them go.
const RELEASED: &[u8] = rows::CEILING_RELEASED.prefix;
/// As long as a copy may wait whose store was lost.
const RELEASED_KEPT: Duration = Duration::from_secs(91 * 86_400);
const PAGE: usize = 512;

/// Whose jobs are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// A tenant's.
    Tenant(String),
    /// Those that name a system.
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

    fn row(&self) -> Vec<u8> {
        [COUNTS, self.to_string().as_bytes()].concat()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

/// A ceiling. One without numbers lets everything through.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ceiling {
    /// Jobs in any hour.
    pub max_jobs_per_hour: Option<u32>,
    /// Times the trailing day's hourly mean, but never less than [`SPIKE_FLOOR`].
    pub spike_factor: Option<f64>,
}

/// A scope as shown to operators.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardView {
    /// Whose.
    pub scope: Scope,
    /// What it may be let through in the hour up to now; `None` where it has no ceiling any more.
    pub limit: Option<u32>,
    /// Jobs let through in that hour.
    pub passed: u32,
    /// Jobs that wait for an operator.
    pub held: usize,
    /// Since when the oldest of them waits.
    pub held_since: Option<At>,
}

/// Jobs let through, in buckets of five minutes, a day and an hour back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    first: i64,
    newest: i64,
    buckets: VecDeque<u32>,
}

impl Counts {
    fn bucket(now: At) -> i64 {
        now.0.div_euclid(BUCKET_MS)
    }

    fn forward(&mut self, now: At) {
        let bucket = Self::bucket(now);
        if self.buckets.is_empty() {
            (self.first, self.newest) = (bucket, bucket);
            self.buckets.push_back(0);
        }
        // A clock that was set back goes on counting where it was.
        let steps = bucket.saturating_sub(self.newest).clamp(0, DAY + HOUR + 1);
        self.newest = self.newest.max(bucket);
        for _ in 0..steps {
            self.buckets.push_back(0);
        }
        while self.buckets.len() as i64 > DAY + HOUR + 1 {
            self.buckets.pop_front();
        }
    }

    fn add(&mut self, now: At) {
        self.forward(now);
        if let Some(last) = self.buckets.back_mut() {
            *last = last.saturating_add(1);
        }
    }

    /// One was let through then, by another worker.
    fn add_then(&mut self, at: At, now: At) {
        self.forward(now);
        let back = usize::try_from(self.newest.saturating_sub(Self::bucket(at))).unwrap_or(0);
        if let Some(count) = self.buckets.iter_mut().rev().nth(back) {
            *count = count.saturating_add(1);
        }
    }

    /// One that was added then was not let through after all.
    fn take_back(&mut self, at: At) {
        let back = usize::try_from(self.newest.saturating_sub(Self::bucket(at))).unwrap_or(0);
        if let Some(count) = self.buckets.iter_mut().rev().nth(back) {
            *count = count.saturating_sub(1);
        }
    }

    /// Let through in the hour up to now, and how many an hour's mean was in the day before it.
    fn hour_and_mean(&self, now: At) -> (u32, f64) {
        let mut counts = self.clone();
        counts.forward(now);
        let split = counts.buckets.len().saturating_sub(HOUR as usize + 1);
        let sum = |buckets: &mut dyn Iterator<Item = &u32>| buckets.map(|count| u64::from(*count)).sum::<u64>();
        let hour = sum(&mut counts.buckets.iter().skip(split));
        let before = sum(&mut counts.buckets.iter().take(split));
        // Who is new has no day behind it yet: the mean is that of the hours there were.
        #[allow(clippy::cast_precision_loss, reason = "a mean of counts below 2^52")]
        let hours = ((counts.newest - HOUR - counts.first) as f64 / HOUR as f64).clamp(1.0, 24.0);
        #[allow(clippy::cast_precision_loss, reason = "a mean of counts below 2^52")]
        let mean = before as f64 / hours;
        (u32::try_from(hour).unwrap_or(u32::MAX), mean)
    }

    fn limit(&self, ceiling: &Ceiling, now: At) -> (u32, Option<u32>) {
        let (hour, mean) = self.hour_and_mean(now);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
        let spike = ceiling.spike_factor.map(|factor| ((mean * factor).floor() as u32).max(SPIKE_FLOOR));
        let limit = [ceiling.max_jobs_per_hour, spike].into_iter().flatten().min();
        (hour, limit)
    }
}

/// A job that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    since: i64,
    /// Each must be released.
    pub(crate) scopes: BTreeSet<Scope>,
    /// Its event was written.
    told: bool,
}

const VERSION: u8 = 1;

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    let unreadable = || StoreError::Unreadable("a row of the guard".to_owned());
    let rest = bytes.strip_prefix(&[VERSION]).ok_or_else(unreadable)?;
    postcard::from_bytes(rest).map_err(|_| unreadable())
}

fn held_row(key: &JobKey) -> Vec<u8> {
    [HELD, &key.to_bytes()].concat()
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Scope, Counts>,
    held: BTreeMap<JobKey, Held>,
    released: BTreeMap<JobKey, BTreeSet<Scope>>,
}

/// The guard of an engine.
#[derive(Debug)]
pub(crate) struct Guard {
    ceilings: BTreeMap<Scope, Ceiling>,
    /// `None` until it was read from the store.
    state: Mutex<Option<State>>,
}

/// What the guard decided on a job.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The scopes that are above their ceiling; none where it may go on.
    pub(crate) above: BTreeSet<Scope>,
    /// When it was counted, where it was.
    pub(crate) counted_at: Option<At>,
}

/// The guard, for one job at a time: what it puts into a batch must be submitted in this order.
pub(crate) struct Turn<'a> {
    ceilings: &'a BTreeMap<Scope, Ceiling>,
    state: MutexGuard<'a, Option<State>>,
}

impl Guard {
    pub(crate) fn new(ceilings: BTreeMap<Scope, Ceiling>) -> Guard {
        let bounded = |ceiling: &Ceiling| ceiling.max_jobs_per_hour.is_some() || ceiling.spike_factor.is_some();
        let ceilings = ceilings.into_iter().filter(|(_, ceiling)| bounded(ceiling)).collect();
        Guard { ceilings, state: Mutex::default() }
    }

    /// Waits for its turn; reads the store at the first.
    pub(crate) fn turn(&self, store: &dyn Store) -> Result<Turn<'_>, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_none() {
            *state = Some(self.load(store)?);
        }
        Ok(Turn { ceilings: &self.ceilings, state })
    }

    fn load(&self, store: &dyn Store) -> Result<State, StoreError> {
        let mut state = State::default();
        for scope in self.ceilings.keys() {
            if let Some(bytes) = store.get(Table::Meta, &scope.row())? {
                state.counts.insert(scope.clone(), decode(&bytes)?);
            }
        }
        for (row, value) in store.scan(Table::Meta, RELEASED, None, usize::MAX)? {
            if let Some(key) = row.strip_prefix(RELEASED).and_then(JobKey::from_bytes) {
                state.released.insert(key, decode(&value)?);
            }
        }
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(Table::Meta, HELD, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(state) };
            after = Some(last.clone());
            for (row, value) in page {
                let Some(key) = row.strip_prefix(HELD).and_then(JobKey::from_bytes) else { continue };
                if let Some(held) = read_held(&self.ceilings, &value)? {
                    state.held.insert(key, held);
                }
            }
        }
    }
}

/// A ceiling that was taken out of the configuration holds nothing any more.
fn read_held(ceilings: &BTreeMap<Scope, Ceiling>, value: &[u8]) -> Result<Option<Held>, StoreError> {
    let mut held: Held = decode(value)?;
    held.scopes.retain(|scope| ceilings.contains_key(scope));
    Ok((!held.scopes.is_empty()).then_some(held))
}

impl Turn<'_> {
    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_default()
    }

    /// The job's scopes that have a ceiling.
    fn bounded(&self, job: &Job) -> BTreeMap<Scope, Ceiling> {
        let mut scopes = vec![Scope::Tenant(job.key.tenant.clone())];
        scopes.extend(job.targets.iter().map(|target| Scope::System(target.system.clone())));
        scopes.into_iter().filter_map(|scope| self.ceilings.get(&scope).map(|ceiling| (scope, *ceiling))).collect()
    }

    /// Decides on a job that the store does not know, and puts the decision into the batch that
    /// accepts it.
    pub(crate) fn accept(&mut self, job: &Job, letter: &Letter, now: At, batch: &mut Batch) -> Verdict {
        let bounded = self.bounded(job);
        let state = self.state();
        let above: BTreeSet<Scope> = match &letter.origin {
            // A preview destroys nothing.
            _ if job.mode == Mode::Preview => return Verdict::default(),
            // The store was lost, or it was another worker's, and with it why: whatever may have held it
            // holds it again, but what an operator has let it go by.
            Origin::Ours { .. } if letter.wait.as_deref() == Some(Waiting::Guard.as_str()) => {
                let released = state.released.get(&job.key);
                bounded.into_keys().filter(|scope| released.is_none_or(|scopes| !scopes.contains(scope))).collect()
            }
            Origin::Ours { .. } => return Verdict::default(),
            Origin::Publisher => return self.count(job, now, batch),
        };
        self.hold(job, &above, now, batch);
        Verdict { above, counted_at: None }
    }

    /// Decides on a job that is about to make its first intent: counted before, its count moves to this
    /// hour, where there is room in it.
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

    /// Counts a job where every one of its ceilings has room, and holds it where one has none.
    fn count(&mut self, job: &Job, now: At, batch: &mut Batch) -> Verdict {
        let bounded = self.bounded(job);
        let state = self.state();
        let is_full = |(scope, ceiling): &(&Scope, &Ceiling)| {
            let (hour, limit) = state.counts.entry((*scope).clone()).or_default().limit(ceiling, now);
            limit.is_some_and(|limit| hour >= limit)
        };
        let above: BTreeSet<Scope> = bounded.iter().filter(is_full).map(|(scope, _)| scope.clone()).collect();
        let is_counted = above.is_empty() && !bounded.is_empty();
        for scope in bounded.into_keys() {
            let counts = state.counts.entry(scope.clone()).or_default();
            if is_counted {
                counts.add(now);
            }
            batch.put(Table::Meta, scope.row(), encode(counts));
        }
        self.hold(job, &above, now, batch);
        Verdict { above, counted_at: is_counted.then_some(now) }
    }

    /// Another worker counted the job then: it counts here as well, and is not counted once more.
    pub(crate) fn count_then(&mut self, job: &Job, at: At, now: At, batch: &mut Batch) {
        for scope in self.bounded(job).into_keys() {
            let counts = self.state().counts.entry(scope.clone()).or_default();
            counts.add_then(at, now);
            batch.put(Table::Meta, scope.row(), encode(counts));
        }
    }

    fn hold(&mut self, job: &Job, above: &BTreeSet<Scope>, now: At, batch: &mut Batch) {
        let state = self.state();
        if !above.is_empty() {
            for scope in above.iter().filter(|scope| !state.held.values().any(|held| held.scopes.contains(*scope))) {
                tracing::error!(%scope, "more jobs than the ceiling allows; from here on they wait for an operator");
            }
            let held = Held { since: now.0, scopes: above.clone(), told: false };
            batch.put(Table::Meta, held_row(&job.key), encode(&held));
            state.held.insert(job.key.clone(), held);
        }
    }

    /// The write that accepts the job was refused: it is decided on anew when it comes back.
    pub(crate) fn take_back(&mut self, job: &Job, counted_at: At) {
        for scope in self.bounded(job).into_keys() {
            if let Some(counts) = self.state().counts.get_mut(&scope) {
                counts.take_back(counted_at);
            }
        }
    }

    /// Whether the job is held is what the disk says, where it refused something that was written of it.
    pub(crate) fn read_again(&mut self, store: &dyn Store, key: &JobKey) -> Result<(), StoreError> {
        let stored = store.get(Table::Meta, &held_row(key))?;
        let held = stored.map(|value| read_held(self.ceilings, &value)).transpose()?.flatten();
        match held {
            Some(held) => self.state().held.insert(key.clone(), held),
            None => self.state().held.remove(key),
        };
        Ok(())
    }

    /// One of the scopes that hold the job is released.
    fn release(&mut self, key: &JobKey, scope: &Scope, batch: &mut Batch) {
        let Some(held) = self.state().held.get_mut(key) else { return };
        held.scopes.remove(scope);
        if held.scopes.is_empty() {
            self.forget(key, batch);
        } else {
            batch.put(Table::Meta, held_row(key), encode(held));
        }
    }

    /// As [`Turn::release`], for a job that this store has not seen: it may come with a copy that says
    /// that it is held.
    fn release_unseen(&mut self, key: &JobKey, scope: &Scope, now: At, batch: &mut Batch) {
        let scopes = self.state().released.entry(key.clone()).or_default();
        scopes.insert(scope.clone());
        let row = [RELEASED, &key.to_bytes()].concat();
        super::retention::expire_fact(batch, now.plus(RELEASED_KEPT), &row);
        batch.put(Table::Meta, row, encode(scopes));
    }

    /// What an operator must release before the job goes on.
    pub(crate) fn held(&mut self, key: &JobKey) -> Option<&Held> {
        self.state().held.get(key)
    }

    /// The scopes to be named in the job's event, the first time; the batch notes that it was.
    pub(crate) fn tell(&mut self, key: &JobKey, batch: &mut Batch) -> Option<BTreeSet<Scope>> {
        let held = self.state().held.get_mut(key).filter(|held| !held.told)?;
        held.told = true;
        batch.put(Table::Meta, held_row(key), encode(held));
        Some(held.scopes.clone())
    }

    /// The job is not held any more.
    pub(crate) fn forget(&mut self, key: &JobKey, batch: &mut Batch) {
        if self.state().held.remove(key).is_some() {
            batch.remove(Table::Meta, held_row(key));
        }
    }

    fn of(&mut self, scope: &Scope, until: At) -> Vec<JobKey> {
        let is_meant = |held: &Held| held.scopes.contains(scope) && held.since <= until.0;
        let held = self.state().held.iter().filter(|(_, held)| is_meant(held));
        held.map(|(key, _)| key.clone()).collect()
    }
}

impl Engine {
    /// When a held job is looked at again; `None` where it may go on. One that was held and is not any more
    /// was released, and is not held again.
    pub(crate) fn held_by_guard(&self, run: &Run<'_>) -> Result<Option<At>, JournalError> {
        if self.guard.turn(&*self.store)?.held(&run.job.key).is_some() {
            return Ok(Some(self.now().plus(LOOK_AGAIN)));
        }
        if run.journal.with(|state| state.was_guarded) {
            let released = Entry::LetThrough { counted: false, at: self.now() };
            run.journal.append(&*self.store, vec![released])?;
        }
        Ok(None)
    }

    /// Before anything that cannot be taken back, and before a person is asked for a deletion by hand: whether
    /// the ceilings let the job go on. When it is looked at again where they do not.
    pub(crate) fn guard_before_acting(&self, run: &Run<'_>) -> Result<Option<At>, JournalError> {
        if !self.can_cancel(run) {
            // It has begun, and was counted then.
            return Ok(None);
        }
        let now = self.now();
        let mut turn = self.guard.turn(&*self.store)?;
        if turn.held(&run.job.key).is_some() {
            return Ok(Some(now.plus(LOOK_AGAIN)));
        }
        let before = run.journal.with(|state| state.targets.first().and_then(|target| target.let_through));
        let mut batch = Batch::new();
        let verdict = turn.decide(run.job, before, now, &mut batch);
        if batch.is_empty() {
            return Ok(None);
        }
        let counted = verdict.counted_at.map(|at| Entry::LetThrough { counted: true, at });
        run.journal.write(&*self.store, counted.into_iter().collect(), batch)?;
        drop(turn);
        self.note_guarded(&verdict);
        Ok((!verdict.above.is_empty()).then(|| now.plus(LOOK_AGAIN)))
    }

    pub(crate) fn note_guarded(&self, verdict: &Verdict) {
        for scope in verdict.above.iter().take(1) {
            self.figures.count(&self.figures.guarded);
            self.figures.label("jobs_guarded", "", scope.kind());
        }
    }

    /// Every scope that has a ceiling or holds jobs, for operators and metrics.
    pub fn guard_views(&self) -> Result<Vec<GuardView>, StoreError> {
        let now = self.now();
        let mut turn = self.guard.turn(&*self.store)?;
        let ceilings = turn.ceilings;
        let state = turn.state();
        Ok(ceilings
            .iter()
            .map(|(scope, ceiling)| {
                let (passed, limit) = state.counts.get(scope).cloned().unwrap_or_default().limit(ceiling, now);
                let held: Vec<At> =
                    state.held.values().filter(|held| held.scopes.contains(scope)).map(|held| At(held.since)).collect();
                let held_since = held.iter().min().copied();
                GuardView { scope: scope.clone(), limit, passed, held: held.len(), held_since }
            })
            .collect())
    }
}

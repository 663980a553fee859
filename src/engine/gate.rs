//! A system's gate: its rate, its slots, its breaker and its hold.
//!
//! The rule it keeps: a job that cannot pass within the inline wait gets a time to stay away, and is parked. A slow,
//! limited or held system stops only the jobs that need it.

mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::costs::Costs;
use super::line::{Line, Rank};
use super::rates::Rates;
use super::trouble::{Impairment, Trouble};
use super::window::Window;
use crate::job::wait::Waiting;
use crate::job::{Failure, JobKey, Note, Rules};
use crate::systems::System;

/// A gate's settings.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// Calls a minute.
    pub rates: Rates,
    /// Calls on the wire at once.
    pub max_in_flight: usize,
    /// The time limit of a call.
    pub timeout: Duration,
    /// The pause between harmless reads of a held system.
    pub hold_probe_interval: Duration,
    /// The breaker's first pause.
    pub breaker_pause: Duration,
    /// Most jobs in hand that may need this system while other systems have work.
    pub most_in_hand: usize,
    /// Address and credential, kept only as a keyed digest: a proof of the credential from before a restart is valid
    /// for the same pair only.
    pub fingerprint: secrecy::SecretString,
}

/// The longest time until a recovered system is noticed.
const LONGEST_TROUBLED_WAIT: Duration = Duration::from_secs(180);
/// The longest time until a release of a hold, or of a pause that the system asked for, takes effect.
const LONGEST_HELD_WAIT: Duration = Duration::from_secs(900);
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);
/// The pause between looks at the result of a harmless read that a job in hand waits for.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    windows: HashMap<&'static str, Window>,
    trouble: Trouble,
    line: Line,
    costs: Costs,
    in_hand: HashSet<JobKey>,
}

/// A waiter in hand, counted while it waits.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    /// Joins the waiters, unless there are too many: one passes in each `every`.
    fn join(waiting: &'a AtomicUsize, every: Duration, inline: Duration) -> Option<Waiter<'a>> {
        let before = u32::try_from(waiting.fetch_add(1, Ordering::AcqRel)).unwrap_or(u32::MAX);
        let waiter = Waiter(waiting);
        (every.saturating_mul(before.saturating_add(1)) <= inline).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A system's client, with a digest of its address and credential.
pub struct Client {
    /// The client.
    pub system: Arc<dyn System>,
    /// A keyed digest: a proof of the credential is valid for the same digest only.
    pub fingerprint: secrecy::SecretString,
}

/// A system behind its gate.
pub struct Gate {
    name: String,
    /// Replaced when a credential is renewed: a call keeps the client with which it began.
    client: RwLock<Arc<Client>>,
    rules: Rules,
    settings: GateSettings,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    freed: Notify,
    /// One harmless read at a time, for all that wait for its result.
    probing: tokio::sync::Mutex<()>,
    /// Wakes [`Gate::watch`].
    changed: Notify,
    /// True while [`Gate::watch`] makes the harmless reads that end a trouble.
    is_watched: AtomicBool,
    for_room: AtomicUsize,
    for_slot: AtomicUsize,
    calls: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("system", &self.name).finish_non_exhaustive()
    }
}

/// The right to make one call.
#[derive(Debug)]
pub struct Pass {
    _slot: OwnedSemaphorePermit,
    began: Instant,
}

/// The gate is closed: wait and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StayAway {
    /// The time to stay away.
    pub wait: Duration,
    /// The reason.
    pub why: Waiting,
}

/// A gate's state as shown to operators.
#[derive(Debug, Clone)]
pub struct GateView {
    /// Calls made.
    pub calls: u64,
    /// The reason of the hold, if it is held.
    pub held: Option<Note>,
    /// The time since the hold began.
    pub held_for: Option<Duration>,
    /// True while the breaker is open.
    pub breaker_open: bool,
    /// The rest of the pause that the system asked for.
    pub paused_for: Option<Duration>,
    /// Its troubles, in words.
    pub troubles: Vec<Impairment>,
    /// Jobs parked for it.
    pub line: usize,
    /// Jobs in hand that need it.
    pub in_hand: usize,
    /// Its smallest limit.
    pub requests_per_minute: Option<u32>,
}

impl Gate {
    /// A gate before a system.
    pub fn new(system: Arc<dyn System>, rules: Rules, settings: GateSettings) -> Gate {
        let slots = Arc::new(Semaphore::new(settings.max_in_flight.max(1)));
        let fingerprint = settings.fingerprint.clone();
        Gate {
            name: system.name().to_owned(),
            client: RwLock::new(Arc::new(Client { system, fingerprint })),
            rules,
            settings,
            slots,
            state: Mutex::default(),
            freed: Notify::new(),
            probing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            is_watched: AtomicBool::new(false),
            for_room: AtomicUsize::new(0),
            for_slot: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// The system's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The system's present client.
    pub fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The system, by its present client.
    pub fn system(&self) -> Arc<dyn System> {
        Arc::clone(&self.client().system)
    }

    /// The rules of its flows.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The time limit of a call: for so long another worker's last call may still be on the wire.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The pause between harmless reads during a hold.
    pub fn probe_interval(&self) -> Duration {
        self.settings.hold_probe_interval
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits up to `inline` for the right to send a step's requests to these endpoints, for a job of this rank.
    /// Returns at once if waiting cannot succeed in time, so that another job may use the place.
    pub async fn enter(
        &self,
        job: &JobKey,
        rank: Rank,
        endpoints: &[&'static str],
        inline: Duration,
    ) -> Result<Pass, StayAway> {
        let deadline = Instant::now() + inline;
        self.enter_room(job, rank, deadline, inline).await?;
        loop {
            let closed = self.closed(&mut self.lock(), job, rank, deadline)?;
            if let Some(until) = closed {
                tokio::time::sleep_until(until).await;
                continue;
            }
            let slot = self.slot(job, rank, deadline, inline).await?;
            let start = self.reserve(job, rank, endpoints, deadline)?;
            if start > Instant::now() {
                tokio::time::sleep_until(start).await;
            }
            if let Some(until) = self.begin(job, rank, endpoints, deadline)? {
                drop(slot);
                tokio::time::sleep_until(until).await;
                continue;
            }
            return Ok(Pass { _slot: slot, began: Instant::now() });
        }
    }

    /// Begins a call, unless the gate closed during the wait for slot and start: `Some` and `Err` as
    /// [`Gate::closed`]. After the breaker's pause one call goes through as a trial; the others wait for its result.
    fn begin(
        &self,
        job: &JobKey,
        rank: Rank,
        endpoints: &[&'static str],
        deadline: Instant,
    ) -> Result<Option<Instant>, StayAway> {
        let mut state = self.lock();
        if let Some(until) = self.closed(&mut state, job, rank, deadline)? {
            return Ok(Some(until));
        }
        state.trouble.tries(Instant::now(), self.settings.breaker_pause);
        state.line.leave(job);
        state.costs.begin(endpoints, rank != Rank::Begun);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    async fn enter_room(&self, job: &JobKey, rank: Rank, deadline: Instant, inline: Duration) -> Result<(), StayAway> {
        let mut waiter = None;
        loop {
            let freed = self.freed.notified();
            if self.has_room(job) {
                break;
            }
            if waiter.is_none() {
                let every = self.lock().costs.each_target(&self.settings.rates, self.settings.max_in_flight);
                let joined = Waiter::join(&self.for_room, every, inline);
                waiter = Some(joined.ok_or_else(|| self.join_line(&mut self.lock(), job, rank))?);
            }
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                return Err(self.join_line(&mut self.lock(), job, rank));
            }
        }
        if waiter.is_some() {
            // Each departure wakes one waiter, and a job's second target needs no room of its own: the wake-up is
            // passed on.
            self.freed.notify_one();
        }
        Ok(())
    }

    async fn slot(
        &self,
        job: &JobKey,
        rank: Rank,
        deadline: Instant,
        inline: Duration,
    ) -> Result<OwnedSemaphorePermit, StayAway> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let every = self.lock().costs.each_call(self.settings.max_in_flight);
        let Some(_waiter) = Waiter::join(&self.for_slot, every, inline) else {
            return Err(self.join_line(&mut self.lock(), job, rank));
        };
        match tokio::time::timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(self.join_line(&mut self.lock(), job, rank)),
        }
    }

    /// True if the job is within the system's share of the jobs in hand.
    fn has_room(&self, job: &JobKey) -> bool {
        let mut state = self.lock();
        if state.in_hand.contains(job) {
            return true;
        }
        let room = state.in_hand.len() < self.settings.most_in_hand.max(1);
        if room {
            state.in_hand.insert(job.clone());
        }
        room
    }

    /// Removes a job that is no longer in hand, or no longer needs the system.
    pub fn leave(&self, job: &JobKey) {
        if self.lock().in_hand.remove(job) {
            self.freed.notify_one();
        }
    }

    /// Removes an ended job.
    pub fn forget(&self, job: &JobKey) {
        let mut state = self.lock();
        state.line.leave(job);
        state.trouble.forget(job);
    }

    /// `Err`: held, or closed beyond the deadline. `Ok(Some)`: closed until then. `Ok(None)`: open.
    fn closed(
        &self,
        state: &mut State,
        job: &JobKey,
        rank: Rank,
        deadline: Instant,
    ) -> Result<Option<Instant>, StayAway> {
        let now = Instant::now();
        let until = match state.trouble.closed_until(now) {
            Ok(until) => until,
            Err(hold) => {
                // The wait grows with the hold: a release soon after its beginning is noticed soon.
                let wait = now.duration_since(hold.since).clamp(UNKNOWN_WAIT, LONGEST_HELD_WAIT);
                return Err(StayAway { wait, why: Waiting::Held });
            }
        };
        // No job's call is a trial while a harmless read is made for all jobs.
        let is_tried = state.trouble.is_open() && self.is_watched.load(Ordering::Acquire);
        let Some(until) = until.max(is_tried.then(|| now + LOOKED_EVERY)) else { return Ok(None) };
        if until <= deadline {
            return Ok(Some(until.min(now + LOOKED_EVERY)));
        }
        // As with a hold; and not before the job's place in the line is reached.
        let troubled = state.trouble.failing_for(now).map_or(Duration::ZERO, |lasts| lasts.min(LONGEST_TROUBLED_WAIT));
        let closed = (until - now).min(LONGEST_HELD_WAIT);
        let away = self.join_line(state, job, rank);
        Err(StayAway { wait: away.wait.max(closed).max(troubled), ..away })
    }

    /// Reserves the next moment at which all of these requests may start: an endpoint gets at most its limit in any
    /// minute.
    fn reserve(
        &self,
        job: &JobKey,
        rank: Rank,
        endpoints: &[&'static str],
        deadline: Instant,
    ) -> Result<Instant, StayAway> {
        let now = Instant::now();
        if self.settings.rates.is_unlimited() {
            return Ok(now);
        }
        let mut state = self.lock();
        let start = self.start_of(&mut state, endpoints, now);
        // A start that is possible now is never too late.
        if start > deadline.max(now) {
            let away = self.join_line(&mut state, job, rank);
            return Err(StayAway { wait: away.wait.max(start - now), ..away });
        }
        self.count(&mut state, endpoints, start);
        Ok(start)
    }

    /// The next moment at which a request to each of these endpoints may start.
    fn start_of(&self, state: &mut State, endpoints: &[&'static str], now: Instant) -> Instant {
        let mut next = |endpoint: &'static str| {
            let Some(limit) = self.settings.rates.limit(endpoint) else { return now };
            let calls = endpoints.iter().filter(|other| **other == endpoint).count();
            state.windows.entry(endpoint).or_default().next(limit as usize, now, calls)
        };
        endpoints.iter().map(|endpoint| next(endpoint)).max().unwrap_or(now)
    }

    fn count(&self, state: &mut State, endpoints: &[&'static str], start: Instant) {
        for endpoint in endpoints {
            let Some(limit) = self.settings.rates.limit(endpoint) else { continue };
            state.windows.entry(endpoint).or_default().add(limit as usize, start);
        }
    }

    /// Puts the job into the line; the wait is the estimated time until its place is reached.
    fn join_line(&self, state: &mut State, job: &JobKey, rank: Rank) -> StayAway {
        let place = state.line.join(job, rank, Instant::now());
        let each = state.costs.each_target(&self.settings.rates, self.settings.max_in_flight);
        StayAway { wait: each.saturating_mul(place).max(UNKNOWN_WAIT), why: Waiting::RateLimit }
    }

    /// A call ended; its failure, if any, moves breaker, pause and hold.
    pub fn ended(&self, pass: Pass, failure: Option<&Failure>) {
        let now = Instant::now();
        let mut state = self.lock();
        state.costs.call_ended(now.duration_since(pass.began));
        if state.trouble.ended(pass.began, failure, self.settings.breaker_pause, now) {
            self.changed.notify_one();
        }
    }

    /// Notes the end of a call that did not go to the system: it says nothing about the system.
    pub fn ended_elsewhere(&self, pass: Pass) {
        self.lock().costs.call_ended(pass.began.elapsed());
    }

    /// A target of the system ended.
    pub fn target_ended(&self) {
        self.lock().costs.target_ended();
    }

    /// The system's targets a minute, as far as known; `None` before the first call.
    pub fn targets_per_minute(&self) -> Option<f64> {
        self.lock().costs.targets_per_minute(&self.settings.rates, self.settings.max_in_flight)
    }

    /// True while held.
    pub fn is_held(&self) -> bool {
        self.lock().trouble.hold().is_some()
    }

    /// Ends a hold and all other waits but those for rate and slots, for an operator.
    pub fn release(&self) {
        self.lock().trouble.release();
        self.changed.notify_one();
    }

    /// As [`Gate::release`], unless the hold is younger than `at_least`: then the operator meant an earlier hold.
    /// True if it took effect.
    pub(crate) fn release_held_for(&self, at_least: Duration) -> bool {
        let is_newer = self.lock().trouble.hold().is_some_and(|hold| hold.since.elapsed() < at_least);
        if !is_newer {
            self.release();
        }
        !is_newer
    }

    /// The gate's state, for operators.
    pub fn view(&self) -> GateView {
        let now = Instant::now();
        let state = self.lock();
        let left = |until: Option<Instant>| until.filter(|until| *until > now).map(|until| until - now);
        GateView {
            calls: self.calls.load(Ordering::Relaxed),
            held: state.trouble.hold().map(|hold| hold.note.clone()),
            held_for: state.trouble.hold().map(|hold| now.duration_since(hold.since)),
            breaker_open: state.trouble.is_open(),
            paused_for: left(state.trouble.paused_until()),
            troubles: state.trouble.impairments(now),
            line: state.line.len(),
            in_hand: state.in_hand.len(),
            requests_per_minute: self.settings.rates.smallest(),
        }
    }
}

//! The engine: moves a job from its delivery to its final event.
//!
//! The rule it keeps: the ack is last. It follows a durable outcome and a confirmed event, or a confirmed parked
//! copy.
//!
//! The life of a message, in reading order: [`intake`] takes deliveries; `delivery` carries each one from the note of
//! its start to its ack; [`run`] carries the job from target to target and from step to step, as each flow says
//! (`crate::job::flow`).
//!
//! What these call: [`envelope`] finds a message's origin (`header` and [`dead_letter_head`] check its headers);
//! [`admission`] decides whether it is a job; `adoption` adopts the knowledge in a copy; [`opening`] decides the
//! copy's meaning. `call` makes one call, through its system's [`gate`], which knows the system's [`trouble`];
//! `fault` decides whose fault a failure is; `rests` decides when the job continues. [`ending`] ends a job (each end
//! has its link of [`receipts`]), `parking` puts it on a wait queue, `refusing` makes refused messages dead letters;
//! [`outbox`] publishes.
//!
//! Data: [`rows`] lists every row of the store (`mirror` keeps some in memory), [`journal`] holds a job's rows,
//! `in_hand` the locks of the jobs in hand, [`starts`] the messages that may stop a worker.
//!
//! Beside the jobs: [`operators`] is what people see and do, [`pauses`] the systems and tenants they paused,
//! [`decisions`] publishes that to every worker. `deadlines` publishes due times, `long_waits` long waits; `terms`
//! knows whether this worker is active; `room` stops and resumes intake; [`retention`] forgets.

pub mod admission;
mod adoption;
pub mod approvals;
mod call;
pub mod cancels;
pub mod ceilings;
mod costs;
pub mod dead_letter_age;
pub mod dead_letter_head;
mod deadlines;
pub mod decisions;
mod delivery;
pub mod ending;
pub mod envelope;
mod fault;
pub mod figures;
pub mod gate;
mod header;
mod in_hand;
pub mod intake;
mod interrupted;
pub mod journal;
mod line;
mod long_waits;
mod mirror;
pub(crate) mod named;
pub mod opening;
pub mod operators;
pub mod outbox;
pub mod parked;
mod parking;
pub mod pauses;
mod rates;
pub mod receipts;
mod refusing;
mod rests;
pub mod retention;
mod room;
pub mod rows;
pub mod run;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod stage;
pub mod starts;
pub(crate) mod stream_place;
mod terms;
pub mod trouble;
mod undelivered;
mod unreadable;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::job::flow::Limits;
use crate::job::{Accepts, At};
use crate::seal::Keyring;
use crate::store::Store;

pub use admission::{Policy, Tenant};
pub use ceilings::{Ceiling, GuardView, Scope};
pub use figures::Figures;
pub use gate::{Gate, GateSettings, StayAway};
pub use line::Rank;
pub use rates::Rates;

/// The wall clock.
pub type WallClock = Arc<dyn Fn() -> At + Send + Sync>;

/// The source of jitter: a number from 0 up to 1, another one at each call.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The pauses between attempts at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The first pause's upper bound.
    pub initial_interval: Duration,
    /// The growth of the bound from pause to pause.
    pub multiplier: f64,
    /// The upper limit of the bound.
    pub max_interval: Duration,
}

/// The engine's settings, from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The worker's stable name.
    pub worker_id: String,
    /// A job with a longer wait is parked.
    pub inline_wait_max: Duration,
    /// A job that is in hand for longer is parked briefly.
    pub in_hand_max: Duration,
    /// The longest time of a drain.
    pub drain_timeout: Duration,
    /// The time for which an ended job is remembered.
    pub retain_finished: Duration,
    /// The time for which a failed job keeps its checkpoints.
    pub retain_failed: Duration,
    /// The pauses between attempts.
    pub retry: RetryPolicy,
    /// The limits of attempts and of their time.
    pub limits: Limits,
    /// The time before a job's due date at which it is reported as at risk.
    pub at_risk_before: Duration,
    /// True if dead letters are sealed.
    pub seal_dead_letters: bool,
}

/// The parts of an engine.
pub struct Parts {
    /// Its settings.
    pub settings: Settings,
    /// The rules for jobs that it accepts.
    pub accepts: Accepts,
    /// Its systems.
    pub gates: BTreeMap<String, Arc<Gate>>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// The wall clock.
    pub now: WallClock,
    /// The source of jitter.
    pub chance: Chance,
}

/// The engine. One per process and store.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) accepts: Accepts,
    pub(crate) gates: BTreeMap<String, Arc<Gate>>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) now: WallClock,
    pub(crate) chance: Chance,
    pub(crate) job_locks: in_hand::JobLocks,
    pub(crate) starts: starts::Starts,
    pub(crate) outbox: outbox::Outbox,
    pub(crate) receipts: receipts::Receipts,
    pub(crate) figures: Arc<Figures>,
    pub(crate) draining: CancellationToken,
    /// Signals that a message was kept that cannot be read as a cancellation.
    unreadable: tokio::sync::Notify,
    pub(crate) stalled: std::sync::atomic::AtomicBool,
    pub(crate) cancel_waits: std::sync::atomic::AtomicBool,
    pub(crate) valve: room::Valve,
    pub(crate) pulse: operators::Pulse,
    pub(crate) parked: parked::Parked,
    pub(crate) pauses: pauses::Pauses,
    pub(crate) failed: tokio::sync::watch::Sender<Option<String>>,
    pub(crate) policy: admission::Policy,
    pub(crate) ceilings: ceilings::Ceilings,
    pub(crate) approvals: approvals::Approvals,
    pub(crate) terms: terms::Terms,
    /// A name that no other process ever had: another process makes none of the calls that this one announced.
    pub(crate) process: String,
    pub(crate) decisions: decisions::Decisions,
    pub(crate) long_waits: long_waits::LongWaits,
    tasks: TaskTracker,
}

impl Engine {
    /// Makes an engine in which every publisher may send every job; [`Engine::run`] starts it.
    pub fn new(parts: Parts) -> Arc<Engine> {
        Engine::with_policy(parts, admission::Policy::default())
    }

    /// Makes an engine; [`Engine::run`] starts it.
    pub fn with_policy(parts: Parts, policy: admission::Policy) -> Arc<Engine> {
        let Parts { settings, accepts, gates, broker, store, keyring, now, chance } = parts;
        Arc::new(Engine {
            job_locks: in_hand::JobLocks::default(),
            starts: starts::Starts::default(),
            outbox: outbox::Outbox::default(),
            receipts: receipts::Receipts::new(&keyring),
            figures: Arc::new(Figures::default()),
            draining: CancellationToken::new(),
            unreadable: tokio::sync::Notify::new(),
            stalled: std::sync::atomic::AtomicBool::new(false),
            cancel_waits: std::sync::atomic::AtomicBool::new(false),
            valve: room::Valve::default(),
            pulse: operators::Pulse::default(),
            parked: parked::Parked::default(),
            pauses: pauses::Pauses::default(),
            failed: tokio::sync::watch::Sender::new(None),
            tasks: TaskTracker::new(),
            terms: terms::Terms::default(),
            process: uuid::Uuid::new_v4().to_string(),
            ceilings: ceilings::Ceilings::new(policy.ceilings.clone()),
            approvals: approvals::Approvals::default(),
            decisions: decisions::Decisions::default(),
            long_waits: long_waits::LongWaits::default(),
            policy,
            settings,
            accepts,
            gates,
            broker,
            store,
            keyring,
            now,
            chance,
        })
    }

    /// Stops the engine: nothing new is taken; steps in hand end and are checkpointed.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// The systems, for the ops API.
    pub fn gates(&self) -> &BTreeMap<String, Arc<Gate>> {
        &self.gates
    }

    /// Counters, for metrics.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The store, for the ops API's reads.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The broker, for the ops API.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// The reason why the process must stop, once there is one.
    pub fn failure(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// True while no intake is possible because the store or the outbox cannot be written.
    pub fn is_stalled(&self) -> bool {
        self.outbox.is_stuck() || self.stalled.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The time, for the ops API.
    pub fn clock(&self) -> At {
        self.now()
    }

    pub(crate) fn now(&self) -> At {
        (self.now)()
    }

    /// Stops intake after a store or broker fault that only a restart can repair; the process then exits with 1.
    pub(crate) fn fail(&self, why: impl Into<String>) {
        let why = why.into();
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                tracing::error!(%why, "the worker stops");
                *failed = Some(why);
            }
            first
        });
        self.draining.cancel();
    }
}

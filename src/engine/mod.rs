//! What happens: moves a job from its delivery to its final event.
//!
//! The rule it keeps: a delivery is acknowledged last, after its outcome was made durable and its
//! event confirmed, or after the job was parked on the broker again.
//!
//! The life of a message, in reading order: [`intake`] takes deliveries; `delivery` carries each from the note of its
//! start to its ack; [`run`] carries its job from target to target, step by step, as the flow of each says
//! (`crate::job::flow`).
//!
//! What these call: [`envelope`] says where a message comes from (`header` and [`dead_letter_head`] what its headers are
//! worth), [`admission`] whether it is a job, [`opening`] what it means for its job, after `adoption` of what the copy
//! carries. `call` makes one call, through its system's [`gate`], which knows of the system's [`trouble`]; `fault` says
//! whose a failure is; `rests` when the job goes on. [`ending`] ends a job (each end with its link of [`receipts`]),
//! `parking` puts it on a wait queue, `refusing` puts what is no job among the dead letters; [`outbox`] publishes.
//!
//! What is kept: [`rows`] lists every row of the store (`mirror` keeps some in memory), [`journal`] holds a job's,
//! `in_hand` the jobs being worked on, [`starts`] the messages that may stop a worker.
//!
//! Beside the jobs: [`operators`] is what people see and do, [`pauses`] what they have stopped, [`decisions`] how that
//! reaches every worker; `deadlines` publishes due times and `long_waits` long waits, while `terms` says that this
//! worker is the active one; `room` stops and resumes intake; [`retention`] forgets.

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

/// The wall clock.
pub type WallClock = Arc<dyn Fn() -> At + Send + Sync>;

/// Where jitter comes from: a number from 0 up to 1, another one each time.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The pauses between attempts at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The first pause's upper bound.
    pub initial_interval: Duration,
    /// How the bound grows.
    pub multiplier: f64,
    /// The bound's own bound.
    pub max_interval: Duration,
}

/// What the engine is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The worker's stable name.
    pub worker_id: String,
    /// Jobs in hand at once.
    pub concurrency: usize,
    /// Longer waits are parked.
    pub inline_wait_max: Duration,
    /// A job longer in hand is parked for a moment.
    pub in_hand_max: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long an ended job is remembered.
    pub retain_finished: Duration,
    /// How long a failed job keeps its checkpoints.
    pub retain_failed: Duration,
    /// The pauses between attempts.
    pub retry: RetryPolicy,
    /// How often and how long to try.
    pub limits: Limits,
    /// This long before a job is due, it is said to be at risk.
    pub at_risk_before: Duration,
    /// Dead letters are sealed.
    pub seal_dead_letters: bool,
}

/// The parts that an engine is made of.
pub struct Parts {
    /// Its settings.
    pub settings: Settings,
    /// What jobs it accepts.
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
    /// Where jitter comes from.
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
    pub(crate) hands: in_hand::Hands,
    pub(crate) starts: starts::Starts,
    pub(crate) outbox: outbox::Outbox,
    pub(crate) receipts: receipts::Receipts,
    pub(crate) figures: Arc<Figures>,
    pub(crate) draining: CancellationToken,
    /// A message that cannot be read as a cancellation was kept.
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
    /// Told apart from every other process that ever was: what one of them was about to do, no other does.
    pub(crate) process: String,
    pub(crate) decisions: decisions::Decisions,
    pub(crate) long_waits: long_waits::LongWaits,
    tasks: TaskTracker,
}

impl Engine {
    /// Puts an engine together that lets everybody order everything; [`Engine::run`] starts it.
    pub fn new(parts: Parts) -> Arc<Engine> {
        Engine::with_policy(parts, admission::Policy::default())
    }

    /// Puts an engine together; [`Engine::run`] starts it.
    pub fn with_policy(parts: Parts, policy: admission::Policy) -> Arc<Engine> {
        let Parts { settings, accepts, gates, broker, store, keyring, now, chance } = parts;
        Arc::new(Engine {
            hands: in_hand::Hands::default(),
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

    /// Asks the engine to stop: nothing new is taken, steps in hand finish and are checkpointed.
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

    /// Why the process must stop, once it must.
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

    /// A store or broker fault that only a restart can mend: nothing more is taken, exit 1 follows.
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

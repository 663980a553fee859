//! Stand-ins of the four systems on one port, with faults on request and a ledger of what was called.
//!
//! The rule it keeps: it behaves as the vendors' interfaces do, odd ways included, and it never helps: what
//! a vendor leaves unsaid on the wire, the stand-in leaves unsaid too.
//!
//! Start one with [`Sandbox::start`]; fill it through [`Sandbox::world`]; plan faults with
//! [`Sandbox::set_faults`]; read [`Sandbox::entries`] and [`Sandbox::summary`] afterwards. The same is
//! reachable over HTTP under `/_sandbox/`. It has no access control and holds what it is given in the clear:
//! it is for invented people only.

mod call;
mod connection;
mod control;
mod faults;
mod ledger;
mod operation;
mod page;
mod people;
mod serve;
mod stand_ins;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::call::Misuse;
pub use self::faults::{Action, FaultPlan, FaultRule};
pub use self::ledger::{End, Entry, OperationCount, Repeat, Summary, summarise};
pub use self::operation::Operation;
pub use self::page::Page;
pub use self::people::Person;
pub use self::serve::{RunningSandbox, SandboxError};
pub use self::stand_ins::*;

/// The stand-ins, their people, the fault plan and the ledger. Clones share all of it.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    changed: watch::Sender<()>,
    /// The wall clock at `started`, in milliseconds since 1970.
    started_ms: u64,
    started: Instant,
}

impl Default for Sandbox {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Sandbox {
            shared: Arc::new(Shared {
                world: Mutex::default(),
                changed: watch::Sender::new(()),
                started_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
                started: Instant::now(),
            }),
        }
    }
}

impl Sandbox {
    /// Runs `work` on all that the sandbox holds: seed people, change settings, look at state.
    pub fn world<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        // A panic of a caller's closure in a test must not hide the ledger from the next.
        work(&mut self.shared.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets people, settings, faults and ledger. The ledger's numbers go on.
    pub fn reset(&self) {
        self.world(World::reset);
    }

    /// Replaces the fault plan.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.world(|world| world.faults.replace(plan));
    }

    /// Adds one rule after those that stand.
    pub fn add_fault(&self, rule: FaultRule) {
        self.world(|world| world.faults.add(vec![rule]));
    }

    /// Takes all rules away.
    pub fn clear_faults(&self) {
        self.set_faults(FaultPlan::default());
    }

    /// The ledger's entries whose number is above `after` (0: all), in order of arrival.
    pub fn entries(&self, after: u64) -> Vec<Entry> {
        self.world(|world| world.ledger.after(after).to_vec())
    }

    /// What the ledger comes to.
    pub fn summary(&self) -> Summary {
        self.world(|world| summarise(world.ledger.entries()))
    }

    /// Empties the ledger. Its numbers go on.
    pub fn clear_ledger(&self) {
        self.world(|world| world.ledger.clear());
    }

    /// Waits until the ledger satisfies `seen`, which is asked now and after every change.
    pub async fn wait_for(&self, seen: impl Fn(&[Entry]) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        while !self.world(|world| seen(world.ledger.entries())) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Adds the people with the numbers `numbers` to all systems and returns their identifiers.
    pub fn add_people(&self, numbers: std::ops::Range<u64>) -> Vec<Person> {
        let people: Vec<Person> = numbers.map(Person::numbered).collect();
        self.world(|world| {
            for register in world.registers() {
                people.iter().for_each(|person| register.add_person(person));
            }
        });
        people
    }

    /// What of `person` is still there, as `system: what`; empty when all of it is gone.
    pub fn remains(&self, person: &Person) -> Vec<&'static str> {
        self.world(|world| world.registers().into_iter().flat_map(|register| register.remains(person)).collect())
    }

    /// Makes the person of the example job known to every system.
    pub fn add_example_person(&self) {
        self.world(|world| world.registers().into_iter().for_each(|register| register.add_example()));
    }

    /// Milliseconds since 1970; never runs backwards.
    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.started_ms.saturating_add(elapsed)
    }
}

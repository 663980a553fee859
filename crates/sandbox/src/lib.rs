//! Stand-ins of the four systems on one port, with planned faults and a ledger of all calls.
//!
//! The rule it keeps: a stand-in behaves as the vendor's interface does, with its peculiarities. It gives no
//! information that the vendor does not give.
//!
//! Start: [`Sandbox::start`]; people and settings: [`Sandbox::world`]; faults: [`Sandbox::set_faults`]; the calls:
//! [`Sandbox::entries`] and [`Sandbox::summary`]. The same over HTTP: `/_sandbox/`. The sandbox has no access control
//! and holds all data in the clear: use invented people only.

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
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::call::Misuse;
pub use self::faults::{Action, FaultPlan, FaultRule};
pub use self::ledger::{End, Entry, OTP_APART, OperationCount, Repeat, Summary, summarise};
pub use self::operation::Operation;
pub use self::page::Page;
pub use self::people::Person;
pub use self::serve::{RunningSandbox, SandboxError};
pub use self::stand_ins::*;

/// The number of the example job's person in a described stand-in.
pub const EXAMPLE_NUMBER: u64 = 0;

/// The stand-ins, their people, the fault plan and the ledger. Clones share them.
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
    /// Runs `work` on the sandbox's state: add people, change settings, read.
    pub fn world<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        // After a panic in one test's closure the ledger must still be readable.
        work(&mut self.shared.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Deletes people, settings, faults and the ledger's entries. The ledger's numbers continue.
    pub fn reset(&self) {
        self.world(World::reset);
    }

    pub fn set_faults(&self, plan: FaultPlan) {
        self.world(|world| world.faults.replace(plan));
    }

    /// Adds one rule after the existing rules.
    pub fn add_fault(&self, rule: FaultRule) {
        self.world(|world| world.faults.add(vec![rule]));
    }

    pub fn clear_faults(&self) {
        self.set_faults(FaultPlan::default());
    }

    /// The ledger's entries with a number above `after` (0: all), in order of arrival.
    pub fn entries(&self, after: u64) -> Vec<Entry> {
        self.world(|world| world.ledger.after(after).to_vec())
    }

    /// The counts of the ledger.
    pub fn summary(&self) -> Summary {
        self.summary_with(OTP_APART)
    }

    /// The counts of the ledger for a worker with another time between two one-time passwords.
    pub fn summary_with(&self, otp_apart: Duration) -> Summary {
        self.world(|world| summarise(world.ledger.entries(), otp_apart))
    }

    /// Deletes the ledger's entries. Its numbers continue.
    pub fn clear_ledger(&self) {
        self.world(|world| world.ledger.clear());
    }

    /// Waits until the ledger's entries satisfy `is_done`.
    pub async fn wait_for(&self, is_done: impl Fn(&[Entry]) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        while !self.world(|world| is_done(world.ledger.entries())) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Adds the people with these numbers to all systems and returns their identifiers.
    pub fn add_people(&self, numbers: std::ops::Range<u64>) -> Vec<Person> {
        let people: Vec<Person> = numbers.map(Person::numbered).collect();
        self.world(|world| {
            for register in world.registers() {
                people.iter().for_each(|person| register.add_person(person));
            }
            for stand_in in world.all_described() {
                people.iter().for_each(|person| stand_in.add_person(person.number));
            }
        });
        people
    }

    /// The person's remaining data, as `system: data`; empty if everything is erased.
    pub fn remains(&self, person: &Person) -> Vec<&'static str> {
        let now_ms = self.now_ms();
        self.world(|world| {
            let mut left: Vec<&'static str> =
                world.registers().into_iter().flat_map(|register| register.remains(person)).collect();
            let described = world.all_described().filter(|stand_in| stand_in.remains(person.number, now_ms));
            left.extend(described.map(|_| "connector: person"));
            left
        })
    }

    /// Adds the person of the example job to every system.
    pub fn add_example_person(&self) {
        self.world(|world| {
            world.registers().into_iter().for_each(|register| register.add_example());
            world.all_described().for_each(|stand_in| stand_in.add_person(EXAMPLE_NUMBER));
        });
    }

    /// Milliseconds since 1970; never runs backwards.
    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.started_ms.saturating_add(elapsed)
    }
}

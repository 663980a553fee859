//! What goes wrong in a run, and when: faults by the number of the call, crashes by the number of the
//! point.

use std::collections::BTreeMap;

use crate::world::Changed;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It was done and the answer is lost.
    Lost,
    /// It was not done, and nobody can tell.
    LostUndone,
    /// It was surely not done.
    Unavailable,
    /// It was done; the answer cannot be read.
    Garbled,
    /// It was not done; the answer cannot be read.
    GarbledUndone,
    /// It was done; the answer is one that belongs to another call.
    Nonsense,
    /// A precondition does not hold.
    Refused,
    /// The request is called malformed.
    Rejected,
    /// A proof of the person's is refused.
    Theirs,
    /// Too many calls.
    Limited,
    /// Our credential is refused.
    Ours,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 11] = [
        Fault::Lost,
        Fault::LostUndone,
        Fault::Unavailable,
        Fault::Garbled,
        Fault::GarbledUndone,
        Fault::Nonsense,
        Fault::Refused,
        Fault::Rejected,
        Fault::Theirs,
        Fault::Limited,
        Fault::Ours,
    ];

    /// One of each sort, for the second of two.
    pub const SECOND: [Fault; 6] =
        [Fault::Lost, Fault::LostUndone, Fault::Unavailable, Fault::Garbled, Fault::Refused, Fault::Theirs];

    /// Those after which the call may have been made and must be looked into.
    pub const DOUBTS: [Fault; 4] = [Fault::Lost, Fault::LostUndone, Fault::Garbled, Fault::Nonsense];
}

/// How much of what was not yet durable outlives a crash, in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// What was awaited.
    Durable,
    /// One batch more.
    OneMore,
    /// Everything.
    All,
}

impl Survives {
    /// Every way.
    pub const ALL: [Survives; 3] = [Survives::Durable, Survives::OneMore, Survives::All];
}

/// What goes wrong in one run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Faults by call, from 0.
    pub faults: BTreeMap<usize, Fault>,
    /// A fault of every call from this one on.
    pub forever: Option<(usize, Fault)>,
    /// Crashes by point, from 0: before and after every call, and after every write.
    pub crashes: BTreeMap<usize, Survives>,
    /// What changes at the vendor in the wait of this number, from 0.
    pub change: Option<(usize, Changed)>,
}

impl Plan {
    /// Nothing goes wrong.
    pub fn none() -> Plan {
        Plan::default()
    }

    /// One more fault.
    pub fn fault(mut self, call: usize, fault: Fault) -> Plan {
        self.faults.insert(call, fault);
        self
    }

    /// One more crash.
    pub fn crash(mut self, point: usize, survives: Survives) -> Plan {
        self.crashes.insert(point, survives);
        self
    }

    /// A change in a wait.
    pub fn change(mut self, wait: usize, changed: Changed) -> Plan {
        self.change = Some((wait, changed));
        self
    }

    /// The fault of a call.
    pub fn of(&self, call: usize) -> Option<Fault> {
        let forever = self.forever.filter(|(from, _)| call >= *from).map(|(_, fault)| fault);
        self.faults.get(&call).copied().or(forever)
    }
}

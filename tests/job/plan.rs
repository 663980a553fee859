//! The faults and crashes of a run: faults by the number of the call, crashes by the number of the point.

use std::collections::BTreeMap;

use crate::world::Changed;

/// A call's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call was done; the answer is lost.
    Lost,
    /// The call was not done; the answer is lost.
    LostUndone,
    /// The call was certainly not done.
    Unavailable,
    /// The call was done; the answer cannot be read.
    Garbled,
    /// The call was not done; the answer cannot be read.
    GarbledUndone,
    /// The call was done; the answer is of another call's kind.
    Nonsense,
    /// A precondition does not hold.
    Refused,
    /// The system says that the request is malformed.
    Rejected,
    /// The person's proof is refused.
    Theirs,
    /// Too many calls.
    Limited,
    /// Our credential is refused.
    Ours,
}

impl Fault {
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

    /// One fault of each sort, for the second of two.
    pub const SECOND: [Fault; 6] =
        [Fault::Lost, Fault::LostUndone, Fault::Unavailable, Fault::Garbled, Fault::Refused, Fault::Theirs];

    /// Faults after which the call may have been made: a read-back must settle it.
    pub const DOUBTS: [Fault; 4] = [Fault::Lost, Fault::LostUndone, Fault::Garbled, Fault::Nonsense];
}

/// The batches that survive a crash although they were not awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// None: only the awaited ones.
    Durable,
    /// One.
    OneMore,
    /// All.
    All,
}

impl Survives {
    pub const ALL: [Survives; 3] = [Survives::Durable, Survives::OneMore, Survives::All];
}

/// The faults, crashes and changes of one run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Faults by call, from 0.
    pub faults: BTreeMap<usize, Fault>,
    /// A fault of this call and of every later one.
    pub forever: Option<(usize, Fault)>,
    /// Crashes by point, from 0: before and after every call, and after every write.
    pub crashes: BTreeMap<usize, Survives>,
    /// A change at the vendor during the wait of this number, from 0.
    pub change: Option<(usize, Changed)>,
}

impl Plan {
    /// Without faults.
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

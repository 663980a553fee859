//! The accidents of a run and their order, from one seed.
//!
//! The rule it keeps: the same seed, nodes and length give the same plan, whatever happens during the run.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use erasure_worker::sandbox::{Action, FaultPlan, FaultRule, Operation};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::proxy::{LinkFault, Way};

/// An accident of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFault {
    /// SIGKILL to the node that leads the queue of jobs.
    KillLeader,
    /// A clean stop of that node.
    StopLeader,
    /// SIGKILL to any node.
    KillNode,
    /// A clean stop of any node.
    StopNode,
    /// A node's memory alarm: publishers are blocked.
    Memory,
    /// A node's disk alarm: publishers are blocked.
    Disk,
}

/// The end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it drains.
    Stop,
}

/// One entry of a lane.
#[derive(Debug, Clone, Copy)]
pub struct Act<T> {
    /// The quiet time before it.
    pub pause: Duration,
    /// The accident.
    pub what: T,
    /// Its length; for a worker, the length of its life.
    pub lasts: Duration,
    /// The node, by remainder.
    pub pick: usize,
}

/// A lane: the accidents of one part, one after the other.
pub struct Lane<T> {
    random: StdRng,
    cards: Vec<T>,
    deck: Vec<T>,
    pause: [u64; 2],
    lasts: [u64; 2],
}

impl<T> Lane<T> {
    /// The number of acts until every kind has happened.
    pub fn kinds(&self) -> usize {
        self.cards.len()
    }
}

impl<T: Copy> Iterator for Lane<T> {
    type Item = Act<T>;

    fn next(&mut self) -> Option<Act<T>> {
        if self.deck.is_empty() {
            self.deck = self.cards.clone();
            self.deck.shuffle(&mut self.random);
        }
        let mut between = |[least, most]: [u64; 2]| Duration::from_millis(self.random.random_range(least..most));
        let (pause, lasts) = (between(self.pause), between(self.lasts));
        let pick = self.random.random_range(0..1000);
        Some(Act { pause, what: self.deck.pop()?, lasts, pick })
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// Every kind happens once or twice, close together.
    pub is_short: bool,
}

impl Plan {
    fn lane<T: Copy>(&self, number: u64, cards: &[T], pause: [u64; 2], lasts: [u64; 2]) -> Lane<T> {
        let seed = self.seed.wrapping_mul(64).wrapping_add(self.nodes as u64 * 8 + number);
        let random = StdRng::seed_from_u64(seed);
        Lane { random, cards: cards.to_vec(), deck: Vec::new(), pause, lasts }
    }

    /// The broker's lane: one accident ends before the next begins, so that a majority of nodes stays.
    pub fn broker_faults(&self) -> Lane<BrokerFault> {
        use BrokerFault::{Disk, KillLeader, KillNode, Memory, StopLeader, StopNode};
        match (self.is_short, self.nodes) {
            (true, 1) => self.lane(1, &[KillNode, Disk], [500, 2000], [500, 2000]),
            (true, _) => self.lane(1, &[KillLeader, StopNode, Memory], [500, 2000], [500, 2000]),
            (false, 1) => self.lane(1, &[KillNode, StopNode, Memory, Disk], [5_000, 40_000], [500, 20_000]),
            (false, _) => {
                let all = [KillLeader, StopLeader, KillNode, StopNode, Memory, Disk];
                self.lane(1, &all, [5_000, 30_000], [500, 20_000])
            }
        }
    }

    /// The lane of the connections that workers and publisher have.
    pub fn link_faults(&self) -> Lane<LinkFault> {
        use LinkFault::{Cut, HalfClose, Slow, Stall};
        let all = [
            Cut,
            Slow,
            HalfClose(Way::ToBroker),
            HalfClose(Way::FromBroker),
            Stall(Way::ToBroker),
            Stall(Way::FromBroker),
        ];
        let pause = if self.is_short { [500, 3_000] } else { [2_000, 20_000] };
        self.lane(2, &all, pause, if self.is_short { [500, 4_000] } else { [500, 15_000] })
    }

    /// The first worker's lives.
    pub fn lives(&self) -> Lane<End> {
        let lasts = if self.is_short { [1_500, 6_000] } else { [2_000, 45_000] };
        self.lane(3, &[End::Kill, End::Kill, End::Kill, End::Stop], [1, 1_500], lasts)
    }

    /// The second worker's lives, with its own disk. Most of the time it does not run.
    pub fn standbys(&self) -> Lane<End> {
        if self.is_short {
            // One life is enough here.
            let end = if self.seed.is_multiple_of(2) { End::Kill } else { End::Stop };
            self.lane(4, &[end], [8_000, 12_000], [4_000, 7_000])
        } else {
            self.lane(4, &[End::Kill, End::Stop], [40_000, 120_000], [5_000, 30_000])
        }
    }

    /// The systems' faults. No unreadable reply is among them: repeated ones make a job fail, rightly.
    pub fn faults(&self) -> FaultPlan {
        let any = |probability, action| FaultRule {
            operation: None,
            ..FaultRule::on(Operation::Unknown, action).probability(probability)
        };
        let status = |status, after_work| Action::Status { status, body: "not now".to_owned(), after_work };
        FaultPlan {
            seed: self.seed,
            rules: vec![
                any(0.02, status(503, false)),
                any(0.01, status(500, true)),
                any(0.01, status(502, true)),
                any(0.02, Action::DropAfter),
                any(0.01, Action::DropBefore),
                any(0.01, Action::RateLimited { retry_after: 1 }),
                any(0.03, Action::Delay { ms: 200, after_work: false }),
                any(0.02, Action::Delay { ms: 1500, after_work: true }),
            ],
        }
    }

    /// The first `count` acts of each lane, as text.
    pub fn lines(&self, count: usize) -> Vec<String> {
        fn acts<T: Copy + std::fmt::Debug>(lane: Lane<T>, count: usize) -> Vec<String> {
            lane.take(count)
                .map(|act| format!("after {:?} {:?} {:?} ({})", act.pause, act.what, act.lasts, act.pick))
                .collect()
        }
        let lanes = [
            ("broker", acts(self.broker_faults(), count)),
            ("connections", acts(self.link_faults(), count)),
            ("worker", acts(self.lives(), count)),
            ("standby", acts(self.standbys(), count)),
        ];
        lanes.into_iter().flat_map(|(name, acts)| acts.into_iter().map(move |act| format!("{name}: {act}"))).collect()
    }

    /// A digest of the plan. Equal digests mean equal plans.
    pub fn digest(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        (self.lines(1000), format!("{:?}", self.faults())).hash(&mut digest);
        digest.finish()
    }
}

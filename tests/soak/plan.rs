//! What goes wrong and in which order, drawn from one seed.
//!
//! The rule it keeps: seed, nodes and length give the same plan, whatever comes of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use erasure_worker::sandbox::{Action, FaultPlan, FaultRule, Operation};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::proxy::{Bruise, Way};

/// What a broker suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the node that leads the queue of jobs.
    KillLeader,
    /// A stop in good order of that node.
    StopLeader,
    /// SIGKILL to any node.
    KillNode,
    /// A stop in good order of any node.
    StopNode,
    /// A node says that it is out of memory: publishers are blocked.
    Memory,
    /// A node says that its disk is full: publishers are blocked.
    Disk,
}

/// How a worker is ended.
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
    /// How long it is quiet before.
    pub pause: Duration,
    /// What then happens.
    pub what: T,
    /// For how long, or, of a worker, how long it lived before.
    pub lasts: Duration,
    /// Which node, by remainder.
    pub pick: usize,
}

/// A lane: what happens to one part, one thing after the other.
pub struct Lane<T> {
    random: StdRng,
    cards: Vec<T>,
    deck: Vec<T>,
    pause: [u64; 2],
    lasts: [u64; 2],
}

impl<T> Lane<T> {
    /// How many acts it takes until every kind has happened.
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
    /// Every kind once or twice, close together.
    pub is_short: bool,
}

impl Plan {
    fn lane<T: Copy>(&self, number: u64, cards: &[T], pause: [u64; 2], lasts: [u64; 2]) -> Lane<T> {
        let seed = self.seed.wrapping_mul(64).wrapping_add(self.nodes as u64 * 8 + number);
        let random = StdRng::seed_from_u64(seed);
        Lane { random, cards: cards.to_vec(), deck: Vec::new(), pause, lasts }
    }

    /// The broker's lane: one blow ends before the next begins, so that a majority stays.
    pub fn blows(&self) -> Lane<Blow> {
        use Blow::{Disk, KillLeader, KillNode, Memory, StopLeader, StopNode};
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
    pub fn bruises(&self) -> Lane<Bruise> {
        use Bruise::{Cut, HalfClose, Slow, Stall};
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

    /// The second worker's lives, with a disk of its own; most of the time there is none.
    pub fn standbys(&self) -> Lane<End> {
        if self.is_short {
            // One is enough here.
            let end = if self.seed.is_multiple_of(2) { End::Kill } else { End::Stop };
            self.lane(4, &[end], [8_000, 12_000], [4_000, 7_000])
        } else {
            self.lane(4, &[End::Kill, End::Stop], [40_000, 120_000], [5_000, 30_000])
        }
    }

    /// What the systems do wrong. Nothing that cannot be read: a job that meets that again and again fails, as it should.
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
    pub fn told(&self, count: usize) -> Vec<String> {
        fn acts<T: Copy + std::fmt::Debug>(lane: Lane<T>, count: usize) -> Vec<String> {
            lane.take(count)
                .map(|act| format!("after {:?} {:?} {:?} ({})", act.pause, act.what, act.lasts, act.pick))
                .collect()
        }
        let lanes = [
            ("broker", acts(self.blows(), count)),
            ("connections", acts(self.bruises(), count)),
            ("worker", acts(self.lives(), count)),
            ("standby", acts(self.standbys(), count)),
        ];
        lanes.into_iter().flat_map(|(name, acts)| acts.into_iter().map(move |act| format!("{name}: {act}"))).collect()
    }

    /// A digest of the plan: the same one, the same plan.
    pub fn digest(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        (self.told(1000), format!("{:?}", self.faults())).hash(&mut digest);
        digest.finish()
    }
}

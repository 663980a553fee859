//! Operators who pause and resume tenants and systems, at any worker that answers.
//!
//! The rule it keeps: operators know nothing of the accidents. If a worker gives no answer they ask another one. At the
//! end they end every pause that a worker still shows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erasure_worker::engine::Engine;
use erasure_worker::engine::decisions::Published;
use erasure_worker::engine::pauses::Subject;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::forms::Case;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::life::Life;

/// Longer than a worker's answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
const TENANTS: [&str; 2] = ["acme", "birch"];
const SYSTEMS: [&str; 8] = ["cleeng", "loyalty", "codes", "easycms", "vitalsource", "shop", "club", "crm"];

/// An operator's access to a worker.
#[derive(Clone)]
pub struct Desk {
    pub life: u64,
    pub worker: usize,
    /// The number of the worker's disk.
    pub disk: u64,
    pub engine: Arc<Engine>,
    dead: CancellationToken,
    work: AbortHandle,
}

impl Desk {
    pub fn of(life: &Life, disk: u64) -> Desk {
        Desk {
            life: life.link.life,
            worker: life.worker,
            disk,
            engine: Arc::clone(&life.engine),
            dead: life.dead.clone(),
            work: life.work.abort_handle(),
        }
    }

    pub fn answers(&self) -> bool {
        !self.dead.is_cancelled() && !self.work.is_finished()
    }

    /// The worker's answer; `None` if the worker ends or is too slow.
    async fn asked<T>(&self, question: impl Future<Output = T>) -> Option<T> {
        let answer = self.dead.run_until_cancelled(tokio::time::timeout(PATIENCE, question)).await;
        answer.and_then(Result::ok)
    }
}

/// A pause and the answer that the operator got.
pub struct Given {
    /// The operator's name, unique for each pause.
    pub by: String,
    pub subject: Subject,
    /// The asked worker, and its disk.
    pub worker: (usize, u64),
    /// The time of the answer.
    pub at: Instant,
    pub told: Published,
}

/// The workers that operators can reach, and the operators' pauses.
#[derive(Clone)]
pub struct Operators {
    pub desks: Arc<Mutex<Vec<Desk>>>,
    pub given: Arc<Mutex<Vec<Given>>>,
    /// The accidents have ended: every pause must end.
    pub calm: CancellationToken,
    /// The operators' random numbers do not change those of the other parts.
    seed: u64,
}

impl Operators {
    pub fn new(seed: u64) -> Operators {
        Operators { desks: Arc::default(), given: Arc::default(), calm: CancellationToken::new(), seed }
    }

    fn random(&self, whose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.rotate_left(32) ^ whose)
    }

    /// Operators act in every other run.
    pub fn act(&self) -> bool {
        self.random(0).random_bool(0.5)
    }

    /// If operators act, the cases get two tenants.
    pub fn assign_tenants(&self, cases: &mut [Case]) {
        let mut random = self.random(1);
        if self.act() {
            cases.iter_mut().for_each(|case| case.body["tenant"] = TENANTS[random.random_range(0..2)].into());
        }
    }

    /// The waits at the end, while workers still stop and start.
    pub fn long_waits(&self) -> Vec<Duration> {
        let mut random = self.random(2);
        let count = if self.act() { random.random_range(0..5) } else { 0 };
        (0..count).map(|_| Duration::from_millis(random.random_range(0..300_000))).collect()
    }

    /// Acts until the accidents end, then ends all pauses.
    pub fn begin(&self) -> JoinHandle<()> {
        let operators = self.clone();
        tokio::spawn(async move {
            if !operators.act() {
                return;
            }
            let acting = tokio::task::JoinSet::from_iter((0..2).map(|whose| {
                let operators = operators.clone();
                async move { operators.pause_and_resume(whose).await }
            }));
            acting.join_all().await;
            operators.end_all().await;
        })
    }

    fn pick(&self, random: &mut StdRng) -> Option<Desk> {
        let mut desks = self.desks.lock().unwrap().clone();
        desks.retain(Desk::answers);
        (!desks.is_empty()).then(|| desks.swap_remove(random.random_range(0..desks.len())))
    }

    /// Waits; `false` once the accidents have ended.
    async fn rest(&self, time: Duration) -> bool {
        self.calm.run_until_cancelled(tokio::time::sleep(time)).await.is_some()
    }

    async fn pause_and_resume(&self, whose: u64) {
        let mut random = self.random(100 + whose);
        let longest = [20_000, 60_000, 600_000];
        for number in 0..random.random_range(1..6) {
            // The first pause comes before most of the jobs.
            let most = if number == 0 { 2_000 } else { longest[random.random_range(0..2)] };
            if !self.rest(Duration::from_millis(random.random_range(0..most))).await {
                return;
            }
            let subject = match random.random_bool(0.4) {
                true => Subject::Tenant(TENANTS[random.random_range(0..2)].to_owned()),
                false => Subject::System(SYSTEMS[random.random_range(0..SYSTEMS.len())].to_owned()),
            };
            self.pause(&subject, &format!("operator-{whose}-{number}"), &mut random).await;
            let most = longest[random.random_range(0..3)];
            self.rest(Duration::from_millis(random.random_range(0..most))).await;
            self.resume(&subject, &mut random).await;
        }
    }

    async fn pause(&self, subject: &Subject, name: &str, random: &mut StdRng) {
        for attempt in 0..5 {
            if let Some(desk) = self.pick(random) {
                // A new name for each attempt: the worker may have accepted an attempt without an answer.
                let by = format!("{name}-{attempt}");
                let question = desk.engine.pause_for_operator(subject, by.clone(), "a wrong list".to_owned());
                if let Some(Ok(told)) = desk.asked(question).await {
                    let (worker, at) = ((desk.worker, desk.disk), Instant::now());
                    self.given.lock().unwrap().push(Given { by, subject: subject.clone(), worker, at, told });
                    return;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn resume(&self, subject: &Subject, random: &mut StdRng) {
        loop {
            if let Some(desk) = self.pick(random)
                && let Some(Ok(_)) = desk.asked(desk.engine.resume_for_operator(subject, "operations")).await
            {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Ends every pause that a worker shows, until no worker shows one. A stopped worker publishes its own pauses after
    /// its start.
    async fn end_all(&self) {
        let mut random = self.random(3);
        let mut quiet = 0;
        while quiet < 2 {
            let desks = self.desks.lock().unwrap().clone();
            let there = || desks.iter().filter(|desk| desk.answers());
            let shown: BTreeSet<_> = there().flat_map(|desk| desk.engine.pauses().all().into_keys()).collect();
            for subject in &shown {
                self.resume(subject, &mut random).await;
            }
            let is_over = shown.is_empty() && there().all(|desk| desk.engine.decisions_unpublished().unwrap() == 0);
            quiet = if is_over { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}

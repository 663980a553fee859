//! Plays one seed: jobs, the persons who answer, and all accidents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erasure_worker::config::{Config, Surroundings as Environment};
use erasure_worker::sandbox::{FaultPlan, MemberKey, Sandbox, World};
use erasure_worker::store::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::config::system;
use testkit::connectors;
use testkit::forms::{Case, Form};

use crate::hub::Hub;
use crate::life::{Life, Surroundings};
use crate::operators::{Desk, Operators};
use crate::verdict::{Facts, Verdict};

/// The longest time of the last job after the accidents have ended.
const DEADLINE: Duration = Duration::from_secs(3 * 86_400);

const FORMS: [Form; 15] = [
    Form::CleengBackend,
    Form::CleengMediastore,
    Form::LoyaltyProgram,
    Form::LoyaltyMember,
    Form::EasyCms,
    Form::VitalSource,
    Form::Everything,
    Form::Unconfirmed,
    Form::OneTimePassword,
    Form::ByHand,
    Form::WrongPassword,
    Form::Preview,
    Form::Shop,
    Form::Club,
    Form::Crm,
];

/// Plays a seed from the first job to the last final event.
pub fn play(seed: u64) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { Director::new(seed).play().await })
}

pub struct Director {
    pub random: StdRng,
    pub around: Surroundings,
    pub cases: Vec<Case>,
    /// The number of workers.
    pub workers: usize,
    /// The workers that run.
    pub lives: Vec<Life>,
    /// The disks of the workers that are stopped.
    pub disks: BTreeMap<usize, MemoryStore>,
    /// Copies of disks, with their workers.
    pub shelf: Vec<(usize, MemoryStore)>,
    pub done: Arc<Mutex<Facts>>,
    pub verdict: Verdict,
    /// The operators, and their actions.
    pub operators: Operators,
    /// The number of each worker's disk. A lost or restored disk gets a new number.
    disk_of: BTreeMap<usize, u64>,
    begun: u64,
}

impl Director {
    fn new(seed: u64) -> Director {
        let mut random = StdRng::seed_from_u64(seed);
        let sandbox = Sandbox::default();
        connectors::add(&sandbox);
        let hub = Hub::new(random.random());
        let count = random.random_range(4..14);
        let mut cases = vec![Case::new(&sandbox, Form::Proof, 0)];
        cases.extend((1..count).map(|number| Case::new(&sandbox, FORMS[random.random_range(0..FORMS.len())], number)));
        for case in &mut cases {
            case.id = uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string();
            case.body["job_id"] = case.id.clone().into();
            if random.random_bool(0.2) {
                let seconds = random.random_range(30..3_600);
                let due = jiff::Timestamp::now() + Duration::from_secs(seconds);
                case.body["due_at"] = due.to_string().into();
            }
        }
        let operators = Operators::new(seed);
        operators.assign_tenants(&mut cases);
        let workers = [1, 1, 2, 2, 3][random.random_range(0..5)];
        let around = Surroundings::new(configuration(), hub, sandbox);
        let there = cases.iter().map(|case| (case.id.clone(), case.remains(&around.sandbox))).collect();
        let done = Facts { cancelled: BTreeSet::new(), memory_lost: workers > 1, there };
        Director {
            random,
            around,
            cases,
            workers,
            lives: Vec::new(),
            disks: BTreeMap::new(),
            shelf: Vec::new(),
            done: Arc::new(Mutex::new(done)),
            verdict: Verdict { seed, ..Verdict::default() },
            operators,
            disk_of: BTreeMap::new(),
            begun: 0,
        }
    }

    pub fn log(&mut self, what: &str) {
        let at = self.around.clock.elapsed().as_millis();
        self.verdict.story.push(format!("{at:>9} ms  {what}"));
    }

    pub fn begin(&mut self, worker: usize, disk: MemoryStore) {
        self.begun += 1;
        let seed = self.verdict.seed.wrapping_mul(1000).wrapping_add(self.begun * 8);
        let mut life = Life::begin(&self.around, disk, seed);
        life.worker = worker;
        let disk = *self.disk_of.entry(worker).or_default();
        self.operators.desks.lock().unwrap().push(Desk::of(&life, disk));
        self.lives.push(life);
    }

    /// The worker gets another disk.
    pub fn change_disk(&mut self, worker: usize) {
        *self.disk_of.entry(worker).or_default() += 1;
    }

    async fn play(mut self) -> Verdict {
        let troubled = self.random.random_bool(0.8);
        if troubled {
            self.around.sandbox.set_faults(FaultPlan::misbehave(self.random.random()));
        }
        self.around.hub.trouble(troubled);
        for worker in 0..self.workers {
            self.begin(worker, MemoryStore::new());
        }
        // The first job proves the token of the one-time-password platform, as a real worker did long before.
        self.around.hub.publish_job(&self.cases[0].body);
        let proof = self.cases[0].id.clone();
        let proven = self.around.hub.until(|hub| has_ended(hub, &proof));
        if tokio::time::timeout(DEADLINE, proven).await.is_err() {
            self.verdict.breaches.push("the first job did not end".to_owned());
        }

        let persons = tokio::spawn(persons(self.around.clone(), self.cases.clone(), Arc::clone(&self.done)));
        let operators = self.operators.begin();
        let mut left: Vec<usize> = (1..self.cases.len()).collect();
        let disturbances = self.random.random_range(0..if self.workers > 1 { 16 } else { 9 });
        for _ in 0..disturbances {
            // If operators pause something, few jobs are published at a time, so that some of them meet a pause.
            let most = if self.operators.act() { left.len().min(3) } else { left.len() };
            for _ in 0..self.random.random_range(0..=most) {
                let next = left.remove(0);
                self.around.hub.publish_job(&self.cases[next].body);
                if self.random.random_bool(0.1) {
                    // The publisher lost its confirm and publishes again.
                    self.around.hub.publish_job(&self.cases[next].body);
                }
            }
            let most =
                [20, 200, 2_000, 20_000, 60_000][self.random.random_range(0..if self.workers > 1 { 5 } else { 4 })];
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..most))).await;
            self.disturb().await;
            self.restart_stopped();
        }
        for next in left {
            self.around.hub.publish_job(&self.cases[next].body);
        }
        for pause in self.operators.long_waits() {
            tokio::time::sleep(pause).await;
            self.disturb().await;
            self.restart_stopped();
        }
        self.end_accidents().await;
        persons.abort();
        if tokio::time::timeout(DEADLINE, operators).await.is_err() {
            self.verdict.breaches.push("a pause cannot be ended".to_owned());
        }
        self.verdict.virtual_seconds = self.around.clock.elapsed().as_secs();
        let done = self.done.lock().unwrap();
        self.verdict.pauses(&self.around, &self.cases, &self.operators);
        self.verdict.measure(&self.around.hub, &self.around.sandbox, &self.cases, &done);
        drop(done);
        self.log_calls();
        for event in self.around.hub.events() {
            self.verdict.story.push(event.value.to_string());
        }
        self.verdict
    }

    /// Adds all calls to the story, in order of time.
    fn log_calls(&mut self) {
        let entries = self.around.sandbox.entries(0);
        for (entry, reached) in entries.iter().zip(self.around.reached.lock().unwrap().iter()) {
            let at = self.around.clock.of(reached.at).as_millis();
            let (life, operation, effect) = (reached.life, entry.operation, if entry.effect { ", done" } else { "" });
            let subject = entry.subject.as_deref().unwrap_or_default();
            let line = format!("{at:>9} ms  life {life} calls {operation:?} {subject}: {:?}{effect}", entry.status);
            self.verdict.story.push(line);
        }
        self.verdict.story.sort();
    }

    /// Restarts stopped workers, as a service manager does.
    pub fn restart_stopped(&mut self) {
        for place in (0..self.lives.len()).rev() {
            if self.lives[place].is_over() {
                let life = self.lives.remove(place);
                let worker = life.worker;
                let disk = life.kill();
                self.begin(worker, disk);
            }
        }
    }

    /// Ends all accidents and waits until every job has ended.
    async fn end_accidents(&mut self) {
        self.log("calm");
        self.around.sandbox.clear_faults();
        self.around.hub.trouble(false);
        // Every worker starts again.
        for (worker, disk) in std::mem::take(&mut self.disks) {
            self.begin(worker, disk);
        }
        self.operators.calm.cancel();
        let until = self.around.clock.elapsed() + DEADLINE;
        let ids: Vec<String> = self.cases.iter().map(|case| case.id.clone()).collect();
        while self.around.clock.elapsed() < until {
            self.restart_stopped();
            let all = self.around.hub.until(|hub| hub.is_empty() && ids.iter().all(|id| has_ended(hub, id)));
            if tokio::time::timeout(Duration::from_secs(600), all).await.is_ok() {
                // Time for acks and the last syncs, and for events about expired deadlines.
                let late = if self.workers > 1 { 2 * 3_600 } else { 1 };
                tokio::time::sleep(Duration::from_secs(late)).await;
                return;
            }
            if self.around.hub.is_empty() {
                // No copy is left, so the other jobs cannot end: the verdict names them.
                return;
            }
        }
    }
}

fn has_ended(hub: &Hub, id: &str) -> bool {
    hub.events().iter().any(|event| event.value["subject"] == id && event.value["data"]["final"] == true)
}

/// Answers each request for input once.
async fn persons(around: Surroundings, cases: Vec<Case>, done: Arc<Mutex<Facts>>) {
    let mut answered = BTreeSet::new();
    loop {
        let asked = |hub: &Hub| {
            hub.events()
                .into_iter()
                .find(|event| event.value["data"]["outcome"] == "needs_input" && !answered.contains(&event.body))
        };
        around.hub.until(|hub| asked(hub).is_some()).await;
        let event = asked(&around.hub).unwrap();
        answered.insert(event.body.clone());
        let Some(case) = cases.iter().find(|case| event.value["subject"] == case.id.as_str()) else { continue };
        match event.value["data"]["inputs"][0]["kind"].as_str().unwrap_or_default() {
            "confirmation" => around.hub.publish_job(&case.answered(None)),
            "otp" => {
                let id = &case.person.database_id;
                let mail =
                    |world: &mut World| world.loyalty("loyalty@codes").mailbox(id).map(|(code, _)| code.to_owned());
                match around.sandbox.world(mail) {
                    Some(code) => around.hub.publish_job(&case.answered(Some(&code))),
                    None => {
                        done.lock().unwrap().cancelled.insert(case.id.clone());
                        around.hub.publish_cancel(&case.body);
                    }
                }
            }
            "manual_deletion" => {
                let id = &case.person.integration_id;
                let delete =
                    |world: &mut World| world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, id, 0);
                around.sandbox.world(delete);
                around.hub.publish_job(&case.body);
            }
            // A right proof that a system refused by a fault.
            _ => around.hub.publish_job(&case.body),
        }
    }
}

/// An operator's configuration. No port is opened and no file is written.
pub fn configuration() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.toml");
    let pace = "requests_per_minute = 600000\nmax_in_flight = 4\nverify_interval = \"100ms\"\n\
                hold_probe_interval = \"1s\"\ntimeout = \"20s\"";
    let nowhere = "127.0.0.1:1";
    let systems = [
        system("cleeng", "cleeng", nowhere, pace),
        system("loyalty", "loyalty", nowhere, pace),
        system("codes", "loyalty@codes", nowhere, &format!("member_proof = \"otp\"\n{pace}")),
        system("easycms", "easycms", nowhere, pace),
        system(
            "vitalsource",
            "vitalsource",
            nowhere,
            &format!("abandon_url = \"http://{nowhere}/requester/abandon\"\n{pace}"),
        ),
        connectors::systems(nowhere, folder.path(), pace),
    ]
    .concat();
    let text = format!(
        r#"
[worker]
environment = "sandbox"
id = "simulated"
concurrency = 8
state_dir = "state"
master_key = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826"
inline_wait_max = "2s"
in_hand_max = "2m"
[retry]
initial_interval = "20ms"
max_interval = "400ms"
max_attempts = 20
[amqp]
url = "amqp://127.0.0.1:1"
{systems}
"#
    );
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), &Environment::of_process()).unwrap()
}

//! Accidents of the workers, their disks and their links to the broker.
//!
//! The rule it keeps: each worker has its own disk, and two workers never use the same one. A disk can be lost, or
//! restored from an older copy.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::sandbox::{Action, FaultRule, Operation};
use erasure_worker::store::MemoryStore;
use rand::RngExt as _;
use testkit::connectors::{CLUB, CRM, SHOP};

use crate::director::Director;
use crate::life::Life;

impl Director {
    /// One accident happens.
    pub async fn disturb(&mut self) {
        self.return_one();
        let place = self.place();
        let pause = Duration::from_millis(self.random.random_range(0..5_000));
        let kinds = if self.workers > 1 { 14 } else { 11 };
        match self.random.random_range(0..kinds) {
            0..=2 => self.kill(place, pause).await,
            3 => {
                self.verdict.cuts += 1;
                self.log("cut off");
                let link = Arc::clone(&self.lives[place].link);
                // If there are other workers, long enough that they get the jobs and read decisions.
                let is_long = self.workers > 1 && self.random.random_bool(0.5);
                let away = if is_long { pause * 60 } else { pause };
                tokio::spawn(async move { link.cut(away).await });
            }
            4 => {
                self.verdict.full_disks += 1;
                self.log("the disk is full");
                let store = self.lives[place].store();
                tokio::spawn(Life::fill_disk(store, pause));
            }
            5 => {
                self.verdict.clock_jumps += 1;
                let by = self.random.random_range(-600_000..600_000);
                self.log(&format!("the clock jumps by {by} ms"));
                self.around.clock.jump(by);
            }
            6 => {
                self.log("the disks are copied");
                self.shelf.extend(self.lives.iter().map(|life| (life.worker, life.store().backup())));
            }
            7 => {
                self.log("drained and started again");
                let life = self.lives.remove(place);
                let worker = life.worker;
                let disk = life.drain().await;
                self.begin(worker, disk);
            }
            8 => {
                let all = ["cleeng", "loyalty", "easycms", "vitalsource", SHOP, CLUB, CRM];
                let system = all[self.random.random_range(0..all.len())];
                self.log(&format!("{system} refuses our credential for a while, or is slow"));
                let slow = Action::Delay { ms: self.random.random_range(100..30_000), after_work: true };
                let action = if self.random.random_bool(0.5) { Action::CredentialRefused } else { slow };
                let rule = FaultRule { operation: None, system: Some(system.to_owned()), ..any(action) };
                let times = if self.workers > 1 { 120 } else { 6 };
                self.around.sandbox.add_fault(rule.times(self.random.random_range(1..times)));
            }
            9 => {
                let case = &self.cases[self.random.random_range(1..self.cases.len())];
                let id = case.id.clone();
                self.done.lock().unwrap().cancelled.insert(id.clone());
                self.around.hub.publish_cancel(&case.body);
                self.log(&format!("{id} is cancelled"));
            }
            10 => self.put_back(place, pause).await,
            11 => {
                self.verdict.handovers += 1;
                self.log("another worker becomes the active one");
                self.lives[place].link.pass_on();
            }
            _ => {
                // It stays stopped for longer than others wait.
                self.verdict.handovers += 1;
                self.log(&format!("worker {} is stopped", self.lives[place].worker));
                let life = self.lives.remove(place);
                let worker = life.worker;
                let disk = if self.random.random_bool(0.5) { life.drain().await } else { life.kill() };
                if self.lives.is_empty() {
                    self.begin(worker, disk);
                } else {
                    self.disks.insert(worker, disk);
                }
            }
        }
    }

    /// The worker of the accident: mostly the active one, because a standby's accident seldom has an effect.
    fn place(&mut self) -> usize {
        let active = self.lives.iter().position(|life| life.link.is_active());
        match active {
            Some(place) if self.random.random_bool(0.7) => place,
            _ => self.random.random_range(0..self.lives.len()),
        }
    }

    /// Sometimes starts a stopped worker.
    fn return_one(&mut self) {
        if self.random.random_bool(0.6)
            && let Some((worker, disk)) = self.disks.pop_first()
        {
            self.log(&format!("worker {worker} is started again"));
            self.begin(worker, disk);
        }
    }

    async fn kill(&mut self, place: usize, pause: Duration) {
        self.verdict.kills += 1;
        let loses_disk = self.random.random_bool(0.1);
        self.log(if loses_disk { "killed, and its disk lost" } else { "killed" });
        let life = self.lives.remove(place);
        let worker = life.worker;
        let disk = life.kill();
        tokio::time::sleep(pause).await;
        if loses_disk {
            self.verdict.stores_lost += 1;
            self.change_disk(worker);
            self.done.lock().unwrap().memory_lost = true;
        }
        self.begin(worker, if loses_disk { MemoryStore::new() } else { disk });
    }

    /// Restores the disk from an older copy.
    async fn put_back(&mut self, place: usize, pause: Duration) {
        let worker = self.lives[place].worker;
        let Some(copy) = self.shelf.iter().position(|(of, _)| *of == worker) else {
            return self.kill(place, pause).await;
        };
        self.verdict.put_back += 1;
        self.log("killed, and an old copy of its disk put back");
        self.done.lock().unwrap().memory_lost = true;
        let (_, disk) = self.shelf.remove(copy);
        self.change_disk(worker);
        drop(self.lives.remove(place).kill());
        tokio::time::sleep(pause).await;
        self.begin(worker, disk);
    }
}

fn any(action: Action) -> FaultRule {
    FaultRule::on(Operation::Unknown, action)
}

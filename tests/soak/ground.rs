//! The parts of one run: broker, proxies, stand-ins, workers; and the accidents of each.
//!
//! The rule it keeps: at the end every stopped part runs again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::PATIENCE;
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::worker::Worker;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::plan::{Act, BrokerFault, End, Plan};
use crate::proxy::{LinkFault, Proxy};

/// Settings so that four nodes and two workers can run on two processors.
const ERLANG: &str = "+S 1:1 +SDio 2 +A 8";

/// The attempts of an action that may fail on a loaded machine.
const ATTEMPTS: usize = 5;

/// A worker with its own log file.
pub struct Named {
    worker: Worker,
    name: String,
}

pub struct Ground {
    pub plan: Plan,
    pub rig: Rig<Events>,
    nodes: Vec<Arc<Rabbit>>,
    /// The proxy of workers and publisher. The test itself uses an undisturbed one.
    pub rough: Proxy,
    _smooth: Proxy,
    /// After this no accident begins, except kinds that were not tried yet.
    pub over: CancellationToken,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// The times with two workers, in milliseconds since 1970.
    windows: Mutex<Vec<(i64, i64)>>,
    pub breaches: Mutex<Vec<String>>,
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Runs blocking work beside the other tasks; `None` if it panicked.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Runs `rabbitmqctl` until it succeeds: on a loaded machine it may time out.
async fn ctl(node: &Arc<Rabbit>, arguments: Vec<&'static str>) -> String {
    for _ in 0..ATTEMPTS {
        let (node, arguments) = (Arc::clone(node), arguments.clone());
        if let Some(output) = aside(move || node.ctl(&arguments)).await {
            return output;
        }
    }
    panic!("rabbitmqctl {arguments:?} fails");
}

impl Ground {
    /// Starts the broker, the proxies and the stand-ins.
    pub async fn start(plan: Plan) -> Ground {
        let nodes = aside(move || Rabbit::cluster(plan.nodes, ERLANG)).await.expect("a broker");
        let ports: Vec<u16> = nodes.iter().map(Rabbit::port).collect();
        let (rough, smooth) = (Proxy::start(ports.clone()).await, Proxy::start(ports).await);
        let mut rig = Rig::with_events(smooth.url(), Events::follow).await;
        // A build during the run must not change the tested program.
        let program = rig.folder.path().join("erasure-worker");
        std::fs::copy(&rig.program, &program).unwrap();
        rig.program = program;
        rig.sandbox().set_faults(plan.faults());
        Ground {
            plan,
            rig,
            nodes: nodes.into_iter().map(Arc::new).collect(),
            rough,
            _smooth: smooth,
            over: CancellationToken::new(),
            counts: Mutex::default(),
            windows: Mutex::default(),
            breaches: Mutex::default(),
        }
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn counted(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    pub fn breach(&self, what: String) {
        self.breaches.lock().unwrap().push(what);
    }

    /// True if there were two workers at some time between these.
    pub fn was_shared(&self, from_ms: i64, to_ms: i64) -> bool {
        self.windows.lock().unwrap().iter().any(|(from, to)| *from <= to_ms && from_ms <= *to)
    }

    fn goes_on(&self, done: usize, kinds: usize) -> bool {
        !self.over.is_cancelled() || done < kinds
    }

    /// Disturbs the connections, one accident after the other.
    pub async fn link_faults(&self) {
        let lane = self.plan.link_faults();
        let kinds = lane.kinds();
        for (number, act) in lane.enumerate() {
            if !self.goes_on(number, kinds) {
                return;
            }
            tokio::time::sleep(act.pause).await;
            self.rough.disturb(act.what, act.lasts);
            self.count(match act.what {
                LinkFault::Cut => "cuts",
                LinkFault::HalfClose(_) => "half-closes",
                LinkFault::Stall(_) => "stalls",
                LinkFault::Slow => "slow spells",
            });
        }
    }

    /// Disturbs the broker: one node at a time, and each runs again before the next.
    pub async fn broker_faults(&self) {
        let lane = self.plan.broker_faults();
        let kinds = lane.kinds();
        for (number, act) in lane.enumerate() {
            if !self.goes_on(number, kinds) {
                return;
            }
            tokio::time::sleep(act.pause).await;
            match act.what {
                BrokerFault::Memory => {
                    self.alarm(&act, ["set_vm_memory_high_watermark", "0.00000001"], "0.4").await;
                    self.count("memory alarms");
                }
                BrokerFault::Disk => {
                    self.alarm(&act, ["set_disk_free_limit", "900000GB"], "50MB").await;
                    self.count("disk alarms");
                }
                BrokerFault::KillLeader | BrokerFault::StopLeader | BrokerFault::KillNode | BrokerFault::StopNode => {
                    self.take_away(&act).await
                }
            }
        }
    }

    fn node(&self, act: &Act<BrokerFault>) -> Arc<Rabbit> {
        Arc::clone(&self.nodes[act.pick % self.nodes.len()])
    }

    async fn alarm(&self, act: &Act<BrokerFault>, [setting, alarming]: [&'static str; 2], usual: &'static str) {
        let node = self.node(act);
        let lasts = act.lasts;
        ctl(&node, vec![setting, alarming]).await;
        tokio::time::sleep(lasts).await;
        ctl(&node, vec![setting, usual]).await;
    }

    async fn take_away(&self, act: &Act<BrokerFault>) {
        let node = match act.what {
            BrokerFault::KillLeader | BrokerFault::StopLeader => {
                self.count("leaders taken away");
                self.leader().await
            }
            _ => self.node(act),
        };
        let kills = matches!(act.what, BrokerFault::KillLeader | BrokerFault::KillNode);
        self.count(if kills { "node kills" } else { "node stops" });
        let away = Arc::clone(&node);
        aside(move || if kills { away.kill() } else { away.stop() }).await.expect("a node's end");
        tokio::time::sleep(act.lasts).await;
        for _ in 0..ATTEMPTS {
            let back = Arc::clone(&node);
            if aside(move || back.boot()).await.is_some() {
                return;
            }
            self.count("boots that failed");
            let hung = Arc::clone(&node);
            let _ = aside(move || hung.kill()).await;
        }
        panic!("a node does not start again");
    }

    /// The node that leads the queue of jobs.
    async fn leader(&self) -> Arc<Rabbit> {
        let queue = format!("{}.jobs", self.rig.prefix);
        for _ in 0..ATTEMPTS {
            let output = ctl(&self.nodes[0], vec!["--quiet", "list_queues", "name", "leader"]).await;
            let line = output.lines().find(|line| line.starts_with(&queue)).unwrap_or_default();
            if let Some(leader) = self.nodes.iter().find(|node| line.ends_with(&node.name())) {
                return Arc::clone(leader);
            }
        }
        panic!("{queue} has no leader");
    }

    fn worker(&self, state: &str, life: usize) -> Named {
        let url = self.rough.url();
        let import = self.rig.folder.path().join(format!("import-of-{state}"));
        let level = std::env::var("ERASURE_LOG").unwrap_or_else(|_| "info".to_owned());
        let settings = [
            ("ERASURE__AMQP__URL", url.as_str()),
            ("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", import.to_str().unwrap()),
            // A person cannot give a proof again that another worker has used.
            ("ERASURE__WAITS__INPUT_MAX", "20s"),
            ("ERASURE_LOG", &level),
        ];
        let name = format!("{state}-{life}");
        let worker =
            Worker::spawn(self.rig.command(state, &settings), &self.rig.folder.path().join(format!("{name}.log")));
        Named { worker, name }
    }

    /// Lets a worker run for this time. An earlier end is a breach.
    async fn live(&self, named: &mut Named, lasts: Duration) {
        if let Ok(status) = tokio::time::timeout(lasts, named.worker.ended_some_day()).await {
            self.ended_by_itself(named, &status.to_string());
        }
    }

    fn ended_by_itself(&self, named: &Named, status: &str) {
        let log = named.worker.log();
        let last = log.lines().rev().take(3).collect::<Vec<_>>().join("\n    ");
        self.breach(format!("the worker {} ended by itself ({status}):\n    {last}", named.name));
    }

    async fn end(&self, mut named: Named, end: End) {
        if !named.worker.is_there() {
            return;
        }
        match end {
            End::Kill => {
                self.count("worker kills");
                named.worker.kill().await;
            }
            End::Stop => {
                self.count("worker stops");
                named.worker.ask_to_stop();
                let status = named.worker.ended().await;
                // A worker that has just started may not handle signals yet.
                if !status.success() && named.worker.log().contains("\"working\"") {
                    self.ended_by_itself(&named, &format!("after a request to stop, {status}"));
                }
            }
        }
    }

    /// The first worker's lives. Returns the last one, still running.
    pub async fn lives(&self) -> Named {
        let lane = self.plan.lives();
        let kinds = lane.kinds();
        for (number, act) in lane.enumerate() {
            let mut worker = self.worker("state", number);
            if !self.goes_on(number, kinds) {
                return worker;
            }
            self.live(&mut worker, act.lasts).await;
            self.end(worker, act.what).await;
            tokio::time::sleep(act.pause).await;
        }
        unreachable!("a lane has no end");
    }

    /// Starts and ends the second worker, which has its own disk.
    pub async fn standbys(&self) {
        let lane = self.plan.standbys();
        let kinds = lane.kinds();
        for (number, act) in lane.enumerate() {
            if !self.goes_on(number, kinds) {
                return;
            }
            if number >= kinds && self.over.run_until_cancelled(tokio::time::sleep(act.pause)).await.is_none() {
                return;
            } else if number < kinds {
                tokio::time::sleep(act.pause).await;
            }
            self.count("standbys");
            let from = now_ms();
            let mut worker = self.worker("second", number);
            self.live(&mut worker, act.lasts).await;
            self.end(worker, act.what).await;
            self.windows.lock().unwrap().push((from, now_ms()));
        }
    }

    /// Waits until this many jobs have ended and the broker is empty; only the systems still misbehave. Then stops the
    /// worker.
    pub async fn settle(self: &Arc<Self>, mut named: Named, jobs: usize) {
        let mut ended = self.rig.events.ended();
        let all = async { ended.wait_for(|ended| *ended >= jobs).await.map(|ended| *ended) };
        tokio::select! {
            all = tokio::time::timeout(PATIENCE, all) => {
                if all.is_err() {
                    self.breach(format!("not all jobs ended within {PATIENCE:?}"));
                }
            }
            status = named.worker.ended_some_day() => self.ended_by_itself(&named, &status.to_string()),
        }
        let ground = Arc::clone(self);
        if tokio::spawn(async move { ground.rig.is_empty().await }).await.is_err() {
            self.breach("copies of settled jobs are still on the broker".to_owned());
        }
        if tokio::spawn(named.worker.stop()).await.is_err() {
            self.breach("the worker did not stop in good order".to_owned());
        }
    }
}

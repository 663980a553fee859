//! A worker with the most detailed log, its surroundings, and its whole output.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::collector::Collector;
use testkit::rabbit::{Rabbit, free_ports};
use testkit::rig::Rig;
use testkit::worker::Worker;

use crate::kept::Kept;

/// A worker with the most detailed log.
pub struct Stage {
    pub rig: Rig,
    pub ops: String,
    pub collector: Collector,
}

impl Stage {
    pub async fn start() -> Stage {
        let rig = Rig::start(Rabbit::shared().url()).await;
        let [port] = free_ports();
        Stage { rig, ops: format!("http://127.0.0.1:{port}"), collector: Collector::start().await }
    }

    /// From now on workers call the stand-ins through this address.
    pub fn call_through(&self, address: SocketAddr) {
        let text = std::fs::read_to_string(&self.rig.config).unwrap();
        let text = text.replace(&self.rig.stand.addr.to_string(), &address.to_string());
        std::fs::write(&self.rig.config, text).unwrap();
    }

    pub fn worker(&self, settings: &[(&str, &str)]) -> Worker {
        let mut all = vec![("ERASURE_LOG", "trace"), ("RUST_BACKTRACE", "full")];
        all.push(("ERASURE__OPS__LISTEN", self.ops.strip_prefix("http://").unwrap()));
        let endpoint = self.collector.endpoint();
        all.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
        all.extend_from_slice(settings);
        self.rig.worker("state", &all)
    }

    /// Restarts a worker after each crash until `done`, and keeps the disk's content at each crash.
    pub async fn until(
        &self,
        kept: &mut Kept,
        settings: &[(&str, &str)],
        done: impl Future<Output = ()>,
    ) -> (Worker, u32) {
        let mut done = std::pin::pin!(done);
        let mut worker = self.worker(settings);
        let mut deaths = 0;
        loop {
            tokio::select! {
                () = &mut done => return (worker, deaths),
                status = worker.ended() => {
                    assert!(!status.success(), "it ended by itself: {}", worker.log());
                    kept.add_folder("state directory, at crashes", &self.rig.state_dir("state"));
                    deaths += 1;
                    assert!(deaths < 100, "endless crashes: {}", worker.log());
                    worker = self.worker(settings);
                }
            }
        }
    }

    /// Gets every read-only route of the ops API.
    pub async fn ask_everything(&self, kept: &mut Kept, ids: &[String]) {
        let mut paths: Vec<String> = [
            "livez",
            "readyz",
            "metrics",
            "v1/jobs?limit=500",
            "v1/systems",
            "v1/guard",
            "v1/dead-letters",
            "v1/overview",
            "v1/paused",
            "",
        ]
        .map(str::to_owned)
        .into();
        paths.extend(["v1/receipts", ".well-known/jwks.json", "nothing", "v1/jobs?state=nonsense"].map(str::to_owned));
        for id in ids {
            paths.push(format!("v1/jobs/acme/{id}"));
            paths.push(format!("v1/dead-letters/acme/{id}"));
        }
        for path in paths {
            let place = if path == "metrics" { "metrics" } else { "ops answers" };
            let answer = reqwest::get(format!("{}/{path}", self.ops)).await.unwrap();
            kept.add(place, format!("{:?}", answer.headers()).into_bytes());
            kept.add(place, answer.bytes().await.unwrap().to_vec());
        }
    }

    /// Changes something by the ops API.
    pub async fn post(&self, kept: &mut Kept, path: &str, body: Value) -> Value {
        let client = reqwest::Client::new();
        let answer = client.post(format!("{}/{path}", self.ops)).json(&body).send().await.unwrap();
        let text = answer.text().await.unwrap();
        kept.add("ops answers", text.as_bytes());
        serde_json::from_str(&text).unwrap()
    }

    /// Imports the deletion file at the platform, and settles its result.
    pub async fn import(&self, kept: &mut Kept) {
        let file = self.post(kept, "v1/zeta-import/loyalty/export", json!({})).await;
        let file = std::fs::read_to_string(file["path"].as_str().unwrap()).unwrap();
        let result = self.rig.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        let settle = format!("{}/v1/zeta-import/loyalty/settle", self.ops);
        let answer = reqwest::Client::new().post(settle).body(result).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        kept.add("ops answers", answer.bytes().await.unwrap().to_vec());
    }

    /// Collects the workers' output: disk, log, spans, and the broker's messages. Returns the numbers of events, dead
    /// letters and parked copies.
    pub async fn keep_all(&self, kept: &mut Kept) -> [usize; 3] {
        let rig = &self.rig;
        kept.add_folder("state directory", &rig.state_dir("state"));
        kept.add_folder("deletion files, after the result", &rig.folder.path().join("import"));
        kept.add("logs at trace, with panics", std::fs::read(rig.folder.path().join("state.log")).unwrap());
        for body in self.collector.bodies() {
            kept.add("spans", body.to_vec());
        }
        let events = kept.add_queue("events", rig, "canary").await;
        let letters = kept.add_queue("dead letters", rig, "dead-letters").await;
        let mut parked = 0;
        for tier in ["5s", "30s", "3m", "15m", "1h"] {
            parked += kept.add_queue("parked copies", rig, &format!("wait.{tier}")).await;
        }
        // The worker has stopped: a copy whose wait ended meanwhile is here.
        parked += kept.add_queue("parked copies that came back", rig, "jobs").await;
        [events, letters, parked]
    }
}

//! One story with everything in it, and the search afterwards.

use std::collections::BTreeSet;
use std::net::TcpListener;

use erasure_worker::app;
use erasure_worker::sandbox::FaultPlan;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection};
use serde_json::{Value, json};

use crate::collector::Collector;
use crate::forms::{Case, Form, bodies, ids};
use crate::kept::Kept;
use crate::persons::answer_everybody;
use crate::planted::{Planter, Raw};
use crate::rig::Rig;
use crate::search::Search;
use crate::support::rabbit::Rabbit;
use crate::worker::Worker;

/// Where processes end, one after the other: each for a job of its own.
const ENDS: [&str; 9] = [
    "after_parse",
    "panic:after_parse",
    "before_outcome",
    "after_outcome",
    "panic:before_outcome",
    "before_park",
    "after_park_publish",
    "before_dead_letter",
    "before_ack",
];

/// A worker that logs all it can.
struct Stage {
    rig: Rig,
    ops: String,
    collector: Collector,
}

impl Stage {
    fn worker(&self, settings: &[(&str, &str)]) -> Worker {
        let mut all = vec![("ERASURE_LOG", "trace"), ("RUST_BACKTRACE", "full")];
        all.push(("ERASURE__OPS__LISTEN", self.ops.strip_prefix("http://").unwrap()));
        let endpoint = self.collector.endpoint();
        all.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
        all.extend_from_slice(settings);
        self.rig.worker("state", &all)
    }

    /// Keeps a worker alive until `done`; what lies on the disk at each death is kept.
    async fn until(&self, kept: &mut Kept, settings: &[(&str, &str)], done: impl Future<Output = ()>) -> (Worker, u32) {
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
                    assert!(deaths < 100, "the worker dies for ever: {}", worker.log());
                    worker = self.worker(settings);
                }
            }
        }
    }

    /// Asks every route of the ops API that only looks.
    async fn ask_everything(&self, kept: &mut Kept, ids: &[String]) {
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
    async fn post(&self, kept: &mut Kept, path: &str, body: Value) -> Value {
        let client = reqwest::Client::new();
        let answer = client.post(format!("{}/{path}", self.ops)).json(&body).send().await.unwrap();
        let text = answer.text().await.unwrap();
        kept.add("ops answers", text.as_bytes());
        serde_json::from_str(&text).unwrap()
    }

    /// Hands the deletion file to the platform, and its result back.
    async fn import(&self, kept: &mut Kept) {
        let file = self.post(kept, "v1/zeta-import/loyalty/export", json!({})).await;
        let file = std::fs::read_to_string(file["path"].as_str().unwrap()).unwrap();
        let result = self.rig.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        let settle = format!("{}/v1/zeta-import/loyalty/settle", self.ops);
        let answer = reqwest::Client::new().post(settle).body(result).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        kept.add("ops answers", answer.bytes().await.unwrap().to_vec());
    }
}

/// A queue that keeps every event as it came.
async fn keep_events(connection: &Connection, prefix: &str) {
    let channel = connection.create_channel().await.unwrap();
    let queue = ShortString::from(format!("{prefix}.canary"));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, FieldTable::default()).await.unwrap();
    let exchange = ShortString::from(format!("{prefix}.events"));
    let (all, bind) = (ShortString::from("#"), QueueBindOptions::default());
    channel.queue_bind(queue, exchange, all, bind, FieldTable::default()).await.unwrap();
}

/// Publishes messages with ids and headers of their own.
async fn publish_raw(rig: &Rig, messages: &[Raw]) {
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (id, headers, body) in messages {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(ShortString::from(*name), AMQPValue::LongString(value.as_str().into()));
        }
        let properties = BasicProperties::default().with_message_id(ShortString::from(id.as_str())).with_headers(table);
        let (exchange, key) = (ShortString::from(format!("{}.requests", rig.prefix)), ShortString::from("job"));
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        sent.await.unwrap().await.unwrap();
    }
    let _ = connection.close(200, ShortString::from("")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_about_a_person_is_written_or_said_but_to_the_systems() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let collector = Collector::start().await;
    let stage = Stage { rig, ops: format!("http://127.0.0.1:{port}"), collector };
    let rig = &stage.rig;
    let mut kept = Kept::default();
    let connection = rig.connect().await;
    keep_events(&connection, &rig.prefix).await;

    let mut planter = Planter::new(rig.sandbox());
    let wrong_code = planter.plant("one-time password", "OTP-7301500-WRONG");
    let mut plain = planter.one_of_each();
    let sealing_key = app::keyring(&rig.config("state")).unwrap().sealing_key();
    plain.push(planter.sealed(&sealing_key));
    let shaken = planter.one_of_each();
    let betrayed = [
        planter.betrayed(Form::EasyCms, 400),
        planter.betrayed(Form::CleengBackend, 400),
        planter.betrayed(Form::LoyaltyProgram, 400),
        planter.betrayed(Form::VitalSource, 422),
    ];
    let left = planter.case(Form::Unconfirmed);
    let poison = planter.case(Form::EasyCms);
    let nonsense = planter.nonsense();

    // Everything at once, with systems that misbehave and processes that end.
    let log = rig.folder.path().join("ended-at");
    let ends: Vec<String> = ENDS.iter().zip(&shaken).map(|(place, case)| format!("{place}@{}", case.id)).collect();
    let ends = ends.join(",");
    let settings = [("ERASURE_CRASH_AT", ends.as_str()), ("ERASURE_CRASH_LOG", log.to_str().unwrap())];
    for rule in FaultPlan::misbehave(7301).rules {
        rig.sandbox().add_fault(rule);
    }
    let cases: Vec<Case> = [plain, shaken, betrayed.to_vec()].concat();
    let (imports, others): (Vec<Case>, Vec<Case>) = cases.iter().cloned().partition(|case| case.form == Form::Import);
    publish_raw(rig, &nonsense).await;
    rig.publish(&bodies(&cases)).await;
    rig.publish(std::slice::from_ref(&left.body)).await;
    let done = async {
        let ended = async {
            rig.events.all_end(ids(&others)).await;
            let waits = imports.iter().chain([&left]);
            let all_ask = |heard: &crate::events::Heard| waits.clone().all(|case| !heard.of(&case.id).is_empty());
            rig.events.until("what waits to be asked for", all_ask).await;
        };
        tokio::select! { () = answer_everybody(rig, &others, &wrong_code) => {}, () = ended => {} }
    };
    let (worker, deaths) = stage.until(&mut kept, &settings, done).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"], "no image of the memory");
    worker.kill().await;
    kept.add_folder("state directory, at crashes", &rig.state_dir("state"));
    let ended = std::fs::read_to_string(&log).unwrap();
    let reached = ends.split(',').filter(|place| ended.lines().any(|line| line == *place)).count();
    assert!(ended.contains("panic:") && reached >= 6, "{ended}");

    // A message that ends every process that reads it.
    let place = format!("after_parse@{}", poison.id);
    let set_aside = async {
        rig.publish(std::slice::from_ref(&poison.body)).await;
        rig.events.until("the poison's rejection", |heard| !heard.of(&poison.id).is_empty()).await;
    };
    let (worker, poisoned) = stage.until(&mut kept, &[("ERASURE_CRASH_AT", &place)], set_aside).await;
    assert_eq!(poisoned, 4);
    worker.stop().await;

    // A worker in good health, and an operator who asks it everything.
    let worker = stage.worker(&[]);
    worker.says("\"working\"").await;
    let everybody: Vec<String> = cases.iter().chain([&left, &poison]).map(|case| case.id.clone()).collect();
    stage.ask_everything(&mut kept, &everybody).await;
    stage.import(&mut kept).await;
    rig.publish(&bodies(&imports)).await;
    rig.events.all_end(ids(&imports)).await;
    rig.sandbox().clear_faults();
    let discard = json!({ "job_id": betrayed[0].id, "reason": "erased by hand", "by": "operations" });
    stage.post(&mut kept, "v1/dead-letters/discard", discard).await;
    let before = rig.events.heard().of(&betrayed[1].id).len();
    let again = json!({ "job_id": betrayed[1].id });
    assert_eq!(stage.post(&mut kept, "v1/dead-letters/replay", again).await["replayed"], 1);
    rig.events.until("the replay", |heard| heard.of(&betrayed[1].id).len() > before).await;
    stage.ask_everything(&mut kept, &everybody).await;
    worker.stop().await;

    // What it left behind.
    kept.add_folder("state directory", &rig.state_dir("state"));
    kept.add_folder("deletion files, after the result", &rig.folder.path().join("import"));
    kept.add("logs at trace, with panics", std::fs::read(rig.folder.path().join("state.log")).unwrap());
    for body in stage.collector.bodies() {
        kept.add("spans", body.to_vec());
    }
    assert!(stage.collector.spans().len() > cases.len());
    let events = kept.add_queue("events", rig, "canary").await;
    let letters = kept.add_queue("dead letters", rig, "dead-letters").await;
    let mut parked = 0;
    for tier in ["5s", "30s", "3m", "15m", "1h"] {
        parked += kept.add_queue("parked copies", rig, &format!("wait.{tier}")).await;
    }
    let heard = rig.events.heard();
    let outcomes: BTreeSet<String> = cases.iter().flat_map(|case| heard.finals(&case.id).into_values()).collect();
    for outcome in ["completed", "failed", "previewed"] {
        assert!(outcomes.contains(outcome), "no job {outcome}, so that nothing was looked for in it: {outcomes:?}");
    }
    assert!(events > cases.len() && letters >= nonsense.len() && parked > 0, "{events} {letters} {parked}");

    let search = Search::new(planter.texts());
    let (texts, size) = (planter.texts().len(), search.size());
    let found = kept.search(&search);
    let control = rig.folder.path().join("control");
    let hidden: Vec<u8> = search.all_forms().flat_map(|form| [b"\0 ", form].concat()).collect();
    std::fs::write(&control, hidden).unwrap();
    let seen = search.distinct(&std::fs::read(&control).unwrap());
    let sent: Vec<u8> = bodies(&cases).iter().flat_map(|body| body.to_string().into_bytes()).collect();
    let people: usize = search.look(&sent).values().sum();
    eprintln!(
        "{} jobs, {} messages that are none, {deaths} + {poisoned} deaths; {texts} texts in {size} forms\n\
         control file: {seen} of {size} forms found; what was published: {people} hits",
        cases.len() + 2,
        nonsense.len(),
    );
    assert_eq!(seen, size, "the search finds what is there");
    assert!(people > cases.len());
    assert!(found.is_empty(), "personal data came out:\n{}", found.join("\n"));
}

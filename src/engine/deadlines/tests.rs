//! A job's due time, with an engine whose clock the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::broker::spool::{Events, Source, SpoolBroker, SpoolConfig};
use crate::engine::envelope::{Origin, Unsealed};
use crate::engine::journal::record_of;
use crate::engine::opening::Opened;
use crate::engine::stage::{DAY, RETAIN_FAILED, parts};
use crate::job::{Carried, Job, Lasting, draft};
use crate::store::{MemoryStore, Store as _};

struct Stage {
    engine: Arc<Engine>,
    store: Arc<MemoryStore>,
    clock: Arc<AtomicI64>,
    /// The loss of the channel of the jobs.
    lost: CancellationToken,
}

fn stage() -> Stage {
    let (events, _) = unbounded_channel();
    let broker = SpoolBroker::open(Source::jobs(Vec::new()), Events::Channel(events), SpoolConfig::default()).unwrap();
    let requested: jiff::Timestamp = "2026-09-07T10:00:00Z".parse().unwrap();
    let clock = Arc::new(AtomicI64::new(requested.as_millisecond()));
    let (store, lost) = (Arc::new(MemoryStore::new()), CancellationToken::new());
    let mut parts = parts(broker, &store, &clock);
    parts.settings.at_risk_before = 7 * DAY;
    let engine = Engine::new(parts);
    // The worker becomes active.
    engine.terms.begin(1, &lost);
    Stage { engine, store, clock, lost }
}

impl Stage {
    /// Opens a job that was requested now, with these fields added.
    async fn open(&self, number: u128, more: Value) -> Job {
        self.open_from(number, more, Origin::Publisher).await
    }

    /// Opens a copy that another worker parked.
    async fn open_copy(&self, number: u128, park: u64, carried: Carried) -> Job {
        let key = JobKey { tenant: "acme".to_owned(), job_id: Uuid::from_u128(number) };
        self.open_from(number, json!({}), Origin::Ours { key, run: 1, park, carried: Box::new(carried) }).await
    }

    async fn open_from(&self, number: u128, more: Value, origin: Origin) -> Job {
        let mut body = json!({
            "schema": "erasure.job/v1", "job_id": Uuid::from_u128(number), "tenant": "acme",
            "environment": "sandbox", "requested_at": "2026-09-07T10:00:00Z", "regulation": "gdpr",
            "targets": [{ "system": "loyalty", "method": "program_api", "member": { "member_id": format!("M{number}") } }],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = body.to_string().into_bytes();
        let job = draft::job(&body, None, &self.engine.accepts).unwrap();
        let unsealed = Unsealed { body: Zeroizing::new(body), origin, wait: None };
        let Ok(Opened::Work(journal)) = self.engine.open(&job, &unsealed, false) else { unreachable!("a new job") };
        journal.durable().await.unwrap();
        job
    }

    /// After this time, due rows are handled.
    async fn pass(&self, days: u32) {
        self.clock.fetch_add(i64::try_from((days * DAY).as_millis()).unwrap(), Ordering::Relaxed);
        while self.engine.forget_due().await.unwrap() > 0 {}
    }

    /// The data of the stored events, oldest first.
    fn owed(&self) -> Vec<Value> {
        let rows = self.store.scan(Table::Outbox, b"", None, usize::MAX).unwrap();
        let data = |value: &[u8]| {
            let begins = value.windows(2).position(|two| two == b"{\"").unwrap();
            let mut all = serde_json::Deserializer::from_slice(&value[begins..]).into_iter::<Value>();
            all.next().unwrap().unwrap()["data"].clone()
        };
        rows.iter().map(|(_, value)| data(value)).collect()
    }

    fn reported(&self) -> Vec<(String, u64)> {
        let reported = |data: &Value| (data["outcome"].as_str().unwrap().to_owned(), data["seq"].as_u64().unwrap());
        self.owed().iter().map(reported).collect()
    }
}

fn words(reported: &[(&str, u64)]) -> Vec<(String, u64)> {
    reported.iter().map(|(what, seq)| ((*what).to_owned(), *seq)).collect()
}

#[tokio::test]
async fn an_open_job_is_told_once_as_at_risk_and_once_as_overdue() {
    let stage = stage();
    stage.open(1, json!({})).await;
    // Due on Wednesday, 7 October.
    stage.pass(22).await;
    assert_eq!(stage.reported(), []);
    stage.pass(1).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1)]));
    stage.pass(6).await;
    assert_eq!(stage.reported().len(), 1);
    stage.pass(1).await;
    stage.pass(30).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1), ("overdue", 2)]));
    let reported = &stage.owed()[1];
    assert_eq!((&reported["due_at"], &reported["final"]), (&json!("2026-10-07T10:00:00.000Z"), &json!(false)));
    assert!(!reported.to_string().contains("M1"), "the event names nobody");
}

#[tokio::test]
async fn a_due_time_that_the_publisher_gives_wins_over_the_laws() {
    let stage = stage();
    stage.open(1, json!({ "due_at": "2026-09-08T10:00:00Z" })).await;
    stage.pass(0).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1)]));
    stage.pass(1).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1), ("overdue", 2)]));
}

#[tokio::test]
async fn a_preview_has_no_term_unless_it_is_given_one() {
    let stage = stage();
    let preview = stage.open(1, json!({ "mode": "preview" })).await;
    let given = stage.open(2, json!({ "mode": "preview", "due_at": "2027-09-08T10:00:00Z" })).await;
    assert!(preview.due_at.is_none() && given.due_at.is_some());
    stage.pass(100).await;
    assert_eq!(stage.reported(), []);
}

#[tokio::test]
async fn an_ended_job_is_not_told() {
    let stage = stage();
    let job = stage.open(1, json!({})).await;
    let mut batch = Batch::new();
    batch.remove(Table::Job, job.key.to_bytes());
    stage.store.submit(batch).await.unwrap();
    stage.pass(100).await;
    assert_eq!(stage.reported(), []);
}

#[tokio::test]
async fn a_job_in_hand_is_told_when_it_is_let_go() {
    let stage = stage();
    let job = stage.open(1, json!({})).await;
    let lock = stage.engine.job_locks.try_take(&job.key).unwrap();
    assert!(stage.engine.job_locks.try_take(&job.key).is_none(), "one copy at a time");
    stage.pass(24).await;
    assert_eq!(stage.reported(), []);
    drop(lock);
    stage.pass(1).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1)]));
}

#[tokio::test]
async fn a_job_that_is_put_off_is_not_told_before_its_new_time() {
    let stage = stage();
    stage.open(1, json!({})).await;
    // A continuation from the publisher.
    stage.open(1, json!({ "due_at": "2026-12-07T10:00:00Z", "extensions": {} })).await;
    stage.pass(83).await;
    assert_eq!(stage.reported(), []);
    stage.pass(1).await;
    assert_eq!(stage.reported(), words(&[("at_risk", 1)]));
}

#[tokio::test]
async fn a_job_whose_last_write_is_still_on_its_way_is_not_set_back_by_its_term() {
    let stage = stage();
    let job = stage.open(1, json!({})).await;
    stage.clock.fetch_add(i64::try_from((24 * DAY).as_millis()).unwrap(), Ordering::Relaxed);
    stage.store.hold();
    // A continuation whose delivery is lost before it is on the disk.
    let body = json!({
        "schema": "erasure.job/v1", "job_id": job.key.job_id, "tenant": "acme", "environment": "sandbox",
        "requested_at": "2026-09-07T10:00:00Z", "regulation": "gdpr", "extensions": {},
        "targets": [{ "system": "loyalty", "method": "program_api", "member": { "member_id": "M1" } }],
    });
    let unsealed =
        Unsealed { body: Zeroizing::new(body.to_string().into_bytes()), origin: Origin::Publisher, wait: None };
    let again = draft::job(&unsealed.body, None, &stage.engine.accepts).unwrap();
    let Ok(Opened::Work(journal)) = stage.engine.open(&again, &unsealed, false) else { unreachable!("a continuation") };
    drop(journal);
    let looks = async { while stage.engine.forget_due().await.unwrap() > 0 {} };
    let disk = async {
        while stage.reported().is_empty() {
            tokio::task::yield_now().await;
            stage.store.sync(usize::MAX);
        }
        stage.store.release();
    };
    tokio::join!(looks, disk);
    let record = record_of(&*stage.store, &job.key).unwrap().unwrap();
    assert_eq!((record.copy, record.seq), (1, 1));
    assert_eq!(stage.reported(), words(&[("at_risk", 1)]));
}

#[tokio::test]
async fn a_worker_that_may_not_be_the_active_one_tells_nothing_until_the_job_is_back() {
    let stage = stage();
    stage.open(1, json!({})).await;
    // The channel is lost: another worker may have the job.
    stage.lost.cancel();
    stage.pass(25).await;
    assert_eq!(stage.reported(), []);
    // The worker is active again, with other jobs first.
    stage.engine.terms.begin(2, &CancellationToken::new());
    stage.open(2, json!({ "due_at": "2027-09-08T10:00:00Z" })).await;
    stage.pass(6).await;
    assert_eq!(stage.reported(), []);
    // Overdue meanwhile: one event.
    stage.open(1, json!({})).await;
    stage.pass(0).await;
    assert_eq!(stage.reported(), words(&[("overdue", 1)]));
    stage.open(1, json!({})).await;
    stage.pass(1).await;
    assert_eq!(stage.reported().len(), 1);
}

#[tokio::test]
async fn a_job_that_another_worker_told_of_is_not_told_of_again() {
    let stage = stage();
    let job = stage.open(1, json!({})).await;
    let lasting = Lasting { reported: Some((1, Deadline::Overdue)), ..Lasting::default() };
    stage.open_copy(1, 4, Carried { seq: 7, lasting, ..Carried::default() }).await;
    stage.pass(40).await;
    assert_eq!(stage.reported(), []);
    let record = record_of(&*stage.store, &job.key).unwrap().unwrap();
    assert_eq!((record.seq, record.park_written), (7, 4));
}

#[tokio::test]
async fn a_job_that_went_elsewhere_is_forgotten_when_no_copy_of_it_came_for_long() {
    let stage = stage();
    let job = stage.open(1, json!({})).await;
    stage.lost.cancel();
    let kept = u32::try_from(RETAIN_FAILED.as_secs() / 86_400).unwrap();
    stage.pass(kept - 1).await;
    assert!(record_of(&*stage.store, &job.key).unwrap().is_some());
    stage.pass(2).await;
    assert!(record_of(&*stage.store, &job.key).unwrap().is_none());
    assert_eq!(stage.reported(), []);
}

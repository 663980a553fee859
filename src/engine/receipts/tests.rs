//! The chain in the store: full disks, lost stores, retention, rotation, packs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::super::starts::Arrived;
use super::*;
use crate::broker::spool::{Events, Source, SpoolBroker, SpoolConfig};
use crate::engine::journal::{Journal, ended_of};
use crate::engine::stage::{DAY, parts};
use crate::job::event::{self, About, Frame};
use crate::job::{Job, JobRecord, Reason, TargetEnd, TargetOutcome, TargetState, draft};
use crate::receipt::{Checker, FaultKind, PublicKeys, Report, input};
use crate::seal::MasterKey;
use crate::store::MemoryStore;

const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f";

/// An engine with a store of its own, whose clock the test moves.
struct Stage {
    engine: Arc<Engine>,
    store: Arc<MemoryStore>,
    clock: Arc<AtomicI64>,
}

fn keyring(current: &str, previous: &[&str]) -> Keyring {
    let key = |text: &&str| MasterKey::parse(text).unwrap();
    Keyring::new(key(&current), previous.iter().map(key).collect()).unwrap()
}

fn stage(store: MemoryStore, keyring: Keyring) -> Stage {
    let (events, _) = unbounded_channel();
    let broker = SpoolBroker::open(Source::jobs(Vec::new()), Events::Channel(events), SpoolConfig::default()).unwrap();
    let clock = Arc::new(AtomicI64::new(1_793_527_200_000));
    let store = Arc::new(store);
    let mut parts = parts(broker, &store, &clock);
    parts.accepts.systems.get_mut("loyalty").unwrap().preserved = vec!["offer_responses".into()];
    parts.keyring = Arc::new(keyring);
    let engine = Engine::new(parts);
    Stage { engine, store, clock }
}

fn fresh() -> Stage {
    stage(MemoryStore::new(), keyring(OLD, &[]))
}

impl Stage {
    fn job(&self, number: u128) -> Job {
        let body = json!({
            "schema": "erasure.job/v1", "job_id": Uuid::from_u128(number), "tenant": "acme",
            "environment": "sandbox", "requested_at": "2026-11-01T09:00:00Z", "receipt_salt": "pepper",
            "targets": [{ "system": "loyalty", "method": "program_api", "member": { "member_id": format!("M{number}") } }],
        });
        draft::job(body.to_string().as_bytes(), None, &self.engine.accepts).unwrap()
    }

    fn record(&self, job: &Job) -> JobRecord {
        JobRecord {
            identity: Vec::new(),
            run: 1,
            seq: 1,
            body: Vec::new(),
            copy: 0,
            park_written: 0,
            park_confirmed: 0,
            opened_at: self.engine.now(),
            requested_at: job.requested_at.into(),
            due_at: None,
            regulation: None,
            systems: vec!["loyalty".into()],
            subject_ref: self.engine.keyring.pseudonym("acme", &[&job.identity_bytes()]),
            waiting: None,
            announced: Vec::new(),
            owed: None,
            lasting: Default::default(),
            seen: Default::default(),
            stands: Default::default(),
            waits_at: None,
        }
    }

    /// Ends a job like the engine, up to the durable write; returns its final event.
    async fn end(&self, number: u128) -> Result<Vec<u8>, Interrupted> {
        let job = self.job(number);
        let sealer = self.engine.keyring.job_secret("acme", &job.key.job_id.to_string(), &job.identity_bytes());
        let record = self.record(&job);
        let mut target = TargetState::default();
        target.end = Some(TargetEnd::well(TargetOutcome::Erased));
        let targets = [target];
        let rules: Vec<_> = self.engine.accepts.systems.values().collect();
        let frame = Frame { environment: "sandbox", traceparent: None, now: self.engine.now() };
        let about = About { job: &job, record: &record, targets: &targets, rules: &rules };
        let last = about.ended(&frame, JobOutcome::Completed);
        let mut ended = Ended {
            identity: Vec::new(),
            outcome: JobOutcome::Completed,
            run: 1,
            seq: 1,
            park: 0,
            body: Vec::new(),
            at: frame.now,
            event: last.event,
            published: false,
            dead_letter: None,
            dead_lettered: false,
            systems: vec!["loyalty".into()],
            certified: None,
        };
        let journal = Journal::new(job.key.clone(), sealer, record, 1);
        // The record counts as durable: the end writes it only if it may not be.
        journal.durable().await?;
        let (lost, cancelled) = (CancellationToken::new(), CancellationToken::new());
        let arrived = Arrived::new(Vec::new());
        let run = Run { job: &job, journal: &journal, lost: &lost, cancelled: &cancelled, arrived: &arrived };
        self.engine.end_with_receipt(&run, &mut ended, &last.data, Batch::new()).await?;
        // A killed store answers nothing.
        if let Ok(stored) = ended_of(&*self.store, &job.key) {
            assert_eq!(stored.unwrap().event, ended.event, "published is what was stored");
        }
        Ok(ended.event.body)
    }

    async fn end_all(&self, numbers: std::ops::RangeInclusive<u128>) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        for number in numbers {
            events.push(self.end(number).await.unwrap());
        }
        events
    }

    fn keys(&self) -> PublicKeys {
        PublicKeys::read(&self.engine.public_keys().unwrap()).unwrap()
    }

    fn check(&self, events: &[Vec<u8>]) -> Report {
        judge(&self.keys(), &events.iter().map(|event| String::from_utf8(event.clone()).unwrap()).collect::<Vec<_>>())
    }

    fn pack(&self) -> String {
        self.engine.audit_pack(None, None).unwrap().to_json().to_string()
    }

    /// Killed, and started again on the durable rows.
    fn restarted(&self, keyring: Keyring) -> Stage {
        let stage = stage(self.store.crash(), keyring);
        stage.clock.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        stage
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

fn judge(keys: &PublicKeys, texts: &[String]) -> Report {
    let mut checker = Checker::new(keys, false);
    input::read("input", &texts.join("\n"), &mut checker);
    checker.finish()
}

fn claims(event: &[u8]) -> Map<String, Value> {
    let event: Value = serde_json::from_slice(event).unwrap();
    crate::receipt::keys::claimed(event["data"]["receipt"].as_str().unwrap()).unwrap()
}

fn full() -> StoreError {
    StoreError::Full { path: "memory".into(), free: 0, needed: 1 }
}

#[tokio::test]
async fn each_receipt_names_the_one_before_and_the_first_says_how_the_chain_began() {
    let stage = fresh();
    let events = stage.end_all(1..=5).await;
    let report = stage.check(&events);
    assert!(report.valid, "{report:?}");
    assert_eq!((report.receipts, report.chains.len(), report.chains[0].last), (5, 1, 5));
    assert_eq!(report.chains[0].started.as_deref(), Some("new_store"));
    let first = claims(&events[0]);
    assert_eq!(
        (&first["previous"], &first["started"], &first["worker"]),
        (&Value::Null, &json!("new_store"), &json!("worker-7"))
    );
    assert_eq!(first["targets"][0]["preserved"], json!([{ "what": "offer_responses", "why": "kept_by_platform" }]));
    assert!(claims(&events[1]).get("started").is_none());
}

#[tokio::test]
async fn a_final_event_is_there_to_be_published_only_after_its_outcome_is_durable() {
    let stage = fresh();
    stage.store.hold();
    let mut work = std::pin::pin!(stage.end(1));
    for _ in 0..10 {
        assert!(futures_util::poll!(work.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.store.settle(|_| Ok(())), 1);
    work.await.unwrap();
}

#[tokio::test]
async fn a_batch_that_the_store_refused_takes_none_with_it_and_leaves_no_hole() {
    let stage = fresh();
    stage.end(1).await.unwrap();
    stage.store.hold();
    let work = join_all((2..=6).map(|number| stage.end(number)));
    let disk = async {
        // All five are submitted, each built on the one before; the first finds no room.
        let mut settled = Vec::new();
        let mut refused = false;
        for _ in 0..100 {
            let count = stage.store.settle(|batch| {
                let is_receipt = batch.writes.iter().any(|write| write.table == Table::Receipt);
                match is_receipt && !std::mem::replace(&mut refused, true) {
                    true => Err(full()),
                    false => Ok(()),
                }
            });
            settled.push(count);
            tokio::task::yield_now().await;
        }
        settled
    };
    let (results, settled) = tokio::join!(work, disk);
    assert_eq!(settled[0], 5, "none waited for the disk before the next was handed in");
    assert!(settled[1..].iter().any(|count| *count > 0), "those behind the refused one were handed in again");
    stage.store.release();
    assert!(matches!(&results[0], Err(Interrupted::Store(StoreError::Full { .. }))));
    let mut events: Vec<_> = results.into_iter().skip(1).map(Result::unwrap).collect();
    events.push(stage.end(2).await.unwrap());
    let report = stage.check(&events);
    let missing: Vec<_> = report.faults.iter().map(|fault| (fault.kind, fault.number)).collect();
    assert_eq!(missing, [(FaultKind::Missing, Some(1))], "{report:?}");
    assert_eq!(report.chains[0].last, 6);
    assert!(judge(&stage.keys(), &[stage.pack()]).valid);
}

#[tokio::test]
async fn a_kill_between_handing_in_and_the_disk_leaves_the_chain_whole() {
    let before = fresh();
    let mut events = before.end_all(1..=3).await;
    before.store.hold();
    let work = join_all((4..=8).map(|number| before.end(number)));
    let kill = async {
        tokio::task::yield_now().await;
        // Two of the five reached the disk.
        before.store.sync(2);
        before.restarted(keyring(OLD, &[]))
    };
    let (results, after) = tokio::join!(work, kill);
    events.extend(results.into_iter().filter_map(Result::ok));
    // The others are redelivered.
    for number in 4..=8 {
        match ended_of(&*after.store, &after.job(number).key).unwrap() {
            Some(ended) => events.push(ended.event.body),
            None => events.push(after.end(number).await.unwrap()),
        }
    }
    let report = after.check(&events);
    assert!(report.valid, "{report:?}");
    assert_eq!((report.receipts, report.chains.len()), (8, 1));
}

#[tokio::test]
async fn a_lost_store_begins_a_new_chain_that_says_so() {
    let before = fresh();
    let mut events = before.end_all(1..=2).await;
    let after = fresh();
    events.extend(after.end_all(3..=4).await);
    let report = after.check(&events);
    assert!(report.valid, "{report:?}");
    assert_eq!(report.chains.len(), 2);
    assert!(report.chains.iter().all(|chain| chain.started.as_deref() == Some("new_store") && chain.receipts == 2));
    assert_eq!(claims(&events[2])["previous"], Value::Null);
}

#[tokio::test]
async fn what_retention_removed_is_vouched_for_by_a_checkpoint() {
    let stage = fresh();
    let old = stage.end_all(1..=300).await;
    stage.pass(500 * DAY);
    let kept = stage.end_all(301..=303).await;
    assert_eq!(stage.engine.forget_receipts().await.unwrap(), 0, "nothing is due yet");
    stage.pass(400 * DAY);
    let mut forgotten = 0;
    while let count @ 1.. = stage.engine.forget_receipts().await.unwrap() {
        forgotten += count;
    }
    assert_eq!(forgotten, 300);
    let pack = stage.pack();
    let report = judge(&stage.keys(), std::slice::from_ref(&pack));
    assert!(report.valid, "{report:?}");
    let chain = &report.chains[0];
    assert_eq!((chain.first, chain.last, chain.removed_through), (301, 303, Some(300)));
    // The removed receipts still fit, and another one in the last one's place does not.
    let all: Vec<String> = old.iter().map(|event| String::from_utf8(event.clone()).unwrap()).collect();
    let keys = stage.keys();
    let mut checker = Checker::new(&keys, false);
    input::read("pack", &pack, &mut checker);
    input::read("old", &all.join("\n"), &mut checker);
    assert!(checker.finish().valid);
    // The chain continues after all receipts are forgotten.
    stage.pass(900 * DAY);
    assert_eq!(stage.engine.forget_receipts().await.unwrap(), 3);
    let next = stage.end(304).await.unwrap();
    assert_eq!(claims(&next)["number"], 304);
    let report = judge(&stage.keys(), &[stage.pack()]);
    assert!(report.valid && report.chains[0].removed_through == Some(303), "{report:?}");
    drop(kept);
}

#[tokio::test]
async fn a_job_is_forgotten_with_its_receipt_and_its_checkpoints_with_it() {
    let stage = fresh();
    stage.end_all(1..=3).await;
    let jobs: Vec<JobKey> = (1..=3).map(|number| stage.job(number).key).collect();
    // The rows of a failed job whose checkpoints are kept for longer than the job.
    let mut batch = Batch::new();
    let entry = [&jobs[0].to_bytes()[..], &1_u64.to_be_bytes()].concat();
    let appended = crate::job::record::Appended { entries: Vec::new(), sealed: Vec::new() };
    batch.put(Table::Journal, entry, appended.to_bytes());
    batch.put(Table::Job, jobs[0].to_bytes(), stage.record(&stage.job(1)).to_bytes());
    // And of a job that continues in a later run, with a receipt to follow.
    let mut later = ended_of(&*stage.store, &jobs[1]).unwrap().unwrap();
    later.certified.as_mut().unwrap().number = 77;
    batch.put(Table::Ended, jobs[1].to_bytes(), later.to_bytes());
    stage.store.submit(batch).await.unwrap();
    stage.pass(900 * DAY);
    assert_eq!(stage.engine.forget_receipts().await.unwrap(), 3);
    for table in [Table::Receipt, Table::Job, Table::Journal] {
        assert_eq!(stage.store.scan(table, b"", None, 10).unwrap(), vec![], "{table:?}");
    }
    let left = stage.store.scan(Table::Ended, b"", None, 10).unwrap();
    assert_eq!(left.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [jobs[1].to_bytes()]);
}

#[tokio::test]
async fn the_chain_goes_on_through_a_rotation_and_the_retired_key_is_remembered() {
    let before = fresh();
    before.engine.remember_keys().await.unwrap();
    let mut events = before.end_all(1..=2).await;
    let during = before.restarted(keyring(NEW, &[OLD]));
    during.engine.remember_keys().await.unwrap();
    events.extend(during.end_all(3..=4).await);
    let after = during.restarted(keyring(NEW, &[]));
    after.engine.remember_keys().await.unwrap();
    events.extend(after.end_all(5..=6).await);
    let report = after.check(&events);
    assert!(report.valid && report.receipts == 6, "{report:?}");
    // With the new key alone the old receipts do not verify.
    let alone = PublicKeys::read(&keyring(NEW, &[]).public_keys()).unwrap();
    let texts: Vec<_> = events.iter().map(|event| String::from_utf8(event.clone()).unwrap()).collect();
    let unknown = judge(&alone, &texts).faults.into_iter().filter(|fault| fault.kind == FaultKind::UnknownKey);
    assert_eq!(unknown.count(), 2);
}

#[tokio::test]
async fn what_never_became_a_job_and_what_is_read_no_more_stand_in_the_chain_as_well() {
    let stage = fresh();
    let mut events = stage.end_all(1..=1).await;
    let job = stage.job(2);
    let frame = Frame { environment: "sandbox", traceparent: None, now: stage.engine.now() };
    let rejected = |reason| event::rejected(&frame, &job.key, reason, reason.sentence(), &"0".repeat(64), true);
    let refused = stage.engine.refusal(&job.key, b"{}", rejected(Reason::Invalid)).await.unwrap();
    stage.pass(DAY);
    let again = stage.engine.refusal(&job.key, b"{}", rejected(Reason::Invalid)).await.unwrap();
    assert_eq!(again.body, refused.body, "a repeat has the same receipt");
    let poison = rejected(Reason::Poison);
    let mut ended = Ended {
        identity: Vec::new(),
        outcome: JobOutcome::Failed,
        run: 1,
        seq: 1,
        park: 0,
        body: Vec::new(),
        at: frame.now,
        event: poison.event,
        published: false,
        dead_letter: None,
        dead_lettered: false,
        systems: Vec::new(),
        certified: None,
    };
    stage.engine.end_unread(&job.key, &mut ended, &poison.data, Batch::new()).await.unwrap();
    let stored = ended_of(&*stage.store, &job.key).unwrap().unwrap();
    assert_eq!(stored.event, ended.event, "published is what was stored");
    events.extend([refused.body, ended.event.body]);
    let report = stage.check(&events);
    assert!(report.valid && report.receipts == 3, "{report:?}");
    let reason = |event: &[u8]| claims(event)["reason"].clone();
    assert_eq!((reason(&events[1]), reason(&events[2])), (json!("invalid"), json!("poison")));
    // A receipt with another reason than its event is detected.
    let other = String::from_utf8(events[2].clone()).unwrap().replace("\"poison\"", "\"conflict\"");
    let faults = judge(&stage.keys(), &[other]).faults;
    assert!(faults.iter().any(|fault| fault.kind == FaultKind::Contradicted), "{faults:?}");
}

#[tokio::test]
async fn a_public_key_put_into_the_store_by_another_hand_is_not_published() {
    let stage = fresh();
    stage.engine.remember_keys().await.unwrap();
    let planted = keyring(NEW, &[]).public_keys()["keys"][0].clone();
    let mut batch = Batch::new();
    batch.put(Table::Meta, key_row(&planted), [&[0; 32], planted.to_string().as_bytes()].concat());
    stage.store.submit(batch).await.unwrap();
    stage.engine.remember_keys().await.unwrap();
    let keys = stage.engine.public_keys().unwrap();
    assert_eq!(keys, keyring(OLD, &[]).public_keys());
}

#[tokio::test]
async fn a_pack_holds_the_span_asked_for_without_a_gap() {
    let stage = fresh();
    stage.end_all(1..=3).await;
    stage.pass(10 * DAY);
    let from = stage.engine.now();
    stage.end_all(4..=6).await;
    // A clock that steps back for one run.
    stage.clock.fetch_sub(86_400_000, Ordering::Relaxed);
    stage.end(7).await.unwrap();
    stage.clock.fetch_add(86_400_000, Ordering::Relaxed);
    stage.end(8).await.unwrap();
    stage.pass(10 * DAY);
    let to = stage.engine.now();
    stage.end(9).await.unwrap();
    let pack = stage.engine.audit_pack(Some(from), Some(to)).unwrap();
    let report = judge(&stage.keys(), &[pack.to_json().to_string()]);
    assert!(report.valid, "{report:?}");
    assert_eq!((report.chains[0].first, report.chains[0].last, report.receipts), (4, 8, 5));
    let nothing = stage.engine.audit_pack(Some(to.plus(DAY)), None).unwrap();
    assert!(judge(&stage.keys(), &[nothing.to_json().to_string()]).valid);
}

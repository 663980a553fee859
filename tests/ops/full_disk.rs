//! A full disk that refuses some of a job's writes. At the redelivery the worker's memory must not be ahead of the
//! disk.

use std::sync::{Arc, Mutex};

use erasure_worker::broker::Publication;
use erasure_worker::engine::{Ceiling, Policy, Scope};
use erasure_worker::job::JobKey;
use erasure_worker::store::{Batch, MemoryStore, Pair, Store, StoreError, StoreStats, Table, Ticket};
use serde_json::{Value, json};

use crate::bench::{Bench, Setup, bench_with, id, shop_job};
use crate::http::{get, post};

type Refuses = Box<dyn FnMut(&Batch) -> bool + Send>;

/// A store without room for the batches that the test selects.
struct Narrow {
    inner: MemoryStore,
    refuses: Mutex<Refuses>,
}

impl Narrow {
    fn new() -> Arc<Narrow> {
        Arc::new(Narrow { inner: MemoryStore::new(), refuses: Mutex::new(Box::new(|_| false)) })
    }

    /// Refuses these batches from now on.
    fn refuse(&self, refuses: impl FnMut(&Batch) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Box::new(refuses);
    }

    /// Accepts all batches from now on.
    fn relent(&self) {
        self.refuse(|_| false);
    }

    /// The number of rows about held jobs.
    fn held_rows(&self) -> usize {
        self.inner.scan(Table::Meta, HELD, None, usize::MAX).unwrap().len()
    }
}

impl Store for Narrow {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.inner.scan(table, prefix, after, limit)
    }

    fn submit(&self, batch: Batch) -> Ticket {
        if !(self.refuses.lock().unwrap())(&batch) {
            return self.inner.submit(batch);
        }
        let (reply, ticket) = Ticket::new();
        let _ = reply.send(Err(StoreError::Full { path: String::new(), free: 0, needed: 1 }));
        ticket
    }

    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket {
        self.inner.note(key, value)
    }

    fn notes(&self) -> Result<Vec<Pair>, StoreError> {
        self.inner.notes()
    }

    fn check(&self) -> Ticket {
        self.inner.check()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
}

const HELD: &[u8] = b"guard/held/";

/// Whether a batch changes a row with this beginning.
fn changes(table: Table, prefix: &'static [u8]) -> impl Fn(&Batch) -> bool + Send {
    move |batch| batch.writes.iter().any(|write| write.table == table && write.key.starts_with(prefix))
}

/// The first batch that meets the condition.
fn first(fits: impl Fn(&Batch) -> bool + Send) -> impl FnMut(&Batch) -> bool + Send {
    let mut is_over = false;
    move |batch| !is_over && fits(batch) && !std::mem::replace(&mut is_over, true)
}

fn ceiling(most: u32) -> Policy {
    let ceiling = Ceiling { max_jobs_per_hour: Some(most), spike_factor: None };
    Policy { ceilings: [(Scope::Tenant("acme".to_owned()), ceiling)].into(), ..Policy::default() }
}

async fn on(store: &Arc<Narrow>, policy: Policy) -> Bench {
    bench_with(Setup { store: Arc::clone(store) as _, policy, ..Setup::default() }).await
}

fn wanted(number: u128, word: &str) -> Value {
    let mut job = shop_job(&id(number), word);
    job["approval"] = json!({ "requested_by": "ann" });
    job
}

/// An approved job, before its copy's delivery.
async fn approved(bench: &Bench) -> Publication {
    bench.send(&wanted(1, "ann"));
    let copy = bench.broker.parked(&id(1), 1).await;
    let path = format!("/v1/approvals/acme/{}", id(1));
    let preview = bench.until(&path, |one| one["preview"].is_string()).await["preview"].clone();
    let answer = post(bench.addr, &format!("{path}/approve"), &json!({ "preview": preview, "by": "bob" })).await;
    assert_eq!(answer.status, 200);
    copy
}

#[tokio::test]
async fn an_approval_whose_use_could_not_be_written_is_obeyed_at_the_next_delivery() {
    let store = Narrow::new();
    let bench = on(&store, Policy::default()).await;
    let copy = approved(&bench).await;
    store.refuse(|_| true);
    bench.broker.come_back(&copy);
    bench.broker.given_back().await;
    store.relent();
    bench.broker.redeliver();
    let ended = bench.broker.event(&id(1), "completed").await;
    assert_eq!(ended["data"]["approval"]["by"], "bob");
    assert_eq!(get(bench.addr, "/v1/approvals").await.json()["approvals"], json!([]));
}

#[tokio::test]
async fn an_unknown_jobs_parked_copy_gets_its_final_event_also_if_only_the_end_was_written() {
    // Parked by a worker with a ceiling of zero, and delivered to one with an empty store.
    let elsewhere = on(&Narrow::new(), ceiling(0)).await;
    elsewhere.send(&shop_job(&id(1), "absent"));
    let copy = elsewhere.broker.parked(&id(1), 1).await;
    drop(elsewhere);
    let store = Narrow::new();
    let bench = on(&store, Policy::default()).await;
    store.refuse(first(changes(Table::Job, b"")));
    bench.broker.come_back(&copy);
    bench.broker.given_back().await;
    let has_ended = store.scan(Table::Ended, b"", None, 1).unwrap().len() == 1;
    assert!(has_ended, "the write of the end was refused");
    bench.broker.redeliver();
    bench.broker.event(&id(1), "completed").await;
}

#[tokio::test]
async fn a_job_accepted_after_refused_writes_is_counted_once() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(2)).await;
    // All writes about the job, but not those of the worker's start.
    store.refuse(|batch| batch.writes.iter().any(|write| !matches!(write.table, Table::Meta | Table::Expiry)));
    bench.send(&shop_job(&id(1), "ann"));
    for _ in 0..3 {
        bench.broker.given_back().await;
        bench.broker.redeliver();
    }
    bench.broker.given_back().await;
    store.relent();
    bench.broker.redeliver();
    bench.broker.event(&id(1), "completed").await;
    assert_eq!(bench.engine.guard_views().unwrap()[0].passed, 1);
    bench.job(2, "eve", "completed").await;
    bench.job(3, "zoe", "held_by_guard").await;
}

#[tokio::test]
async fn a_job_stays_counted_if_only_the_write_after_its_acceptance_succeeds() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(1)).await;
    store.refuse(first(changes(Table::Job, b"")));
    // The write of its approval request contains the record.
    bench.send(&wanted(1, "ann"));
    bench.broker.given_back().await;
    assert_eq!(bench.engine.guard_views().unwrap()[0].passed, 1);
    bench.broker.redeliver();
    bench.broker.parked(&id(1), 1).await;
    assert_eq!(bench.engine.guard_views().unwrap()[0].passed, 1);
}

#[tokio::test]
async fn a_hold_whose_event_could_not_be_written_is_reported_at_the_next_delivery() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(0)).await;
    let mut count = 0;
    // The first such write accepts the job, the second parks it.
    let is_held = changes(Table::Meta, HELD);
    store.refuse(move |batch| {
        count += usize::from(is_held(batch));
        count == 2
    });
    bench.send(&shop_job(&id(1), "ann"));
    bench.broker.given_back().await;
    store.relent();
    bench.broker.redeliver();
    bench.broker.event(&id(1), "held_by_guard").await;
}

#[tokio::test]
async fn a_job_whose_hold_could_not_be_written_is_held_too() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(0)).await;
    store.refuse(changes(Table::Meta, HELD));
    bench.send(&wanted(1, "ann"));
    bench.broker.given_back().await;
    store.relent();
    bench.broker.redeliver();
    bench.broker.event(&id(1), "held_by_guard").await;
    assert_eq!((store.held_rows(), bench.engine.guard_views().unwrap()[0].held), (1, 1));
}

#[tokio::test]
async fn a_held_job_whose_end_was_refused_once_leaves_no_rows_of_its_hold() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(0)).await;
    bench.send(&shop_job(&id(1), "ann"));
    let copy = bench.broker.parked(&id(1), 1).await;
    let key = JobKey { tenant: "acme".to_owned(), job_id: id(1).parse().unwrap() };
    bench.engine.cancel_for_operator(&key, "operator").await.unwrap();
    store.refuse(first(changes(Table::Ended, b"")));
    bench.broker.come_back(&copy);
    bench.broker.given_back().await;
    bench.broker.redeliver();
    bench.broker.event(&id(1), "cancelled").await;
    assert_eq!((store.held_rows(), bench.engine.guard_views().unwrap()[0].held), (0, 0));
}

#[tokio::test]
async fn a_job_whose_release_was_refused_stays_held_and_is_released_later() {
    let store = Narrow::new();
    let bench = on(&store, ceiling(0)).await;
    bench.send(&shop_job(&id(1), "ann"));
    let copy = bench.broker.parked(&id(1), 1).await;
    let scope = Scope::Tenant("acme".to_owned());
    store.refuse(|_| true);
    assert!(bench.engine.release_guard(&scope, "operations").await.is_err());
    store.relent();
    assert_eq!(bench.engine.release_guard(&scope, "operations").await.unwrap(), 1);
    bench.broker.come_back(&copy);
    bench.broker.event(&id(1), "completed").await;
    assert_eq!(store.held_rows(), 0);
}

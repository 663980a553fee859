//! Lists of jobs, also of many jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use erasure_worker::job::record::Event;
use erasure_worker::job::{At, Ended, JobKey, JobOutcome};
use erasure_worker::store::{Batch, MemoryStore, Pair, Store, StoreError, StoreStats, Table, Ticket};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bench::{Setup, bench, bench_with, id, shop_job};
use crate::http::get;

const MANY: u128 = 100_000;

/// Counts the rows that are read.
struct Counting {
    inner: MemoryStore,
    rows: AtomicUsize,
    at_once: AtomicUsize,
}

impl Store for Counting {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let read = self.inner.scan(table, prefix, after, limit)?;
        self.rows.fetch_add(read.len(), Ordering::Relaxed);
        self.at_once.fetch_max(read.len(), Ordering::Relaxed);
        Ok(read)
    }

    fn submit(&self, batch: Batch) -> Ticket {
        self.inner.submit(batch)
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

fn ended(number: u128) -> (JobKey, Ended) {
    let tenant = format!("tenant-{}", number % 10);
    let key = JobKey { tenant, job_id: Uuid::from_u128(number * 7919) };
    let outcome = if number.is_multiple_of(1000) { JobOutcome::Failed } else { JobOutcome::Completed };
    let event = Event { id: String::new(), what: outcome.as_str().to_owned(), body: b"{}".to_vec(), at: At(1) };
    let ended = Ended {
        identity: Vec::new(),
        body: Vec::new(),
        outcome,
        run: 1,
        seq: 1,
        park: 0,
        at: At(1_767_323_045_000),
        event,
        published: true,
        dead_letter: None,
        dead_lettered: false,
        systems: vec![if number.is_multiple_of(50_000) { "library" } else { "shop" }.to_owned()],
        certified: None,
    };
    (key, ended)
}

async fn many() -> Arc<Counting> {
    let store = Counting { inner: MemoryStore::new(), rows: AtomicUsize::new(0), at_once: AtomicUsize::new(0) };
    let mut batch = Batch::new();
    for number in 0..MANY {
        let (key, ended) = ended(number);
        batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
    }
    store.submit(batch).await.unwrap();
    Arc::new(store)
}

/// Follows the cursor to the end. Returns the jobs and the number of pages.
async fn walk(addr: std::net::SocketAddr, store: &Counting, query: &str) -> (Vec<Value>, usize) {
    let (mut jobs, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        store.rows.store(0, Ordering::Relaxed);
        let page = get(addr, &format!("/v1/jobs?{query}{after}")).await.json();
        jobs.extend(page["jobs"].as_array().unwrap().iter().cloned());
        pages += 1;
        let rows = store.rows.load(Ordering::Relaxed);
        assert!(rows <= 31_000, "{rows} rows for one page");
        match page["next"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return (jobs, pages),
        }
    }
}

#[tokio::test]
async fn each_of_100_000_ended_jobs_is_listed_once_in_order_and_no_page_exceeds_its_bound() {
    let store = many().await;
    let bench = bench_with(Setup { store: store.clone(), runs: false, ..Setup::default() }).await;
    let (jobs, pages) = walk(bench.addr, &store, "limit=500").await;
    assert_eq!((jobs.len() as u128, pages), (MANY, 200));
    let keys: Vec<_> = jobs.iter().map(|job| (job["tenant"].to_string(), job["job_id"].to_string())).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert!(store.at_once.load(Ordering::Relaxed) <= 256);
}

#[tokio::test]
async fn rare_jobs_among_100_000_are_found_also_after_empty_pages() {
    let store = many().await;
    let bench = bench_with(Setup { store: store.clone(), runs: false, ..Setup::default() }).await;
    let (jobs, pages) = walk(bench.addr, &store, "state=failed").await;
    assert_eq!(jobs.len(), 100);
    assert!(jobs.iter().all(|job| job["state"] == "failed") && pages >= 10, "{pages}");
    let (jobs, _) = walk(bench.addr, &store, "system=library").await;
    assert_eq!(jobs.len(), 2);
    let (jobs, pages) = walk(bench.addr, &store, "tenant=tenant-3&limit=500").await;
    assert_eq!((jobs.len(), pages), (10_000, 20));
    assert!(jobs.iter().all(|job| job["tenant"] == "tenant-3"));
    // Open jobs have their own rows: a search for them does not read the ended ones.
    let (jobs, pages) = walk(bench.addr, &store, "state=open").await;
    assert_eq!((jobs.len(), pages), (0, 1));
    assert!(store.rows.load(Ordering::Relaxed) == 0);
}

#[tokio::test]
async fn every_state_lists_its_jobs_and_no_others() {
    let bench = bench().await;
    bench.job(1, "ann", "completed").await;
    bench.job(2, "rejected", "failed").await;
    let mut asked = shop_job(&id(3), "ann");
    asked["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.send(&asked);
    bench.send(&shop_job(&id(4), "visible"));
    let mut preview = shop_job(&id(5), "ann");
    preview["mode"] = json!("preview");
    bench.send(&preview);
    bench.send(&shop_job(&id(6), "slow"));
    crate::http::post(bench.addr, &format!("/v1/jobs/acme/{}/cancel", id(7)), &json!({})).await;
    bench.job(7, "ann", "cancelled").await;
    bench.shop.waiting.subscribe().wait_for(|count| *count == 1).await.unwrap();
    let states = ["completed", "failed", "needs_input", "waiting", "previewed", "open", "cancelled"];
    for (number, state) in (1..).zip(states) {
        let is_listed = |page: &Value| page["jobs"].as_array().is_some_and(|jobs| jobs.len() == 1);
        let page = bench.until(&format!("/v1/jobs?state={state}"), is_listed).await;
        assert_eq!(page["jobs"][0]["job_id"], id(number), "{state}");
        assert_eq!((&page["next"], &page["unreadable"]), (&Value::Null, &json!(0)));
    }
    let all = get(bench.addr, "/v1/jobs?system=shop&tenant=acme").await.json();
    let listed: Vec<_> = all["jobs"].as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(listed, states);
    for nothing in ["system=library", "tenant=other", "state=failed&system=library"] {
        assert_eq!(get(bench.addr, &format!("/v1/jobs?{nothing}")).await.json()["jobs"], json!([]), "{nothing}");
    }
    bench.shop.door.cancel();
}

#[tokio::test]
async fn an_undecodable_record_is_counted_and_hides_no_other() {
    let store = Arc::new(MemoryStore::new());
    let mut batch = Batch::new();
    let (key, ended) = ended(1);
    batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
    batch.put(Table::Ended, JobKey { tenant: "acme".into(), job_id: Uuid::nil() }.to_bytes(), b"\xff?".to_vec());
    store.submit(batch).await.unwrap();
    let bench = bench_with(Setup { store, runs: false, ..Setup::default() }).await;
    let page = get(bench.addr, "/v1/jobs").await.json();
    assert_eq!((page["jobs"].as_array().unwrap().len(), page["unreadable"].as_u64()), (1, Some(1)));
    let path = format!("/v1/jobs/acme/{}", Uuid::nil());
    assert_eq!(get(bench.addr, &path).await.problem(500), "internal");
}

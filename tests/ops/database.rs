//! A worker whose store is in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::store::postgres::{Address, Options, PostgresStore};
use erasure_worker::store::{MemoryStore, Store};
use erasure_worker::systems::System as _;
use testkit::postgres::Postgres;

use crate::bench::{Setup, bench_with, id, shop_job};
use crate::http::get;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_reads_its_job_in_one_trip_and_no_thread_waits_for_more() {
    let database = Postgres::with(&["fsync=on"]);
    let config = database.url("postgres", "postgres").parse().unwrap();
    let options = Options {
        schema: "erasure".to_owned(),
        connections: 4,
        statement_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(60),
        checks_standbys: true,
    };
    let opened = tokio::task::block_in_place(|| PostgresStore::open(&Address { config, tls: None }, options));
    let store = Arc::new(opened.unwrap().store);
    let bench = bench_with(Setup { store: Arc::clone(&store) as Arc<dyn Store>, ..Setup::default() }).await;
    for number in 1..6 {
        bench.job(number, "absent", "completed").await;
    }
    let before = store.trips();
    for number in 10..60 {
        bench.job(number, "absent", "completed").await;
    }
    let trips = store.trips() - before;
    println!("{trips} reads waited for, in 50 jobs");
    assert!(trips <= 10, "{trips} in 50 jobs");

    // The state of the store is a part of the worker's state.
    let ready = |status: u16| async move {
        let answer = get(bench.addr, "/readyz").await;
        assert_eq!(answer.status, status, "{:?}", answer.json());
        answer.json()
    };
    assert_eq!(ready(200).await["degraded"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_destructive_call_begins_that_could_outlast_the_lease() {
    // A call may take 30 seconds here.
    let store = Arc::new(MemoryStore::new());
    store.lease(Some(Duration::from_secs(31)));
    let bench = bench_with(Setup { store: Arc::clone(&store) as Arc<dyn Store>, ..Setup::default() }).await;
    let job_id = id(1);
    // The first deletion would fail for ever.
    bench.others_do_well();
    bench.send(&shop_job(&job_id, "rejected"));
    while !bench.shop.credential().is_proven() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    *bench.shop.mended.lock().unwrap() = true;
    store.lease(Some(Duration::from_secs(40)));
    bench.broker.event(&job_id, "completed").await;
}

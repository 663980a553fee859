//! The probes: reasons for a restart, for "not ready", and for neither.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::broker::Link;
use erasure_worker::store::{MemoryStore, StoreError};

use crate::bench::{Setup, bench, bench_with, id};
use crate::http::get;

#[tokio::test]
async fn a_working_worker_is_alive_and_ready() {
    let bench = bench().await;
    let answer = get(bench.addr, "/readyz").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ready")));
    let alive = bench.until("/livez", |alive| alive["loops"].as_array().is_some_and(|loops| loops.len() == 3)).await;
    assert_eq!(alive["alive"], true, "{alive}");
    let names: Vec<_> = alive["loops"].as_array().unwrap().iter().map(|one| one["loop"].as_str().unwrap()).collect();
    assert_eq!(names, ["intake", "outbox", "store"]);
}

#[tokio::test]
async fn a_stuck_loop_is_named_and_needs_a_restart() {
    let change = |settings: &mut erasure_worker::ops::OpsSettings| settings.stuck_after = Duration::from_millis(50);
    let store = Arc::new(MemoryStore::new());
    // Calls of this store never end.
    store.hold();
    let bench = bench_with(Setup { store, change, ..Setup::default() }).await;
    let alive = bench.until("/livez", |alive| alive["alive"] == false).await;
    assert_eq!(alive["stuck"], serde_json::json!(["store"]));
    assert_eq!(get(bench.addr, "/livez").await.status, 503);
}

#[tokio::test]
async fn without_its_broker_a_worker_is_alive_but_not_ready() {
    let bench = bench().await;
    bench.broker.link.send_replace(Link::Down("connection refused".to_owned()));
    let answer = get(bench.addr, "/readyz").await;
    assert_eq!(answer.status, 503);
    let body = answer.json();
    assert_eq!(body["status"], "unavailable");
    assert_eq!(body["unavailable"][0]["part"], "broker");
    assert_eq!(body["unavailable"][0]["detail"], "connection refused");
    assert_eq!(get(bench.addr, "/livez").await.status, 200);
    bench.broker.link.send_replace(Link::Up);
    assert_eq!(get(bench.addr, "/readyz").await.status, 200);
}

#[tokio::test]
async fn without_a_readable_store_a_worker_is_not_ready_and_answers_503() {
    let store = Arc::new(MemoryStore::new());
    let bench = bench_with(Setup { store: store.clone(), runs: false, ..Setup::default() }).await;
    store.fail_with(Some(StoreError::Broken("a sync failed".to_owned())));
    let answer = get(bench.addr, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["unavailable"][0]["part"], "store");
    for path in ["/v1/jobs".to_owned(), format!("/v1/jobs/acme/{}", id(1)), "/metrics".to_owned()] {
        assert_eq!(get(bench.addr, &path).await.problem(503), "unavailable", "{path}");
    }
}

#[tokio::test]
async fn a_failed_engine_is_not_ready_and_names_the_reason() {
    let store = Arc::new(MemoryStore::new());
    let bench = bench_with(Setup { store: store.clone(), ..Setup::default() }).await;
    bench.until("/livez", |alive| alive["loops"].as_array().is_some_and(|loops| loops.len() == 3)).await;
    store.fail_with(Some(StoreError::Broken("a sync failed".to_owned())));
    bench.engine.failure().wait_for(Option::is_some).await.unwrap();
    let body = get(bench.addr, "/readyz").await.json();
    let parts: Vec<_> = body["unavailable"].as_array().unwrap().iter().map(|one| one["part"].clone()).collect();
    assert!(parts.contains(&"engine".into()), "{body}");
}

#[tokio::test]
async fn a_held_system_and_a_damaged_store_are_reported_and_the_worker_stays_ready() {
    let change = |settings: &mut erasure_worker::ops::OpsSettings| {
        settings.store_moved_aside = Some("/var/lib/worker/store.damaged".into());
    };
    let bench = bench_with(Setup { change, ..Setup::default() }).await;
    bench.send(&crate::bench::shop_job(&id(1), "held"));
    let body = bench.until("/readyz", |ready| ready["degraded"].as_array().is_some_and(|all| all.len() == 2)).await;
    assert_eq!(get(bench.addr, "/readyz").await.status, 200);
    assert_eq!(body["status"], "degraded");
    assert_eq!(body["degraded"][0]["what"], "system_held");
    assert_eq!(body["degraded"][0]["system"], "shop");
    assert_eq!(body["degraded"][1]["what"], "store_moved_aside");
    assert!(body["degraded"][1]["detail"].as_str().unwrap().contains("store.damaged"));
}

#[tokio::test]
async fn a_draining_worker_is_no_failure() {
    let bench = bench().await;
    bench.engine.drain();
    let answer = get(bench.addr, "/readyz").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("draining")));
}

#[tokio::test]
async fn the_server_stops_on_request_also_with_an_open_connection() {
    let mut bench = bench().await;
    let silent = tokio::net::TcpStream::connect(bench.addr).await.unwrap();
    assert_eq!(get(bench.addr, "/livez").await.status, 200);
    bench.stop.cancel();
    bench.server.take().unwrap().await.unwrap();
    assert!(tokio::net::TcpStream::connect(bench.addr).await.is_err());
    drop(silent);
}

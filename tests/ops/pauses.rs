//! Paused systems and tenants.

use std::sync::Arc;

use erasure_worker::store::MemoryStore;
use serde_json::{Value, json};
use testkit::PATIENCE;

use crate::bench::{Bench, Setup, bench, bench_with, id, shop_job};
use crate::http::{get, post};

fn why() -> Value {
    json!({ "reason": "the vendor asked", "by": "operations" })
}

/// Delivers the job's parked copy, as its wait queue does after the wait.
async fn redeliver_copy(bench: &Bench, job: &Value) {
    bench.send(job);
}

#[tokio::test]
async fn jobs_of_a_paused_system_wait_without_a_call_and_go_on_after_the_resume() {
    let bench = bench().await;
    let paused = post(bench.addr, "/v1/systems/shop/pause", &why()).await.json();
    assert_eq!((&paused["name"], &paused["paused"]["by"]), (&json!("shop"), &json!("operations")));
    let job = shop_job(&id(1), "ann");
    bench.send(&job);
    let path = format!("/v1/jobs/acme/{}", id(1));
    let waiting = bench.until(&path, |job| job["waiting"]["reason"] == "paused").await;
    assert_eq!((&waiting["state"], &waiting["timeline"]), (&json!("waiting"), &json!([])));
    assert_eq!(get(bench.addr, "/v1/systems").await.json()["systems"][1]["calls"], 0);

    let resumed = post(bench.addr, "/v1/systems/shop/resume", &json!({})).await.json();
    assert_eq!(resumed["paused"], Value::Null);
    redeliver_copy(&bench, &job).await;
    bench.broker.event(&id(1), "completed").await;
}

#[tokio::test]
async fn a_job_that_waits_in_hand_while_its_system_is_paused_makes_no_call() {
    let bench = bench_with(Setup {
        engine: |engine| engine.inline_wait_max = PATIENCE,
        gate: |gate| gate.max_in_flight = 1,
        ..Setup::default()
    })
    .await;
    bench.send(&shop_job(&id(1), "slow"));
    bench.until("/v1/systems", |all| all["systems"][1]["calls"] == 1).await;
    bench.send(&shop_job(&id(2), "slow"));
    bench.until("/v1/systems", |all| all["systems"][1]["jobs_in_hand"] == 2).await;
    post(bench.addr, "/v1/systems/shop/pause", &why()).await;
    bench.shop.door.cancel();
    // It gets the first job's slot, but does not use it.
    bench.until("/v1/systems", |all| all["systems"][1]["calls"] == 2).await;
    bench.engine.drain();
    bench.until("/v1/systems", |all| all["systems"][1]["jobs_in_hand"] == 0).await;
    assert_eq!(*bench.shop.waiting.borrow(), 1);
}

#[tokio::test]
async fn a_paused_tenant_waits_and_another_one_goes_on() {
    let bench = bench().await;
    let paused = post(bench.addr, "/v1/tenants/acme/pause", &why()).await.json();
    assert_eq!((&paused["tenant"], &paused["paused"]["reason"]), (&json!("acme"), &json!("the vendor asked")));
    bench.send(&shop_job(&id(1), "ann"));
    let mut other = shop_job(&id(2), "ann");
    other["tenant"] = json!("other");
    bench.send(&other);
    bench.broker.event(&id(2), "completed").await;
    bench.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
    let list = get(bench.addr, "/v1/paused").await.json();
    assert_eq!((&list["paused"][0]["tenant"], list["paused"].as_array().unwrap().len()), (&json!("acme"), 1));
    post(bench.addr, "/v1/tenants/acme/resume", &json!({})).await;
    redeliver_copy(&bench, &shop_job(&id(1), "ann")).await;
    bench.broker.event(&id(1), "completed").await;
}

#[tokio::test]
async fn a_pause_outlives_the_process_and_names_operator_and_reason() {
    let store = Arc::new(MemoryStore::new());
    let before = bench_with(Setup { store: Arc::clone(&store) as _, ..Setup::default() }).await;
    post(before.addr, "/v1/systems/library/pause", &why()).await;
    drop(before);
    let bench = bench_with(Setup { store, ..Setup::default() }).await;
    let list = bench.until("/v1/paused", |list| list["paused"] != json!([])).await;
    assert_eq!(
        (&list["paused"][0]["system"], &list["paused"][0]["reason"]),
        (&json!("library"), &json!("the vendor asked"))
    );
}

#[tokio::test]
async fn a_pause_without_a_name_or_of_an_unknown_system_is_refused() {
    let bench = bench().await;
    for body in [
        json!({}),
        json!({ "reason": "x" }),
        json!({ "reason": "x", "by": " " }),
        json!({ "reason": "x\ny", "by": "z" }),
    ] {
        assert_eq!(post(bench.addr, "/v1/systems/shop/pause", &body).await.problem(400), "bad-request", "{body}");
    }
    assert_eq!(post(bench.addr, "/v1/systems/nowhere/pause", &why()).await.problem(404), "unknown-system");
    assert_eq!(post(bench.addr, "/v1/systems/nowhere/resume", &why()).await.problem(404), "unknown-system");
    assert_eq!(post(bench.addr, "/v1/tenants/Acme/pause", &why()).await.problem(400), "bad-request");
    assert_eq!(get(bench.addr, "/v1/paused").await.json(), json!({ "paused": [] }));
}

#[tokio::test]
async fn a_paused_system_gets_no_harmless_reads() {
    let (paused, other) = (bench().await, bench().await);
    for one in [&paused, &other] {
        one.send(&shop_job(&id(1), "held"));
        one.until("/v1/systems", |all| all["systems"][1]["held"] == true).await;
    }
    post(paused.addr, "/v1/systems/shop/pause", &why()).await;
    let [before, there] = [&paused, &other].map(|one| *one.shop.probes.borrow());
    // The count at the other system is the normal number of reads.
    other.shop.probes.subscribe().wait_for(|count| *count >= there + 50).await.unwrap();
    let after = *paused.shop.probes.borrow();
    assert!(after <= before + 1, "{} harmless reads of a paused system", after - before);
    post(paused.addr, "/v1/systems/shop/resume", &json!({})).await;
    paused.shop.probes.subscribe().wait_for(|count| *count > after).await.unwrap();
}

//! The first look, in one answer; and what a code means.

use serde_json::json;

use crate::bench::{bench, id, shop_job};
use crate::http::get;
use crate::metrics::busy;

#[tokio::test]
async fn the_overview_tells_counts_what_is_oldest_and_what_is_due_first() {
    let bench = busy().await;
    let mut urgent = shop_job(&id(5), "visible");
    urgent["due_at"] = json!("2026-01-20T00:00:00Z");
    bench.send(&urgent);
    let all = bench.until("/v1/overview", |all| all["jobs"]["waiting"]["pending"] == 2).await;
    assert_eq!(all["health"]["status"], "ready");
    assert_eq!(all["worker"]["environment"], "sandbox");
    let jobs = &all["jobs"];
    assert_eq!((&jobs["open"], &jobs["queued"], &jobs["dead_letters"]), (&json!(2), &json!(7), &json!(1)));
    assert_eq!(jobs["overdue"], 2, "both are long due");
    assert_eq!(all["oldest"]["job_id"], id(3));
    let due: Vec<_> = all["due_first"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(due, [id(5), id(3)]);
    assert_eq!(all["systems"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_held_or_paused_is_told_as_degraded() {
    let bench = bench().await;
    let body = json!({ "reason": "too slow", "by": "operations" });
    crate::http::post(bench.addr, "/v1/systems/shop/pause", &body).await;
    let ready = get(bench.addr, "/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    assert_eq!(ready.json()["degraded"][0]["what"], "paused");
    assert!(ready.json()["degraded"][0]["detail"].as_str().unwrap().contains("too slow"));
}

#[tokio::test]
async fn a_code_is_explained_in_the_words_of_the_runbook() {
    let bench = bench().await;
    let code = get(bench.addr, "/v1/codes/ERS-0013").await.json();
    assert_eq!((code["reason"].as_str(), code["retry"].as_str()), (Some("system_unavailable"), Some("operator")));
    assert!(code["text"].as_str().unwrap().contains("**Do.**"));
    assert_eq!(code["runbook"], "docs/runbook.md#ers-0013-system_unavailable");
    assert_eq!(get(bench.addr, "/v1/codes/ERS-9999").await.problem(404), "unknown-code");
}

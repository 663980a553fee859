//! The overview in one answer, and the explanation of a code.

use serde_json::json;

use crate::bench::{bench, id, shop_job};
use crate::http::get;
use crate::metrics::busy;

#[tokio::test]
async fn the_overview_shows_counts_the_oldest_wait_and_the_first_due_job() {
    let bench = busy().await;
    let mut urgent = shop_job(&id(5), "visible");
    urgent["due_at"] = json!("2026-01-20T00:00:00Z");
    bench.send(&urgent);
    let all = bench.until("/v1/overview", |all| all["jobs"]["waiting"]["pending"] == 2).await;
    assert_eq!(all["health"]["status"], "ready");
    assert_eq!(all["worker"]["environment"], "sandbox");
    let jobs = &all["jobs"];
    assert_eq!((&jobs["open"], &jobs["queued"], &jobs["dead_letters"]), (&json!(2), &json!(7), &json!(1)));
    assert_eq!((&jobs["overdue"], &jobs["at_risk"], &jobs["will_miss"]), (&json!(2), &json!(0), &json!(0)));
    let forecast = get(bench.addr, "/v1/forecast").await.json();
    assert_eq!((&forecast["open"], &forecast["overdue"], &forecast["will_miss"]), (&json!(2), &json!(2), &json!(0)));
    let shop = &forecast["systems"][1];
    assert_eq!((&shop["name"], &shop["backlog"], &shop["held"]), (&json!("shop"), &json!(2), &json!(false)));
    assert_eq!(all["oldest"]["job_id"], id(3));
    let due: Vec<_> = all["due_first"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(due, [id(5), id(3)]);
    assert_eq!(all["systems"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn holds_and_pauses_are_reported_as_degraded() {
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

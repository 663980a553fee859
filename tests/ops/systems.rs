//! The systems, and the end of a hold.

use serde_json::json;

use crate::bench::{bench, id, shop_job};
use crate::http::{get, post};

#[tokio::test]
async fn a_held_system_shows_why_and_is_released() {
    let bench = bench().await;
    let quiet = get(bench.addr, "/v1/systems").await.json();
    let names: Vec<_> = quiet["systems"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["library", "shop"]);
    assert_eq!((&quiet["systems"][1]["held"], &quiet["systems"][1]["kind"]), (&json!(false), &json!("easycms")));

    bench.send(&shop_job(&id(1), "held"));
    let held = bench.until("/v1/systems", |all| all["systems"][1]["held"] == true).await;
    let detail = held["systems"][1]["hold"]["detail"].as_str().unwrap();
    assert!(detail.contains("unauthorised_ours") && detail.contains("HTTP 401"), "{detail}");
    assert_eq!(held["systems"][0]["held"], false);
    let job = bench.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["state"] == "waiting").await;
    assert_eq!(job["waiting"]["reason"], "held");

    let released = post(bench.addr, "/v1/systems/shop/release", &json!({})).await;
    assert_eq!((released.status, released.json()["held"].as_bool()), (200, Some(false)));
    assert_eq!(get(bench.addr, "/v1/systems").await.json()["systems"][1]["held"], false);
    assert_eq!(post(bench.addr, "/v1/systems/nowhere/release", &json!({})).await.problem(404), "unknown-system");
}

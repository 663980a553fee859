//! The systems, the end of a hold, and who comes first where a system is scarce.

use std::time::Duration;

use erasure_worker::engine::{Gate, GateSettings, Rank};
use erasure_worker::job::{At, JobKey, Kind, Rules};
use serde_json::json;

use crate::bench::{bench, id, shop_job};
use crate::http::{get, post};
use crate::stand_ins::Shop;

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

fn limited(requests_per_minute: u32) -> Gate {
    let settings = GateSettings {
        requests_per_minute: Some(requests_per_minute),
        max_in_flight: 8,
        hold_probe_interval: Duration::from_secs(3600),
        breaker_pause: Duration::from_millis(1),
        most_in_hand: 100,
        fingerprint: secrecy::SecretString::from("shop"),
    };
    Gate::new(Shop::new("shop", Kind::EasyCms), Rules::new(Kind::EasyCms), settings)
}

fn job(number: u128) -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(number) }
}

#[tokio::test(start_paused = true)]
async fn where_a_system_is_scarce_the_job_that_is_due_first_comes_back_first() {
    let gate = limited(1);
    let day = |number: i64| Rank::of(false, Some(At(number * 86_400_000)));
    let (begun, undated) = (Rank::of(true, None), Rank::of(false, None));
    let enter = |number: u128, rank| {
        let gate = &gate;
        async move { gate.enter(&job(number), rank, "delete", Duration::ZERO).await.map(|_| ()) }
    };
    enter(0, undated).await.unwrap();
    for number in 1..=5 {
        enter(number, day(30)).await.unwrap_err();
    }
    let last = enter(6, undated).await.unwrap_err().wait;
    let urgent = enter(7, day(1)).await.unwrap_err().wait;
    let next = enter(8, day(2)).await.unwrap_err().wait;
    let minute = Duration::from_secs(60);
    assert_eq!((urgent, next, last), (minute, 2 * minute, 6 * minute));
    tokio::time::advance(minute).await;
    enter(7, day(1)).await.unwrap();
    assert_eq!(enter(8, day(2)).await.unwrap_err().wait, minute, "who has passed stands in line no more");
    assert_eq!(enter(7, begun).await.unwrap_err().wait, minute, "who has passed once goes before those who have not");
    assert_eq!(enter(8, day(2)).await.unwrap_err().wait, 2 * minute);
}

#[tokio::test(start_paused = true)]
async fn what_a_system_takes_a_minute_follows_from_its_rate_and_what_a_target_has_cost() {
    let gate = limited(60);
    assert_eq!(gate.targets_per_minute(), Some(60.0), "nothing is known yet: a call a target");
    for call in 0..12 {
        let endpoint = if call % 3 == 0 { "look" } else { "delete" };
        let pass = gate.enter(&job(1), Rank::of(true, None), endpoint, Duration::ZERO).await.unwrap();
        gate.ended(pass, None);
    }
    gate.target_ended();
    gate.target_ended();
    assert_eq!(gate.targets_per_minute(), Some(15.0), "four deletes a target");
}

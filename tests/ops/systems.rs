//! The systems, the end of a hold, and the order of jobs at a limited system.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use erasure_worker::engine::gate::Client;
use erasure_worker::engine::{Gate, GateSettings, Rank, Rates, StayAway};
use erasure_worker::job::{At, Failure, FailureKind, JobKey, Kind, Reason, Rules};
use serde_json::json;
use tokio::time::Instant;

use crate::bench::{Setup, bench, bench_with, id, shop_job};
use crate::http::{get, post};
use crate::shop::Shop;

#[tokio::test]
async fn a_held_system_shows_the_reason_and_is_released() {
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
    before(Shop::new("shop", Kind::EasyCms), requests_per_minute)
}

fn before(shop: Arc<Shop>, requests_per_minute: u32) -> Gate {
    let settings = GateSettings {
        rates: Rates::each(requests_per_minute),
        max_in_flight: 8,
        timeout: Duration::from_secs(30),
        hold_probe_interval: Duration::from_secs(3600),
        breaker_pause: Duration::from_secs(2),
        most_in_hand: 100,
        fingerprint: secrecy::SecretString::from("shop"),
    };
    Gate::new(shop, Rules::new(Kind::EasyCms), settings)
}

fn job(number: u128) -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(number) }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_credential_is_used_only_after_a_successful_harmless_read() {
    let (former, new) = (Shop::new("shop", Kind::EasyCms), Shop::new("shop", Kind::EasyCms));
    let gate = before(Arc::clone(&former), 600);
    let client = || Client { system: Arc::clone(&new) as _, fingerprint: secrecy::SecretString::from("renewed") };
    let uses = |shop: &Arc<Shop>| std::ptr::addr_eq(Arc::as_ptr(&gate.system()), Arc::as_ptr(shop));
    for shop in [&former, &new] {
        shop.refuses.store(true, Ordering::Release);
    }
    assert!(!gate.works_since(Instant::now()).await && gate.is_held(), "the former one is refused");
    assert_eq!(gate.renew(client()).await.unwrap_err().kind, FailureKind::UnauthorisedOurs);
    assert!(uses(&former) && gate.is_held(), "the new one is refused as well");
    new.refuses.store(false, Ordering::Release);
    gate.renew(client()).await.unwrap();
    assert!(uses(&new) && !gate.is_held(), "that ends the hold");
    assert_eq!(secrecy::ExposeSecret::expose_secret(&gate.client().fingerprint), "renewed");
}

/// A harmless read of two requests leaves so much less for jobs, at each endpoint.
#[tokio::test(start_paused = true)]
async fn every_request_of_a_harmless_read_counts_against_its_limit() {
    for (endpoints, delete, look) in [
        (&["delete"][..], 2, 3),
        (&["delete", "delete"], 1, 3),
        (&["delete", "look"], 2, 2),
        (&["delete", "look", "delete", "look"], 1, 1),
    ] {
        let gate = before(Shop::probed_at("shop", Kind::EasyCms, endpoints), 3);
        assert!(gate.works_since(Instant::now()).await);
        for (endpoint, left) in [("delete", delete), ("look", look)] {
            let mut passed = 0;
            while gate.enter(&job(1), Rank::of(true, None), &[endpoint], Duration::ZERO).await.is_ok() {
                passed += 1;
            }
            assert_eq!(passed, left, "{endpoint} after {endpoints:?}");
        }
        let began = Instant::now();
        assert!(gate.works_since(began + Duration::from_secs(1)).await);
        assert!(began.elapsed() > Duration::from_secs(60), "it waits until each of its requests may start");
    }
}

#[tokio::test(start_paused = true)]
async fn at_a_limited_system_the_job_that_is_due_first_goes_first() {
    let gate = limited(1);
    let day = |number: i64| Rank::of(false, Some(At(number * 86_400_000)));
    let (begun, undated) = (Rank::of(true, None), Rank::of(false, None));
    let enter = |number: u128, rank| {
        let gate = &gate;
        async move { gate.enter(&job(number), rank, &["delete"], Duration::ZERO).await.map(|_| ()) }
    };
    enter(0, undated).await.unwrap();
    for number in 1..=5 {
        enter(number, day(30)).await.unwrap_err();
    }
    // A start is a quarter of a second after the full minute, because a call may arrive late.
    let minutes = |away: Result<(), StayAway>| away.unwrap_err().wait.as_secs() / 60;
    let last = minutes(enter(6, undated).await);
    let urgent = minutes(enter(7, day(1)).await);
    let next = minutes(enter(8, day(2)).await);
    assert_eq!((urgent, next, last), (1, 2, 6));
    tokio::time::advance(Duration::from_secs(61)).await;
    enter(7, day(1)).await.unwrap();
    assert_eq!(minutes(enter(8, day(2)).await), 1, "a job that has passed is no longer in line");
    assert_eq!(minutes(enter(7, begun).await), 1, "a job that has passed once precedes the others");
    assert_eq!(minutes(enter(8, day(2)).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_systems_targets_per_minute_follow_from_its_rate_and_the_calls_of_earlier_targets() {
    let gate = limited(60);
    assert_eq!(gate.targets_per_minute(), Some(60.0), "without history: one call for each target");
    for call in 0..12 {
        let endpoint = if call % 3 == 0 { "look" } else { "delete" };
        let pass = gate.enter(&job(1), Rank::of(true, None), &[endpoint], Duration::ZERO).await.unwrap();
        gate.ended(pass, None);
    }
    gate.target_ended();
    gate.target_ended();
    assert_eq!(gate.targets_per_minute(), Some(15.0), "four deletes for each target");
}

#[tokio::test]
async fn a_call_that_may_begin_now_is_made_with_any_limit_of_the_wait_in_hand() {
    let gate = limited(60);
    for number in 0..60 {
        gate.enter(&job(number), Rank::of(false, None), &["delete"], Duration::ZERO).await.unwrap();
    }
    gate.enter(&job(60), Rank::of(false, None), &["delete"], Duration::ZERO).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_step_of_two_requests_counts_twice_and_only_at_its_endpoint() {
    let gate = limited(5);
    let enter = |number: u128, endpoints: &'static [&'static str]| {
        let gate = &gate;
        async move { gate.enter(&job(number), Rank::of(true, None), endpoints, Duration::ZERO).await.map(|_| ()) }
    };
    for number in 0..2 {
        enter(number, &["users", "users"]).await.unwrap();
    }
    enter(2, &["users", "users"]).await.unwrap_err();
    enter(2, &["users", "licenses"]).await.unwrap();
    enter(3, &["users", "licenses"]).await.unwrap_err();
    for number in 0..4 {
        enter(number, &["licenses"]).await.unwrap();
    }
    enter(4, &["licenses"]).await.unwrap_err();
}

/// A failure that becomes known while a call waits for its time. The call is not made.
async fn no_call_after(failure: Failure) {
    let gate = std::sync::Arc::new(limited(1));
    let inline = Duration::from_secs(61);
    let first = gate.enter(&job(1), Rank::of(true, None), &["delete"], inline).await.unwrap();
    let second = tokio::spawn({
        let gate = std::sync::Arc::clone(&gate);
        async move { gate.enter(&job(2), Rank::of(true, None), &["delete"], inline).await.map(|_| ()) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.ended(first, Some(&failure));
    let kind = failure.kind;
    second.await.unwrap().expect_err(kind.as_str());
    assert_eq!(gate.view().calls, 1, "{}", kind.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_time_is_not_made_after_a_refusal_by_the_system() {
    let mut limited = Failure::new(FailureKind::RateLimited, Reason::SystemUnavailable);
    limited.retry_after = Some(Duration::from_secs(600));
    no_call_after(limited).await;
    no_call_after(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_permits_one_trial_call_and_an_unused_trial_does_not_count() {
    let gate = limited(600);
    let one = job(1);
    let enter = || gate.enter(&one, Rank::of(true, None), &["delete"], Duration::ZERO);
    for _ in 0..5 {
        let pass = enter().await.unwrap();
        gate.ended(pass, Some(&Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable)));
    }
    enter().await.unwrap_err();
    let pause = Duration::from_secs(2);
    tokio::time::advance(pause).await;
    let unused = enter().await.unwrap();
    enter().await.unwrap_err();
    drop(unused);
    enter().await.unwrap_err();
    tokio::time::advance(pause).await;
    let pass = enter().await.unwrap();
    gate.ended(pass, Some(&Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable)));
    assert!(gate.view().breaker_open, "a further failure opens the breaker again");
    tokio::time::advance(3 * pause).await;
    let pass = enter().await.unwrap();
    gate.ended(pass, None);
    enter().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_operators_release_ends_a_wait_that_the_system_requested() {
    let gate = limited(60);
    let one = job(1);
    let enter = || gate.enter(&one, Rank::of(true, None), &["delete"], Duration::ZERO);
    let mut limited = Failure::new(FailureKind::RateLimited, Reason::SystemUnavailable);
    limited.retry_after = Some(Duration::from_secs(86_400));
    gate.ended(enter().await.unwrap(), Some(&limited));
    assert_eq!(enter().await.unwrap_err().wait, Duration::from_secs(900), "a release takes effect within this");
    gate.release();
    enter().await.unwrap();
}

#[tokio::test]
async fn a_job_that_ends_without_a_call_leaves_the_line() {
    let bench = bench_with(Setup { gate: |gate| gate.rates = Rates::each(1), ..Setup::default() }).await;
    bench.send(&shop_job(&id(1), "ann"));
    bench.broker.parked(&id(1), 1).await;
    let job = shop_job(&id(2), "ann");
    bench.send(&job);
    let parked = bench.broker.parked(&id(2), 1).await;
    bench.until("/v1/systems", |all| all["systems"][1]["jobs_in_line"] == 2).await;
    post(bench.addr, &format!("/v1/jobs/acme/{}/cancel", id(2)), &json!({})).await;
    bench.broker.come_back(&parked);
    bench.broker.event(&id(2), "cancelled").await;
    bench.until("/v1/systems", |all| all["systems"][1]["jobs_in_line"] == 1).await;
}

//! Ceilings: jobs above one wait for an operator, also over restarts, and make no call until then.

use std::time::Duration;

use clap::Parser as _;
use erasure_worker::cli::{Cli, Exit};
use erasure_worker::engine::Scope;
use erasure_worker::sandbox::Person;
use serde_json::{Value, json};
use testkit::cli::{At, run, words};
use testkit::inside::Desk;
use testkit::people;

use crate::bench::{Bench, KEY, id, job, shop_job};

const HOUR: Duration = Duration::from_secs(3600);
const KEPT: &str = "[tenants.acme]\nmax_jobs_per_hour = 3\n[tenants.other]";

fn tenant() -> Scope {
    Scope::Tenant("acme".to_owned())
}

/// Publishes a job for each person, one after the other. Waits for the first ack of each.
async fn send(bench: &Bench, tenant: &str, numbers: std::ops::Range<u64>) -> Vec<(Person, Value)> {
    let mut sent = Vec::new();
    for number in numbers {
        let person = bench.person(number);
        let job = shop_job(tenant, &person);
        let acked = bench.post.seen().acked;
        bench.send(&job);
        bench.post.until("the ack", |seen| seen.acked > acked).await;
        sent.push((person, job));
    }
    sent
}

fn is_held(bench: &Bench, job: &Value) -> bool {
    let seen = bench.post.seen();
    let events = seen.of(id(job));
    match events.last().map(|event| event["type"].as_str().unwrap()) {
        Some("erasure.job.held_by_guard.v1") => true,
        Some("erasure.job.completed.v1") => false,
        other => panic!("{other:?}"),
    }
}

async fn redeliver_copies(bench: &Bench) {
    let acked = bench.post.seen().acked;
    let count = bench.post.waits_end();
    bench.post.until("every copy's ack", |seen| seen.acked >= acked + count).await;
}

#[tokio::test]
async fn jobs_above_a_tenants_ceiling_wait_and_are_reported_once_and_other_tenants_go_on() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..6).await;
    let held: Vec<bool> = sent.iter().map(|(_, job)| is_held(&bench, job)).collect();
    assert_eq!(held, [false, false, false, true, true]);
    assert!(bench.is_in_shop(&sent[4].0));
    let event = bench.post.event(id(&sent[3].1), "held_by_guard").await;
    assert_eq!(event["data"]["guard"], json!([{ "scope": "tenant", "name": "acme" }]));
    assert_eq!((&event["data"]["final"], &event["data"]["seq"]), (&false.into(), &1.into()));
    let others = send(&bench, "other", 10..15).await;
    assert!(others.iter().all(|(_, job)| !is_held(&bench, job)));
    // Further deliveries of a copy change nothing and make no event.
    for _ in 0..3 {
        redeliver_copies(&bench).await;
    }
    let seen = bench.post.seen();
    assert_eq!((seen.of(id(&sent[3].1)).len(), seen.parked.len()), (1, 2));
    assert!(bench.is_in_shop(&sent[4].0));
    assert_eq!(bench.counted("jobs_guarded", "tenant"), 2);
    let views = bench.engine.guard_views().unwrap();
    let view = views.iter().find(|view| view.scope == tenant()).unwrap();
    assert_eq!((view.limit, view.passed, view.held), (Some(3), 3, 2));
    bench.end().await;
}

#[tokio::test]
async fn a_released_job_goes_on_and_a_discarded_one_ends_as_cancelled_without_a_call() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let (person, job) = &sent[3];
    assert_eq!(bench.engine.release_guard(&tenant(), "operations").await.unwrap(), 1);
    redeliver_copies(&bench).await;
    bench.post.event(id(job), "completed").await;
    assert!(!bench.is_in_shop(person));
    let calls = bench.calls();
    let sent = send(&bench, "acme", 5..6).await;
    let (person, job) = &sent[0];
    assert!(is_held(&bench, job));
    assert_eq!(bench.engine.discard_guarded(&tenant(), "operations").await.unwrap(), 1);
    redeliver_copies(&bench).await;
    let event = bench.post.event(id(job), "cancelled").await;
    assert_eq!(event["data"]["final"], true);
    assert!(bench.is_in_shop(person) && bench.calls() == calls);
    assert_eq!(bench.engine.guard_views().unwrap().iter().map(|view| view.held).sum::<usize>(), 0);
    bench.end().await;
}

#[tokio::test]
async fn counts_and_held_jobs_survive_a_crash() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let bench = bench.crashed(&format!("master_key = \"{KEY}\""), KEPT).await;
    redeliver_copies(&bench).await;
    assert!(is_held(&bench, &sent[3].1), "still held after the crash");
    assert!(is_held(&bench, &send(&bench, "acme", 6..7).await[0].1), "the hour is not over");
    bench.pass(HOUR + Duration::from_secs(300));
    assert!(!is_held(&bench, &send(&bench, "acme", 7..8).await[0].1), "the hour is over");
    redeliver_copies(&bench).await;
    assert!(is_held(&bench, &sent[3].1), "time does not release");
    bench.end().await;
}

#[tokio::test]
async fn a_lost_store_releases_nothing() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let (person, job) = &sent[3];
    let bench = bench.moved(&format!("master_key = \"{KEY}\""), KEPT).await;
    redeliver_copies(&bench).await;
    assert!(bench.is_in_shop(person));
    let seen = bench.post.seen();
    let ids: Vec<_> = seen.of(id(job)).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1], "the hold is reported again, with its own event id");
    bench.engine.release_guard(&tenant(), "operations").await.unwrap();
    redeliver_copies(&bench).await;
    bench.post.event(id(job), "completed").await;
    bench.end().await;
}

#[tokio::test]
async fn a_ceiling_removed_from_the_configuration_holds_no_job() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let bench = bench.restarted(&format!("master_key = \"{KEY}\""), "[tenants.acme]").await;
    redeliver_copies(&bench).await;
    bench.post.event(id(&sent[3].1), "completed").await;
    bench.end().await;
}

#[tokio::test]
async fn a_continuation_does_not_pass_the_ceiling() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let (person, job) = &sent[3];
    let acked = bench.post.seen().acked;
    bench.send(job);
    bench.post.until("the ack", |seen| seen.acked > acked).await;
    assert!(is_held(&bench, job) && bench.is_in_shop(person));
    // Now two copies are parked. The older one is stale.
    bench.engine.release_guard(&tenant(), "operations").await.unwrap();
    redeliver_copies(&bench).await;
    bench.post.event(id(job), "completed").await;
    assert_eq!(bench.post.seen().of(id(job)).len(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_held_job_can_be_cancelled_by_its_publisher() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let (person, job) = &sent[3];
    let cancel = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id(job) });
    bench.post.control(Default::default(), cancel.to_string());
    // The stream is read concurrently with the queue: a marker after the cancellation shows that it was read.
    let marker = uuid::Uuid::new_v4().to_string();
    let unknown = json!({ "schema": "erasure.cancel/v1", "tenant": "nobody", "job_id": marker });
    bench.post.control(Default::default(), unknown.to_string());
    bench.post.event(&marker, "cancel_refused").await;
    redeliver_copies(&bench).await;
    bench.post.event(id(job), "cancelled").await;
    assert!(bench.is_in_shop(person));
    bench.end().await;
}

#[tokio::test]
async fn a_systems_ceiling_counts_the_jobs_of_all_tenants_and_a_job_needs_all_releases() {
    let more = "[tenants.acme]\nmax_jobs_per_hour = 2\n[tenants.other]";
    let bench = Bench::with_settings(more, &[("systems.shop.max_jobs_per_hour", "3")]).await;
    let shop = Scope::System("shop".to_owned());
    send(&bench, "acme", 1..3).await;
    assert!(!is_held(&bench, &send(&bench, "other", 3..4).await[0].1));
    let third = send(&bench, "other", 4..5).await;
    assert!(is_held(&bench, &third[0].1), "the system's ceiling");
    let both = send(&bench, "acme", 5..6).await;
    let event = bench.post.event(id(&both[0].1), "held_by_guard").await;
    assert_eq!(event["data"]["guard"].as_array().unwrap().len(), 2);
    // Another system is not affected.
    let person = bench.person(6);
    let elsewhere = job("other", json!([people::program(&person, "member_id")]));
    bench.send(&elsewhere);
    bench.post.event(id(&elsewhere), "completed").await;
    assert_eq!(bench.engine.release_guard(&shop, "operations").await.unwrap(), 2);
    redeliver_copies(&bench).await;
    bench.post.event(id(&third[0].1), "completed").await;
    assert!(is_held(&bench, &both[0].1), "the tenant's hold stands");
    assert_eq!(bench.engine.release_guard(&tenant(), "operations").await.unwrap(), 1);
    redeliver_copies(&bench).await;
    bench.post.event(id(&both[0].1), "completed").await;
    bench.end().await;
}

#[tokio::test]
async fn a_preview_is_neither_counted_nor_held() {
    let bench = Bench::with("[tenants.acme]\nmax_jobs_per_hour = 1").await;
    for number in 1..4 {
        let mut job = shop_job("acme", &bench.person(number));
        job["mode"] = "preview".into();
        bench.send(&job);
        bench.post.event(id(&job), "previewed").await;
    }
    assert!(!is_held(&bench, &send(&bench, "acme", 4..5).await[0].1));
    assert!(is_held(&bench, &send(&bench, "acme", 5..6).await[0].1));
    bench.end().await;
}

#[tokio::test]
async fn a_spike_is_measured_by_the_previous_day_and_has_a_floor() {
    let bench = Bench::with("[tenants.acme]\nspike_factor = 2.0").await;
    let limit = || bench.engine.guard_views().unwrap()[0].limit;
    assert_eq!(limit(), Some(20), "the floor, without history");
    // Fifteen an hour for a day; an hour counts until its last five minutes are over.
    let counted_hour = HOUR + Duration::from_secs(300);
    let mut number = 1;
    for _ in 0..23 {
        let sent = send(&bench, "acme", number..number + 15).await;
        assert!(sent.iter().all(|(_, job)| !is_held(&bench, job)));
        number += 15;
        bench.pass(counted_hour);
    }
    // 345 jobs in 23 hours and 55 minutes.
    let sent = send(&bench, "acme", number..number + 29).await;
    let held = sent.iter().filter(|(_, job)| is_held(&bench, job)).count();
    assert_eq!((limit(), held), (Some(28), 1), "twice the mean, and one job above");
    // Held jobs do not raise the mean for the next day.
    bench.pass(Duration::from_secs(25 * 3600 + 600));
    assert_eq!(limit(), Some(20));
    bench.end().await;
}

#[tokio::test]
async fn a_parked_copy_with_another_wait_in_its_header_is_dead_lettered() {
    let bench = Bench::with(KEPT).await;
    let sent = send(&bench, "acme", 1..5).await;
    let copy = bench.post.seen().parked.remove(0);
    let bench = bench.moved(&format!("master_key = \"{KEY}\""), KEPT).await;
    let mut properties = copy.properties;
    let wait = erasure_worker::broker::HeaderValue::Text("retry".to_owned());
    assert!(properties.headers.insert("x-erasure-wait".to_owned(), wait).is_some());
    let publication = erasure_worker::broker::Publication {
        to: erasure_worker::broker::Destination::Resume,
        properties,
        body: copy.body,
    };
    erasure_worker::broker::Broker::publish(&*bench.post, publication).await.unwrap();
    bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    assert!(bench.is_in_shop(&sent[3].0));
    bench.end().await;
}

/// The output of a command line, which must succeed.
async fn command(desk: &Desk, line: &str) -> String {
    let said = run(words(&format!("{line} --url {}", desk.url())), At::default()).await;
    assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""));
    said.out
}

#[test]
fn a_decision_about_held_jobs_names_one_tenant_or_one_system() {
    for line in ["guard release", "guard discard --tenant acme --system shop", "guard release --tenant Acme"] {
        assert!(Cli::try_parse_from(["erasure-worker"].into_iter().chain(line.split(' '))).is_err(), "{line}");
    }
}

#[tokio::test]
async fn an_operator_sees_releases_and_discards_by_command_and_over_the_ops_api() {
    let bench = Bench::with(KEPT).await;
    let desk = Desk::open(&bench.engine, None).await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", desk.url());
    let get = async |path: &str| client.get(url(path)).send().await.unwrap().text().await.unwrap();
    let post = async |path: &str| {
        let answer = client.post(url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let sent = send(&bench, "acme", 1..5).await;
    let shown: Value = serde_json::from_str(&get("/v1/guard").await).unwrap();
    let expected = json!({
        "scope": "tenant", "name": "acme", "limit": 3, "passed": 3, "held": 1, "held_since": "2026-11-22T10:00:00.000Z",
    });
    assert_eq!(shown, json!({ "scopes": [expected] }));
    let metrics = get("/metrics").await;
    assert!(metrics.contains("erasure_jobs_guarded_total{scope=\"tenant\"} 1"), "{metrics}");
    assert!(metrics.contains("erasure_jobs_waiting{reason=\"guard\"} 1"), "{metrics}");
    for path in ["/v1/guard/tenant/other/release", "/v1/guard/system/shop/discard", "/v1/guard/all/acme/release"] {
        assert_eq!(post(path).await.0, 404, "{path}");
    }
    let said = command(&desk, "guard list").await;
    assert!(said.lines().count() == 2 && said.contains("acme"), "{said}");
    let said = command(&desk, "guard release --tenant acme").await;
    assert!(said.starts_with("1 released"), "{said}");
    redeliver_copies(&bench).await;
    bench.post.event(id(&sent[3].1), "completed").await;
    let sent = send(&bench, "acme", 5..6).await;
    assert_eq!(post("/v1/guard/tenant/acme/discard").await, (200, json!({ "discarded": 1 })));
    redeliver_copies(&bench).await;
    bench.post.event(id(&sent[0].1), "cancelled").await;
    assert!(bench.is_in_shop(&sent[0].0));
    bench.end().await;
}

//! Every way to an erasure is limited by the ceiling at its begin.
//!
//! The rule it keeps: all ways are tried with several ceilings and more jobs than these permit. No more jobs erase in
//! an hour than the ceiling permits.

use std::time::Duration;

use erasure_worker::engine::Scope;
use erasure_worker::engine::pauses::Subject;
use erasure_worker::sandbox::Person;
use serde_json::{Value, json};
use testkit::people;

use crate::bench::{Bench, KEY, id, shop_job};

/// An hour counts until its last five minutes are over.
const HOUR: Duration = Duration::from_secs(3900);
const JOBS: u64 = 17;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Published as an erasure.
    Erasure,
    /// Published as a preview, and again as an erasure.
    PreviewContinued,
    /// Accepted over many hours, and continued with the input in one.
    GivenInput,
    /// Accepted over many hours, and approved in one.
    Approved,
    /// Failed before a call was begun, and retried.
    OpenedAgain,
    /// Taken over by a worker with an empty store, and continued with the input there.
    TakenOver,
}

const WAYS: [Way; 6] =
    [Way::Erasure, Way::PreviewContinued, Way::GivenInput, Way::Approved, Way::OpenedAgain, Way::TakenOver];

type Sent = Vec<(Person, Value)>;

async fn send(bench: &Bench, jobs: &Sent) {
    for (_, job) in jobs {
        let acked = bench.post.seen().acked;
        bench.send(job);
        bench.post.until("the ack", |seen| seen.acked > acked).await;
    }
}

async fn redeliver_copies(bench: &Bench) {
    let acked = bench.post.seen().acked;
    let count = bench.post.waits_end();
    bench.post.until("every copy's ack", |seen| seen.acked >= acked + count).await;
}

/// Publishes as many jobs an hour as the ceiling permits.
async fn send_in_time(bench: &Bench, jobs: &Sent, ceiling: usize) {
    for portion in jobs.chunks(ceiling) {
        send(bench, &portion.to_vec()).await;
        bench.pass(HOUR);
    }
}

fn changed(jobs: &Sent, change: impl Fn(&mut Value)) -> Sent {
    let mut jobs = jobs.clone();
    jobs.iter_mut().for_each(|(_, job)| change(job));
    jobs
}

fn without_password(jobs: &Sent) -> Sent {
    changed(jobs, |job| drop(job["targets"][0].as_object_mut().unwrap().remove("customer_password")))
}

fn more(ceiling: usize) -> String {
    format!("[tenants.acme]\nmax_jobs_per_hour = {ceiling}")
}

async fn all_begin_erasure(way: Way, mut bench: Bench, jobs: &Sent, ceiling: usize) -> Bench {
    match way {
        Way::Erasure => send(&bench, jobs).await,
        Way::PreviewContinued => {
            let shop = Subject::System("shop".to_owned());
            let because = || ("operations".to_owned(), "maintenance".to_owned());
            bench.engine.pause_for_operator(&shop, because().0, because().1).await.unwrap();
            send(&bench, &changed(jobs, |job| job["mode"] = "preview".into())).await;
            send(&bench, jobs).await;
            bench.engine.resume_for_operator(&shop, "operations").await.unwrap();
            redeliver_copies(&bench).await;
        }
        Way::GivenInput => {
            send_in_time(&bench, &without_password(jobs), ceiling).await;
            send(&bench, jobs).await;
        }
        Way::Approved => {
            let wanted = changed(jobs, |job| job["approval"] = json!({ "requested_by": "ann" }));
            send_in_time(&bench, &wanted, ceiling).await;
            assert_eq!(bench.engine.decide_approvals(|_, _| true, true, "bob").await.unwrap(), (jobs.len(), 0));
            redeliver_copies(&bench).await;
        }
        Way::OpenedAgain => {
            send_in_time(&bench, &without_password(jobs), ceiling).await;
            bench.pass(Duration::from_secs(60 * 86_400));
            redeliver_copies(&bench).await;
            bench
                .post
                .until("every failure", |seen| {
                    jobs.iter().all(|(_, job)| {
                        seen.of(id(job)).last().is_some_and(|event| event["type"] == "erasure.job.failed.v1")
                    })
                })
                .await;
            send(&bench, &changed(jobs, |job| job["retry"] = true.into())).await;
        }
        Way::TakenOver => {
            send_in_time(&bench, &without_password(jobs), ceiling).await;
            bench = bench.moved(&format!("master_key = \"{KEY}\""), &more(ceiling)).await;
            redeliver_copies(&bench).await;
            send(&bench, jobs).await;
        }
    }
    bench
}

fn count(bench: &Bench, jobs: &Sent, what: &str) -> usize {
    let seen = bench.post.seen();
    let is =
        |job: &Value| seen.of(id(job)).last().is_some_and(|event| event["type"] == format!("erasure.job.{what}.v1"));
    jobs.iter().filter(|(_, job)| is(job)).count()
}

#[tokio::test]
async fn by_every_way_no_more_jobs_erase_in_an_hour_than_the_ceiling_permits() {
    let mut cases = 0;
    for way in WAYS {
        for ceiling in [1, 5] {
            let bench = Bench::with(&more(ceiling)).await;
            let jobs: Sent = (1..=JOBS)
                .map(|number| {
                    let person = bench.person(number);
                    let job = shop_job("acme", &person);
                    (person, job)
                })
                .collect();
            let bench = all_begin_erasure(way, bench, &jobs, ceiling).await;
            let left = jobs.iter().filter(|(person, _)| bench.is_in_shop(person)).count();
            let held = jobs.len() - ceiling;
            assert_eq!(left, held, "{way:?}, {ceiling}");
            assert_eq!(count(&bench, &jobs, "held_by_guard"), held, "{way:?}, {ceiling}");
            assert_eq!(count(&bench, &jobs, "completed"), ceiling, "{way:?}, {ceiling}");
            // Time releases no job. An operator releases all, and a released job is not held again.
            bench.pass(HOUR);
            redeliver_copies(&bench).await;
            assert_eq!(count(&bench, &jobs, "held_by_guard"), held, "{way:?}, {ceiling}");
            let scope = Scope::Tenant("acme".to_owned());
            assert_eq!(bench.engine.release_guard(&scope, "operations").await.unwrap(), held, "{way:?}, {ceiling}");
            redeliver_copies(&bench).await;
            assert_eq!(count(&bench, &jobs, "completed"), jobs.len(), "{way:?}, {ceiling}");
            assert!(jobs.iter().all(|(person, _)| !bench.is_in_shop(person)), "{way:?}, {ceiling}");
            bench.end().await;
            cases += 1;
        }
    }
    eprintln!("ways to erase and ceilings: {cases} cases of {JOBS} jobs");
}

#[tokio::test]
async fn a_begun_erasure_is_not_continued_as_a_preview() {
    let bench = Bench::with("[tenants.acme]").await;
    let person = bench.person(1);
    // Its delete is made and refused: the erasure has begun, and waits for the right password.
    let mut job = shop_job("acme", &person);
    let member = people::member(&person, "member_id");
    let unproven = json!({ "system": "loyalty", "method": "member_api", "member": member });
    job["targets"].as_array_mut().unwrap().push(unproven);
    bench.send(&job);
    bench.post.event(id(&job), "needs_input").await;
    assert!(!bench.is_in_shop(&person));
    let mut preview = job.clone();
    preview["mode"] = "preview".into();
    bench.send(&preview);
    let rejected = bench.post.event(id(&job), "rejected").await;
    assert_eq!(rejected["data"]["error"]["reason"], "conflict");
    // The erasure is unchanged.
    assert_eq!(bench.post.seen().parked.len(), 1);
    redeliver_copies(&bench).await;
    assert_eq!(count(&bench, &vec![(person, job)], "previewed"), 0);
    bench.end().await;
}

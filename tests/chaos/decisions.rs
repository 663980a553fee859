//! Operators' decisions with two worker processes, each with its own store, on a real broker.
//!
//! The rule it keeps: a decision made at one worker is obeyed by the other, although the first is killed right after
//! its answer, or before it.

use erasure_worker::sandbox::Sandbox;
use serde_json::{Value, json};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;
use testkit::worker::Worker;

/// A worker with its own state folder and import folder.
async fn started(rig: &Rig, name: &str, settings: &[(&str, &str)]) -> Worker {
    let folder = rig.folder.path().join(format!("import-of-{name}"));
    let mut all = settings.to_vec();
    all.push(("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", folder.to_str().unwrap()));
    let worker = rig.worker(name, &all);
    worker.says("ops API").await;
    // Before the connection a decision would wait for the broker.
    worker.says("connected to the broker").await;
    worker
}

/// Posts to a worker's ops API. `None` if the worker ended before its answer.
async fn asks(worker: &Worker, path: &str) -> Option<(u16, Value)> {
    let url = format!("http://{}{path}", worker.address().await);
    let body = json!({ "reason": "a wrong list", "by": "operations" });
    let answer = reqwest::Client::new().post(url).json(&body).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.ok()?))
}

async fn gives(worker: &Worker, path: &str) -> Value {
    let (status, answer) = asks(worker, path).await.expect("an answer");
    assert!([200, 202].contains(&status), "{status}: {answer}");
    answer
}

/// Waits until this many copies were parked because of a pause.
async fn waits_paused(worker: &Worker, count: usize) {
    let is_so = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["message"] == "job parked" && line.to_string().contains("paused")
    };
    soon(&format!("{count} copies parked by a pause"), async {
        while worker.log().lines().filter(is_so).count() < count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn destroyed(sandbox: &Sandbox) -> usize {
    sandbox.entries(0).iter().filter(|call| call.effect).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_at_one_worker_is_obeyed_by_the_other_after_the_first_is_killed() {
    tokio::join!(pause_outlives_its_worker(false), pause_outlives_its_worker(true));
}

async fn pause_outlives_its_worker(at_standby: bool) {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms], 1..4);
    let first = started(&rig, "first", &[]).await;
    let second = started(&rig, "second", &[]).await;
    let answer = gives(if at_standby { &second } else { &first }, "/v1/systems/easycms/pause").await;
    assert_eq!(answer["paused"]["everywhere"], true, "{answer}");
    // The worker is killed right after its answer.
    let left = if at_standby {
        second.kill().await;
        first
    } else {
        first.kill().await;
        second
    };
    rig.publish(&bodies(&cases)).await;
    waits_paused(&left, cases.len()).await;
    assert_eq!(destroyed(rig.sandbox()), 0, "at_standby: {at_standby}");
    // A worker with an empty store does not call the system either.
    left.kill().await;
    let third = started(&rig, "third", &[]).await;
    waits_paused(&third, cases.len()).await;
    assert_eq!(destroyed(rig.sandbox()), 0, "at_standby: {at_standby}");
    gives(&third, "/v1/systems/easycms/resume").await;
    let heard = rig.events.all_end(ids(&cases)).await;
    third.stop().await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_at_one_worker_is_obeyed_by_the_other_after_the_first_is_killed() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms], 1..3);
    let first = started(&rig, "first", &[]).await;
    let second = started(&rig, "second", &[]).await;
    let answer = gives(&first, &format!("/v1/jobs/acme/{}/cancel", cases[0].id)).await;
    assert_eq!((&answer["known"], &answer["everywhere"]), (&json!(false), &json!(true)));
    first.kill().await;
    rig.publish(&bodies(&cases)).await;
    let heard = rig.events.all_end(ids(&cases)).await;
    second.stop().await;
    assert_eq!(heard.finals(&cases[0].id).values().collect::<Vec<_>>(), ["cancelled"]);
    assert_eq!(heard.finals(&cases[1].id).values().collect::<Vec<_>>(), ["completed"]);
    assert!(!cases[0].remains(rig.sandbox()).is_empty());
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_obeyed_by_both_workers_although_the_first_crashed_while_publishing_it() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms], 1..3);
    // The first control message is the mark up to which the worker reads at its start.
    let crash = [("ERASURE_CRASH_AT", "before_confirm.control#2")];
    let mut first = started(&rig, "first", &crash).await;
    first.says("the control stream was read to its end").await;
    assert!(asks(&first, "/v1/systems/easycms/pause").await.is_none(), "the worker answered before its crash");
    assert!(!first.ended().await.success());
    // The restarted worker publishes the stored pause again. It stays one decision.
    let first = started(&rig, "first", &[]).await;
    first.says("still paused by an operator").await;
    let second = started(&rig, "second", &[]).await;
    rig.publish(&bodies(&cases[..1])).await;
    waits_paused(&first, 1).await;
    first.kill().await;
    rig.publish(&bodies(&cases[1..])).await;
    waits_paused(&second, 2).await;
    assert_eq!(destroyed(rig.sandbox()), 0);
    gives(&second, "/v1/systems/easycms/resume").await;
    rig.events.all_end(ids(&cases)).await;
    second.stop().await;
    rig.nothing_repeated();
    rig.is_empty().await;
}

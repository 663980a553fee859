//! One job: its view and its cancellation.

use serde_json::{Value, json};

use crate::bench::{bench, id, settings, shop_job};
use crate::http::{get, post};

fn whats(job: &Value) -> Vec<&str> {
    job["timeline"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_completed_job_shows_its_targets_and_keeps_no_timeline() {
    let bench = bench().await;
    let job_id = bench.job(1, "ann", "completed").await;
    let job = bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    assert_eq!(
        (job["state"].as_str(), job["run"].as_u64(), job["events"].as_u64()),
        (Some("completed"), Some(1), Some(1))
    );
    assert_eq!(job["targets"][0]["outcome"], "erased");
    let steps: Vec<_> = job["targets"][0]["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert!(steps.contains(&&json!("delete_account")) && steps.contains(&&json!("read_back")), "{steps:?}");
    assert_eq!((&job["timeline"], &job["last_error"], &job["next_at"]), (&json!([]), &Value::Null, &Value::Null));
    assert!(job["ended_at"].is_string());
}

#[tokio::test]
async fn a_failed_job_shows_its_error_and_its_timeline() {
    let bench = bench().await;
    let job_id = bench.job(1, "rejected", "failed").await;
    let job = bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    assert_eq!(job["state"], "failed");
    let error = &job["last_error"];
    assert_eq!((error["code"].as_str(), error["reason"].as_str()), (Some("ERS-0015"), Some("request_rejected")));
    assert_eq!((error["system"].as_str(), error["step"].as_str()), (Some("shop"), Some("delete_account")));
    assert_eq!(error["retry"], "operator");
    assert_eq!(job["targets"][0]["error"]["code"], "ERS-0015");
    assert_eq!(whats(&job), ["answered", "intent", "failed", "excused", "intent", "failed", "ended"]);
    let failed = &job["timeline"][2];
    assert_eq!((failed["step"].as_str(), failed["kind"].as_str()), (Some("delete_account"), Some("rejected")));
    assert_eq!(job["due_at"], "2026-02-02T03:04:05.000Z");
}

#[tokio::test]
async fn a_job_that_waits_for_a_person_names_the_input() {
    let bench = bench().await;
    let mut job = shop_job(&id(1), "ann");
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.send(&job);
    let path = format!("/v1/jobs/acme/{}", id(1));
    bench.broker.event(&id(1), "needs_input").await;
    let job = bench.until(&path, |job| job["state"] == "needs_input").await;
    assert_eq!(job["waiting"]["reason"], "input");
    assert_eq!(job["inputs"][0]["kind"], "customer_password");
    assert!(job["inputs"][0]["asked_at"].is_string() && job["next_at"].is_string(), "{job}");
    assert_eq!(job["targets"][0]["outcome"], Value::Null);
    assert_eq!(job["targets"][0]["kind"], "easycms");
    assert_eq!(whats(&job), ["answered", "asked"]);
}

#[tokio::test]
async fn a_job_whose_deletion_is_not_visible_yet_waits_and_cannot_be_cancelled() {
    let bench = bench().await;
    bench.send(&shop_job(&id(1), "visible"));
    let path = format!("/v1/jobs/acme/{}", id(1));
    let job = bench.until(&path, |job| job["state"] == "waiting").await;
    assert_eq!(job["waiting"]["reason"], "pending");
    assert_eq!(job["next_at"], job["waiting"]["until"]);
    let (wait, time) = (&job["waiting"], |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert_eq!((&wait["then"], &wait["gives_up_as"]), (&json!("read_back"), &json!("not_gone")));
    assert_eq!((&wait["target"], &wait["system"], &wait["step"]), (&json!(0), &json!("shop"), &json!("read_back")));
    assert!(time(&wait["since"]) <= time(&wait["until"]));
    let deleted = job["targets"][0]["steps"].as_array().unwrap().iter().find(|step| step["step"] == "delete_account");
    let given = time(&wait["gives_up_at"]).as_millisecond() - time(&deleted.unwrap()["at"]).as_millisecond();
    assert_eq!(u128::try_from(given).unwrap(), settings().limits.pending_max.as_millis());
    // The list shows the job's record alone.
    let listed = &get(bench.addr, "/v1/jobs?state=waiting").await.json()["jobs"][0]["waiting"];
    assert_eq!((&listed["since"], &listed["then"], listed.get("gives_up_at")), (&wait["since"], &wait["then"], None));
    let steps = job["targets"][0]["steps"].as_array().unwrap();
    assert_eq!(
        steps.iter().map(|step| step["step"].as_str().unwrap()).collect::<Vec<_>>(),
        ["resolve", "read_back", "delete_account"]
    );
    let refused = post(bench.addr, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!(refused.problem(409), "too-late");
    assert_eq!(get(bench.addr, &path).await.json()["cancel_requested"], false);
}

#[tokio::test]
async fn a_failing_system_shows_in_the_job_with_attempts_and_the_last_error() {
    let bench = bench().await;
    let job_id = bench.job(1, "flaky", "failed").await;
    let job = bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    assert_eq!(job["last_error"]["failed_attempts"], 3);
    assert_eq!(whats(&job), ["failed", "failed", "failed", "excused", "failed", "ended"]);
    assert_eq!(job["timeline"][0]["code"], "ERS-0013");
}

#[tokio::test]
async fn a_job_in_hand_is_cancelled_before_its_first_destructive_call() {
    let bench = bench().await;
    bench.send(&shop_job(&id(1), "slow"));
    bench.shop.waiting.subscribe().wait_for(|count| *count == 1).await.unwrap();
    let path = format!("/v1/jobs/acme/{}", id(1));
    let job = get(bench.addr, &path).await.json();
    assert_eq!((job["state"].as_str(), job["in_hand"].as_bool()), (Some("open"), Some(true)));
    let answer = post(bench.addr, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "state": "cancelling", "known": true, "everywhere": true }))
    );
    assert_eq!(get(bench.addr, &path).await.json()["cancel_requested"], true);
    bench.shop.door.cancel();
    bench.broker.event(&id(1), "cancelled").await;
    let job = bench.until(&path, |job| job["event_published"] == true).await;
    assert_eq!(job["state"], "cancelled");
    let again = post(bench.addr, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!((again.status, again.json()["state"].as_str()), (202, Some("cancelled")));
}

#[tokio::test]
async fn an_ended_job_cannot_be_cancelled_and_the_attempt_makes_no_event() {
    let bench = bench().await;
    let job_id = bench.job(1, "ann", "completed").await;
    let path = format!("/v1/jobs/acme/{job_id}");
    bench.until(&path, |job| job["event_published"] == true).await;
    let refused = post(bench.addr, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!(refused.problem(409), "job-ended");
    assert_eq!(refused.json()["detail"], "it is completed");
    assert_eq!(get(bench.addr, &path).await.json()["events"], 1);
}

#[tokio::test]
async fn a_cancellation_before_its_job_ends_it_on_arrival() {
    let bench = bench().await;
    let path = format!("/v1/jobs/acme/{}", id(1));
    assert_eq!(get(bench.addr, &path).await.problem(404), "unknown-job");
    let answer = post(bench.addr, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "state": "cancelling", "known": false, "everywhere": true }))
    );
    bench.job(1, "ann", "cancelled").await;
}

#[tokio::test]
async fn many_jobs_are_read_in_one_request_without_unknown_ones() {
    let bench = bench().await;
    bench.job(1, "ann", "completed").await;
    bench.job(2, "rejected", "failed").await;
    bench.job(3, "absent", "completed").await;
    let ids: Vec<_> = (1..=4).map(id).collect();
    let answer = crate::http::post(bench.addr, "/v1/jobs/acme/states", &json!({ "job_ids": ids })).await.json();
    let row = |number: u128, state: &str, outcome: &str, code: Option<&str>| json!({ "job_id": id(number), "state": state, "target_outcome": outcome, "code": code });
    let expected = [
        row(1, "completed", "erased", None),
        row(2, "failed", "failed", Some("ERS-0015")),
        row(3, "completed", "absent", None),
    ];
    assert_eq!(answer["jobs"], json!(expected));
    let many: Vec<_> = (0..1001).map(id).collect();
    let answer = crate::http::post(bench.addr, "/v1/jobs/acme/states", &json!({ "job_ids": many })).await;
    assert_eq!(answer.problem(400), "bad-request");
}

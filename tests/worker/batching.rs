//! The same engine on a file of jobs, without a broker.
//!
//! The rule it keeps: the exit code shows whether all jobs ended well. A second run on the file repeats nothing.

use serde_json::{Value, json};
use testkit::people::{self, confirm, id, job, unconfirmed};

use crate::trial::Trial;

/// Runs `batch` on these jobs. Returns its exit code and all events so far.
async fn batch(trial: &Trial, jobs: &[Value]) -> (i32, Vec<Value>) {
    let lines: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let (input, events) = (trial.rig.path("jobs.ndjson"), trial.rig.path("events.ndjson"));
    std::fs::write(&input, lines).unwrap();
    let arguments = ["batch", "--input", input.to_str().unwrap(), "--events", events.to_str().unwrap()];
    let code = trial.run(&arguments).await.code().unwrap();
    let events = std::fs::read_to_string(&events).unwrap_or_default();
    (code, events.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn outcomes(events: &[Value], job: &Value) -> Vec<String> {
    let of_job = events.iter().filter(|event| event["subject"] == *id(job));
    of_job.map(|event| event["data"]["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_file_of_good_jobs_succeeds_and_a_second_run_repeats_nothing() {
    let trial = Trial::without_worker(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let jobs = [job(&[people::backend(&ann), people::redeemed(&ann)]), job(&[people::easycms(&bob)])];
    let (code, events) = batch(&trial, &jobs).await;
    assert_eq!((code, events.len()), (0, 2), "{events:?}");
    let calls = trial.sandbox().entries(0).len();
    let (code, again) = batch(&trial, &jobs).await;
    assert_eq!((code, again), (0, events));
    assert_eq!(trial.sandbox().entries(0).len(), calls);
    trial.end().await;
}

#[tokio::test]
async fn a_failed_or_unreadable_job_fails_the_batch_and_the_other_jobs_complete() {
    let trial = Trial::without_worker(&[]).await;
    let person = trial.person();
    let mut wrong = people::easycms(&person);
    wrong["customer_password"] = json!("not-the-password");
    let jobs = [job(&[wrong]), job(&[people::program(&person, "member_id")])];
    let (code, events) = batch(&trial, &jobs).await;
    assert_eq!(code, 1);
    assert_eq!(outcomes(&events, &jobs[0]), ["failed"]);
    assert_eq!(outcomes(&events, &jobs[1]), ["completed"]);
    let misspelt = json!({ "schema": "erasure.job/v1", "jobid": "x" });
    let (code, _) = batch(&trial, &[misspelt, jobs[1].clone()]).await;
    assert_eq!(code, 1);
    trial.end().await;
}

#[tokio::test]
async fn the_exit_code_reports_a_job_that_waits_for_a_person_and_the_job_goes_on_with_the_input() {
    let trial = Trial::without_worker(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::mediastore(&person)]);
    let (code, events) = batch(&trial, std::slice::from_ref(&job)).await;
    assert_eq!((code, outcomes(&events, &job)), (3, vec!["needs_input".to_owned()]));
    confirm(&mut job);
    let (code, events) = batch(&trial, std::slice::from_ref(&job)).await;
    assert_eq!(code, 0);
    assert_eq!(outcomes(&events, &job), ["needs_input", "completed"]);
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

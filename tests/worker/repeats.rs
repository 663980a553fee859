//! A job id again: while the job is open, after its end, for another person, and as a new run.
//!
//! The rule it keeps: a run has one end. A repeated message repeats the event and makes no call.

use serde_json::{Value, json};
use testkit::people::{self, confirm, id, job, unconfirmed};

use crate::trial::Trial;

#[tokio::test]
async fn a_repeat_of_an_ended_job_repeats_its_event_and_makes_no_call() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::program(&person, "member_id")]);
    let first = trial.runs_to(&job, "completed").await;
    let calls = trial.sandbox().entries(0).len();
    trial.submit(&job).await;
    // Other details and an id in capitals do not make another job.
    confirm(&mut job);
    job["regulation"] = json!("ccpa");
    let capitals = job.to_string().replace(id(&job), &id(&job).to_uppercase());
    trial.submit_bytes(capitals.as_bytes(), id(&job)).await;
    let repeats = trial.client.events.count("the repeats", 3, |event| event.job_id() == id(&job)).await;
    assert!(repeats.iter().all(|event| event.body == first.body));
    assert_eq!(trial.sandbox().entries(0).len(), calls);
    trial.end().await;
}

#[tokio::test]
async fn a_repeat_of_a_failed_job_repeats_its_event_but_not_its_dead_letter() {
    let trial = Trial::start(&[]).await;
    let job = wrong_password(&trial);
    let first = trial.runs_to(&job, "failed").await;
    trial.dead_letter(&job, 1).await;
    let calls = trial.sandbox().entries(0).len();
    trial.submit(&job).await;
    let repeats = trial.client.events.count("the repeat", 2, |event| event.job_id() == id(&job)).await;
    assert_eq!(repeats[1].body, first.body);
    assert_eq!(trial.sandbox().entries(0).len(), calls);
    trial.client.fence().await;
    assert_eq!(letters_of(&trial, &job), 1);
    trial.end().await;
}

/// A job for a loyalty member and a shop account whose password is wrong.
fn wrong_password(trial: &Trial) -> Value {
    let person = trial.person();
    let mut shop = people::easycms(&person);
    shop["customer_password"] = json!("not-the-password");
    unconfirmed(&[people::program(&person, "member_id"), shop])
}

fn letters_of(trial: &Trial, job: &Value) -> usize {
    trial.client.dead_letters.all().iter().filter(|letter| letter.job_id() == id(job)).count()
}

#[tokio::test]
async fn another_persons_job_with_an_ended_jobs_id_is_rejected() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let first = unconfirmed(&[people::program(&ann, "member_id")]);
    trial.runs_to(&first, "completed").await;
    let mut second = unconfirmed(&[people::program(&bob, "member_id")]);
    second["job_id"] = first["job_id"].clone();
    rejected_as_conflict(&trial, &second).await;
    trial.remains(&bob, "loyalty", &["loyalty: member"]);
    trial.end().await;
}

async fn rejected_as_conflict(trial: &Trial, job: &Value) {
    trial.submit(job).await;
    let event = trial.event(job, "rejected").await;
    assert_eq!(event.data("final"), false);
    assert_eq!(event.data("error")["reason"], "conflict");
    let sha256 = checks_sha256(job.to_string().as_bytes());
    assert_eq!(event.data("body_sha256"), &json!(sha256));
    let letter = trial.dead_letter(job, 0).await;
    assert_eq!(letter.header("x-erasure-code"), "ERS-0019");
    assert_eq!(letter.header("x-erasure-tenant"), "acme");
}

fn checks_sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[tokio::test]
async fn another_persons_job_with_an_open_jobs_id_does_not_change_the_first() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let mut first = unconfirmed(&[people::redeemed(&ann)]);
    trial.submit(&first).await;
    trial.event(&first, "needs_input").await;
    let mut second = job(&[people::redeemed(&bob)]);
    second["job_id"] = first["job_id"].clone();
    rejected_as_conflict(&trial, &second).await;
    assert_eq!(trial.destructive_calls(), 0);
    confirm(&mut first);
    trial.runs_to(&first, "completed").await;
    trial.remains(&ann, "vitalsource", &[]);
    trial.remains(&bob, "vitalsource", &["vitalsource: code", "vitalsource: user"]);
    trial.end().await;
}

#[tokio::test]
async fn the_same_id_of_two_tenants_is_two_jobs() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let first = unconfirmed(&[people::program(&ann, "member_id")]);
    let mut second = unconfirmed(&[people::program(&bob, "member_id")]);
    second["job_id"] = first["job_id"].clone();
    second["tenant"] = json!("other-tenant");
    trial.submit(&first).await;
    trial.submit(&second).await;
    let ends = trial.client.events.count("both ends", 2, |event| event.is_final()).await;
    let mut keys: Vec<_> = ends.iter().map(|event| event.routing_key.clone()).collect();
    keys.sort();
    assert_eq!(keys, ["job.completed.acme", "job.completed.other-tenant"]);
    trial.end().await;
}

#[tokio::test]
async fn the_message_id_is_the_job_id_if_the_body_has_none() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = unconfirmed(&[people::program(&person, "member_id")]);
    let mut body = job.clone();
    body.as_object_mut().unwrap().remove("job_id");
    let properties = lapin::BasicProperties::default()
        .with_message_id(id(&job).into())
        .with_correlation_id(crate::checks::correlation_of(id(&job)).as_str().into());
    trial.client.publish("requests", "job", body.to_string().as_bytes(), properties).await;
    trial.ended(&job, "completed", 1).await;
    trial.end().await;
}

#[tokio::test]
async fn two_copies_at_once_make_one_run() {
    let mut trial = Trial::without_worker(&[]).await;
    let person = trial.person();
    let job = job(&[people::backend(&person), people::redeemed(&person), people::easycms(&person)]);
    trial.submit(&job).await;
    trial.submit(&job).await;
    trial.start_worker();
    let ends = trial.client.events.count("an event for each copy", 2, |event| event.is_final()).await;
    assert_eq!(ends[0].body, ends[1].body);
    assert_eq!(ends[0].data("outcome"), "completed");
    // The calls of one run.
    assert_eq!(
        (trial.calls("cleeng").len(), trial.calls("vitalsource").len(), trial.calls("easycms").len()),
        (7, 12, 3)
    );
    trial.end().await;
}

#[tokio::test]
async fn a_retry_of_a_failed_job_is_a_new_run_from_its_checkpoints() {
    let trial = Trial::start(&[]).await;
    let mut job = wrong_password(&trial);
    let first = trial.runs_to(&job, "failed").await;
    trial.dead_letter(&job, 1).await;
    let loyalty = trial.calls("loyalty");

    // The password is still wrong: the second run fails too, with its own event and dead letter.
    job["retry"] = json!(true);
    trial.submit(&job).await;
    let second = trial.ended(&job, "failed", 2).await;
    assert_ne!(first.json["id"], second.json["id"]);
    trial.dead_letter(&job, 2).await;

    let number = job["targets"][1]["email"].as_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    job["targets"][1]["customer_password"] = json!(format!("shop-password-{number}"));
    trial.submit(&job).await;
    let third = trial.ended(&job, "completed", 3).await;
    assert_eq!(third.data("partial"), false);
    assert_eq!(trial.calls("loyalty"), loyalty, "no second call for an erased target");
    let (first, third) = (first.data("seq").as_u64().unwrap(), third.data("seq").as_u64().unwrap());
    assert_eq!((first, third), (1, 3));

    // A completed job cannot be retried.
    trial.submit(&job).await;
    let ends = |event: &testkit::amqp::Message| event.job_id() == id(&job) && event.data("run") == 3;
    let ends = trial.client.events.count("the repeat", 2, ends).await;
    assert_eq!(ends[0].body, ends[1].body);
    trial.end().await;
}

#[tokio::test]
async fn a_retry_requeued_before_its_begin_is_carried_out() {
    let mut trial = Trial::start(&[]).await;
    let mut job = wrong_password(&trial);
    trial.runs_to(&job, "failed").await;
    trial.dead_letter(&job, 1).await;
    trial.stop_worker().await;
    job["retry"] = json!(true);
    trial.submit(&job).await;
    trial.client.take_and_give_back().await;
    trial.start_worker();
    trial.ended(&job, "failed", 2).await;
    trial.end().await;
}

//! The same job again: while it is open, after it ended, for another person, and as a new run.
//!
//! The rule it keeps: one run, one end; a repeat of the message repeats the event and calls nothing.

use serde_json::{Value, json};

use crate::people::{self, confirm, id, job, unconfirmed};
use crate::rig::Rig;

#[tokio::test]
async fn an_ended_job_sent_again_repeats_its_event_and_calls_nothing() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut job = unconfirmed(&[people::program(&person, "member_id")]);
    let first = rig.runs_to(&job, "completed").await;
    let calls = rig.sandbox.sandbox().entries(0).len();
    rig.submit(&job).await;
    // Other details, an id in capitals: the same job all the same.
    confirm(&mut job);
    job["regulation"] = json!("ccpa");
    let capitals = job.to_string().replace(&id(&job), &id(&job).to_uppercase());
    rig.submit_bytes(capitals.as_bytes(), &id(&job)).await;
    let repeats = rig.client.events.count("the repeats", 3, |event| event.job_id() == id(&job)).await;
    assert!(repeats.iter().all(|event| event.body == first.body));
    assert_eq!(rig.sandbox.sandbox().entries(0).len(), calls);
    rig.end().await;
}

#[tokio::test]
async fn a_failed_job_sent_again_repeats_its_event_but_not_its_dead_letter() {
    let rig = Rig::start(&[]).await;
    let job = wrong_password(&rig);
    let first = rig.runs_to(&job, "failed").await;
    rig.dead_letter(&job, 1).await;
    let calls = rig.sandbox.sandbox().entries(0).len();
    rig.submit(&job).await;
    let repeats = rig.client.events.count("the repeat", 2, |event| event.job_id() == id(&job)).await;
    assert_eq!(repeats[1].body, first.body);
    assert_eq!(rig.sandbox.sandbox().entries(0).len(), calls);
    rig.client.fence().await;
    assert_eq!(letters_of(&rig, &job), 1);
    rig.end().await;
}

/// A job for a loyalty member and a shop account whose password is wrong.
fn wrong_password(rig: &Rig) -> Value {
    let person = rig.person();
    let mut shop = people::easycms(&person);
    shop["customer_password"] = json!("not-the-password");
    unconfirmed(&[people::program(&person, "member_id"), shop])
}

fn letters_of(rig: &Rig, job: &Value) -> usize {
    rig.client.dead_letters.all().iter().filter(|letter| letter.job_id() == id(job)).count()
}

#[tokio::test]
async fn another_persons_job_under_an_ended_jobs_id_is_rejected() {
    let rig = Rig::start(&[]).await;
    let (ann, bob) = (rig.person(), rig.person());
    let first = unconfirmed(&[people::program(&ann, "member_id")]);
    rig.runs_to(&first, "completed").await;
    let mut second = unconfirmed(&[people::program(&bob, "member_id")]);
    second["job_id"] = first["job_id"].clone();
    rejected_as_conflict(&rig, &second).await;
    rig.remains(&bob, "loyalty", &["loyalty: member"]);
    rig.end().await;
}

async fn rejected_as_conflict(rig: &Rig, job: &Value) {
    rig.submit(job).await;
    let event = rig.event(job, "rejected").await;
    assert_eq!(event.data("final"), false);
    assert_eq!(event.data("error")["reason"], "conflict");
    let sha256 = checks_sha256(job.to_string().as_bytes());
    assert_eq!(event.data("body_sha256"), &json!(sha256));
    let letter = rig.dead_letter(job, 0).await;
    assert_eq!(letter.header("x-erasure-code"), "ERS-0019");
    assert_eq!(letter.header("x-erasure-tenant"), "acme");
}

fn checks_sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[tokio::test]
async fn another_persons_job_under_an_open_jobs_id_leaves_the_first_untouched() {
    let rig = Rig::start(&[]).await;
    let (ann, bob) = (rig.person(), rig.person());
    let mut first = unconfirmed(&[people::vitalsource(&ann)]);
    rig.submit(&first).await;
    rig.event(&first, "needs_input").await;
    let mut second = job(&[people::vitalsource(&bob)]);
    second["job_id"] = first["job_id"].clone();
    rejected_as_conflict(&rig, &second).await;
    assert_eq!(rig.destructive_calls(), 0);
    confirm(&mut first);
    rig.runs_to(&first, "completed").await;
    rig.remains(&ann, "vitalsource", &[]);
    rig.remains(&bob, "vitalsource", &["vitalsource: code", "vitalsource: user"]);
    rig.end().await;
}

#[tokio::test]
async fn the_same_id_of_two_tenants_is_two_jobs() {
    let rig = Rig::start(&[]).await;
    let (ann, bob) = (rig.person(), rig.person());
    let first = unconfirmed(&[people::program(&ann, "member_id")]);
    let mut second = unconfirmed(&[people::program(&bob, "member_id")]);
    second["job_id"] = first["job_id"].clone();
    second["tenant"] = json!("other-tenant");
    rig.submit(&first).await;
    rig.submit(&second).await;
    let ends = rig.client.events.count("both ends", 2, |event| event.is_final()).await;
    let mut keys: Vec<_> = ends.iter().map(|event| event.routing_key.clone()).collect();
    keys.sort();
    assert_eq!(keys, ["job.completed.acme", "job.completed.other-tenant"]);
    rig.end().await;
}

#[tokio::test]
async fn a_message_id_serves_where_the_body_has_no_job_id() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let job = unconfirmed(&[people::program(&person, "member_id")]);
    let mut body = job.clone();
    body.as_object_mut().unwrap().remove("job_id");
    let properties = lapin::BasicProperties::default()
        .with_message_id(id(&job).as_str().into())
        .with_correlation_id(crate::checks::correlation_of(&id(&job)).as_str().into());
    rig.client.publish("requests", "job", body.to_string().as_bytes(), properties).await;
    rig.ended(&job, "completed", 1).await;
    rig.end().await;
}

#[tokio::test]
async fn two_copies_at_once_make_one_run() {
    let mut rig = Rig::without_worker(&[]).await;
    let person = rig.person();
    let job = job(&[people::backend(&person), people::vitalsource(&person), people::easycms(&person)]);
    rig.submit(&job).await;
    rig.submit(&job).await;
    rig.start_worker();
    let ends = rig.client.events.count("an event for each copy", 2, |event| event.is_final()).await;
    assert_eq!(ends[0].body, ends[1].body);
    assert_eq!(ends[0].data("outcome"), "completed");
    // One run's calls, none of them twice.
    assert_eq!((rig.calls("cleeng").len(), rig.calls("vitalsource").len(), rig.calls("easycms").len()), (7, 12, 3));
    rig.end().await;
}

#[tokio::test]
async fn a_retry_of_a_failed_job_is_a_new_run_from_its_checkpoints() {
    let rig = Rig::start(&[]).await;
    let mut job = wrong_password(&rig);
    let first = rig.runs_to(&job, "failed").await;
    rig.dead_letter(&job, 1).await;
    let loyalty = rig.calls("loyalty");

    // Still wrong: the second run fails as the first did, with an event and a letter of its own.
    job["retry"] = json!(true);
    rig.submit(&job).await;
    let second = rig.ended(&job, "failed", 2).await;
    assert_ne!(first.json["id"], second.json["id"]);
    rig.dead_letter(&job, 2).await;

    let number = job["targets"][1]["email"].as_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    job["targets"][1]["customer_password"] = json!(format!("shop-password-{number}"));
    rig.submit(&job).await;
    let third = rig.ended(&job, "completed", 3).await;
    assert_eq!(third.data("partial"), false);
    assert_eq!(rig.calls("loyalty"), loyalty, "what was erased is not called again");
    let (first, third) = (first.data("seq").as_u64().unwrap(), third.data("seq").as_u64().unwrap());
    assert_eq!((first, third), (1, 3));

    // A completed job has nothing to retry.
    rig.submit(&job).await;
    let ends = |event: &testkit::amqp::Message| event.job_id() == id(&job) && event.data("run") == 3;
    let ends = rig.client.events.count("the repeat", 2, ends).await;
    assert_eq!(ends[0].body, ends[1].body);
    rig.end().await;
}

#[tokio::test]
async fn a_retry_that_was_given_back_before_it_began_is_not_forgotten() {
    let mut rig = Rig::start(&[]).await;
    let mut job = wrong_password(&rig);
    rig.runs_to(&job, "failed").await;
    rig.dead_letter(&job, 1).await;
    rig.stop_worker().await;
    job["retry"] = json!(true);
    rig.submit(&job).await;
    rig.client.take_and_give_back().await;
    rig.start_worker();
    rig.ended(&job, "failed", 2).await;
    rig.end().await;
}

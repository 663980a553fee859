//! Invalid messages on the job queue.
//!
//! The rule it keeps: each becomes a dead letter that names the fault and no person. The next job is processed.

use erasure_worker::app;
use erasure_worker::engine::envelope::open_dead_letter;
use lapin::BasicProperties;
use serde_json::{Value, json};
use sha2::Digest as _;
use testkit::amqp::Message;
use testkit::people::{self, unconfirmed};

use crate::trial::Trial;

/// The identifier in every invalid message.
const PLANTED: &str = "planted-7301599@example.com";

/// A valid job with the planted identifier.
fn valid_job() -> Value {
    unconfirmed(&[json!({ "system": "easycms", "email": PLANTED, "customer_password": "planted-secret" })])
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut job = valid_job();
    change(&mut job);
    job.to_string().into_bytes()
}

/// The fault, the body, and a text that the dead letter's reason must contain.
fn invalid_messages() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let vitalsource = |codes: usize| {
        let codes: Vec<_> = (0..codes).map(|number| json!({ "code": format!("C{number}") })).collect();
        json!({ "system": "vitalsource", "guid": PLANTED, "codes": codes })
    };
    let nested = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let text = valid_job().to_string();
    let mut not_utf8 = text.clone().into_bytes();
    let at = text.find(PLANTED).unwrap();
    not_utf8[at] = 0xff;
    vec![
        ("not JSON", format!("{PLANTED} is no JSON").into_bytes(), "body"),
        ("cut short", text.as_bytes()[..text.len() - 5].to_vec(), "body"),
        ("invalid UTF-8", not_utf8, "body"),
        ("an array", format!("[\"{PLANTED}\"]").into_bytes(), "body"),
        ("another schema", with(|job| job["schema"] = json!("erasure.job/v2")), "schema"),
        ("no schema", with(|job| drop(job.as_object_mut().unwrap().remove("schema"))), "schema"),
        ("an unknown field", with(|job| job["targetz"] = json!([PLANTED])), "targetz"),
        ("a field named like a person", with(|job| job[PLANTED] = json!(1)), "field"),
        ("a misspelt target field", with(|job| job["targets"][0]["custmer_password"] = json!(1)), "custmer_password"),
        ("a duplicate field", text.replacen("{", "{\"tenant\":\"acme\",", 1).into_bytes(), "tenant"),
        ("two identifiers", with(two_identifiers), "targets[0].member"),
        ("no identifier", with(|job| drop(job["targets"][0].as_object_mut().unwrap().remove("email"))), "email"),
        ("no target", with(|job| job["targets"] = json!([])), "targets"),
        ("an unknown system", with(|job| job["targets"][0]["system"] = json!("elsewhere")), "targets[0].system"),
        ("65 targets", with(|job| job["targets"] = json!(vec![job["targets"][0].clone(); 65])), "targets"),
        ("10,001 codes", with(|job| job["targets"] = json!([vitalsource(10_001)])), "targets[0].codes"),
        ("a time without an offset", with(|job| job["requested_at"] = json!("2026-11-22T10:00:00")), "requested_at"),
        ("a customer id with letters", with(letters_in_customer_id), "customer_id"),
        ("a wrong mode", with(|job| job["mode"] = json!("eraze")), "mode"),
        ("deep nesting", with(|job| job["targets"][0]["x"] = json!("DEEP")), "body").nest(&nested),
        ("over 1 MiB", with(|job| job["extensions"] = json!({ "x": "y".repeat(1 << 20) })), "body"),
    ]
}

/// Replaces `"DEEP"` by raw JSON.
trait Nest {
    fn nest(self, raw: &str) -> Self;
}

impl Nest for (&'static str, Vec<u8>, &'static str) {
    fn nest(mut self, raw: &str) -> Self {
        self.1 = String::from_utf8(self.1).unwrap().replace("\"DEEP\"", raw).into_bytes();
        self
    }
}

fn two_identifiers(job: &mut Value) {
    job["targets"] = json!([{
        "system": "loyalty", "method": "program_api", "member": { "member_id": PLANTED, "card_id": PLANTED },
    }]);
}

fn letters_in_customer_id(job: &mut Value) {
    job["targets"] = json!([{
        "system": "cleeng", "flow": "backend", "customer_id": PLANTED, "customer_email": PLANTED,
    }]);
}

/// Publishes an invalid body in a message with its own id. Returns the dead letter.
async fn dead_lettered(trial: &Trial, body: &[u8]) -> Message {
    let ticket = uuid::Uuid::new_v4().to_string();
    // A readable id in the body takes precedence for the correlation.
    let read = serde_json::from_slice::<Value>(body).ok().filter(|_| body.len() <= 1 << 20);
    let id = read.and_then(|job| job["job_id"].as_str().map(str::to_owned));
    let correlation = crate::checks::correlation_of(id.as_deref().unwrap_or(&ticket));
    let properties = BasicProperties::default()
        .with_message_id(ticket.as_str().into())
        .with_correlation_id(correlation.as_str().into());
    trial.client.publish("requests", "job", body, properties).await;
    let is_it = |letter: &Message| letter.properties.message_id().as_ref().is_some_and(|id| id.as_str() == ticket);
    trial.client.dead_letters.first("a dead letter", is_it).await
}

#[tokio::test]
async fn an_invalid_message_is_dead_lettered_with_its_fault_and_the_next_job_is_processed() {
    let trial = Trial::start(&[]).await;
    trial.plant([PLANTED.to_owned(), "planted-secret".to_owned(), PLANTED[1..].to_owned()]);
    let person = trial.person();
    let config = trial.rig.config("state");
    let keyring = app::keyring(&config).unwrap();
    for (wrong, body, names) in invalid_messages() {
        let letter = dead_lettered(&trial, &body).await;
        assert_eq!(letter.header("x-erasure-code"), "ERS-0020", "{wrong}");
        let reason = letter.header("x-erasure-reason");
        assert!(reason.contains(names), "{wrong}: {reason}");
        assert_eq!(letter.header("x-erasure-run"), "0", "{wrong}");
        assert_eq!(letter.header("x-erasure-tenant").is_empty(), letter.job_id().is_empty(), "{wrong}");
        let opened = open_dead_letter(&keyring, &letter.body).unwrap();
        if body.len() <= 1 << 20 {
            assert!(*opened == body, "{wrong}: the dead letter contains another body");
        } else {
            let whole = (body.len().to_string(), hex::encode(sha2::Sha256::digest(&body)));
            assert_eq!(
                (letter.header("x-erasure-body-bytes"), letter.header("x-erasure-body-sha256")),
                whole,
                "{wrong}"
            );
            assert!(
                body.starts_with(&opened) && !opened.is_empty(),
                "{wrong}: the dead letter contains another beginning"
            );
        }

        let id = letter.job_id();
        let is_it = |event: &Message| event.job_id() == id && event.data("outcome") == "rejected";
        let event = trial.client.events.first(wrong, is_it).await;
        assert_eq!(event.data("body_sha256"), &json!(hex::encode(sha2::Sha256::digest(&body))), "{wrong}");
        assert_eq!((event.data("final"), &event.data("error")["reason"]), (&json!(true), &json!("invalid")), "{wrong}");

        let mut next = unconfirmed(&[people::easycms(&person)]);
        next["mode"] = json!("preview");
        trial.runs_to(&next, "previewed").await;
    }
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_message_without_an_id_gives_a_dead_letter_and_no_event() {
    let trial = Trial::start(&[]).await;
    trial.plant([PLANTED.to_owned()]);
    for body in [format!("{PLANTED} is no JSON").into_bytes(), Vec::new()] {
        trial.client.publish("requests", "job", &body, BasicProperties::default()).await;
    }
    let letters = trial.client.dead_letters.count("both letters", 2, |_| true).await;
    assert!(letters.iter().all(|letter| letter.job_id().is_empty() && letter.header("x-erasure-code") == "ERS-0020"));
    trial.client.fence().await;
    assert_eq!(trial.client.events.all().iter().filter(|event| !testkit::amqp::is_fence(event)).count(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_job_for_another_environment_is_rejected_with_that_reason() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    for environment in [json!("production"), json!("staging"), Value::Null] {
        let mut job = unconfirmed(&[people::easycms(&person)]);
        job["environment"] = environment.clone();
        if environment.is_null() {
            // The default environment is production.
            job.as_object_mut().unwrap().remove("environment");
        }
        trial.submit(&job).await;
        assert_eq!(trial.dead_letter(&job, 0).await.header("x-erasure-code"), "ERS-0021");
        assert_eq!(trial.event(&job, "rejected").await.data("error")["reason"], "wrong_environment");
    }
    assert_eq!(trial.sandbox().entries(0).len(), 0);
    trial.end().await;
}

#[tokio::test]
async fn without_sealing_a_dead_letter_is_the_plain_message() {
    let trial = Trial::start(&[("dead_letters.seal", "false")]).await;
    let body = with(|job| job["schema"] = json!("erasure.job/v2"));
    let letter = dead_lettered(&trial, &body).await;
    assert_eq!(letter.body, body);
    trial.end().await;
}

#[tokio::test]
async fn a_repeated_invalid_message_repeats_its_event() {
    let trial = Trial::start(&[]).await;
    let body = with(|job| job["schema"] = json!("erasure.job/v2"));
    dead_lettered(&trial, &body).await;
    dead_lettered(&trial, &body).await;
    let events = trial.client.events.count("both events", 2, |event| event.data("outcome") == "rejected").await;
    assert_eq!(events[0].body, events[1].body);
    trial.end().await;
}

#[tokio::test]
async fn an_invalid_message_with_an_open_jobs_id_does_not_end_that_job() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::redeemed(&person)]);
    trial.submit(&job).await;
    trial.event(&job, "needs_input").await;
    let mut misspelt = job.clone();
    misspelt["confirmatoin"] = json!({});
    trial.submit(&misspelt).await;
    assert_eq!(trial.event(&job, "rejected").await.data("final"), false);
    people::confirm(&mut job);
    trial.runs_to(&job, "completed").await;
    trial.end().await;
}

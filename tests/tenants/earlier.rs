//! A job that an earlier release accepted with an identifier that is refused today still ends.

use bytes::Bytes;
use erasure_worker::broker::{HeaderValue, Properties, Via};
use erasure_worker::engine::operators::JobStatus;
use erasure_worker::job::JobKey;
use erasure_worker::sandbox::Account;
use erasure_worker::store::{Batch, Store as _, Table};
use serde_json::{Value, json};

use crate::bench::{Bench, KEY, sent};

/// A job that waits for the shop's password, from a release without a check of identifiers: its rows in the store, its
/// copy on the broker, and the message. The e-mail address ends with U+200B.
const LEFT: &str = include_str!("earlier.json");
const PASSWORD: &str = "a password";
const ID: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";

fn left() -> Value {
    serde_json::from_str(LEFT).unwrap()
}

/// The message; with a password for its repeat.
fn message(left: &Value, has_password: bool) -> Value {
    let mut job: Value = serde_json::from_str(left["sent"].as_str().unwrap()).unwrap();
    if has_password {
        job["targets"][0]["customer_password"] = json!(PASSWORD);
    }
    job
}

fn bytes(hexed: &Value) -> Vec<u8> {
    hex::decode(hexed.as_str().unwrap()).unwrap()
}

/// A worker of today on the earlier release's data, or on the broker's part alone.
async fn taken_over(left: &Value, has_store: bool, is_there: bool) -> Bench {
    let bench = Bench::with("").await;
    bench.let_time_pass();
    // Another person proves the shop's credential.
    let person = bench.person(1);
    let job = crate::bench::shop_job("acme", &person);
    bench.post.deliver(sent(None, None), job.to_string(), false);
    bench.post.event(crate::bench::id(&job), "completed").await;
    let email = message(left, false)["targets"][0]["email"].as_str().unwrap().to_owned();
    if is_there {
        let account = Account { email, customer_password: PASSWORD.to_owned(), erased: false };
        bench.rig.sandbox().world(|world| world.easycms("easycms").add(account));
    }
    if has_store {
        let mut batch = Batch::new();
        for (name, table) in [("job", Table::Job), ("journal", Table::Journal), ("meta", Table::Meta)] {
            for row in left[name].as_array().unwrap() {
                batch.put(table, bytes(&row[0]), bytes(&row[1]));
            }
        }
        bench.store.submit(batch).await.unwrap();
    }
    bench.restarted(&format!("master_key = \"{KEY}\""), "").await
}

fn return_copy(bench: &Bench, left: &Value) {
    let value = |value: &Value| match value {
        Value::String(text) => HeaderValue::Text(text.clone()),
        other => HeaderValue::Int(other.as_i64().unwrap()),
    };
    let headers = left["headers"].as_object().unwrap().iter().map(|(name, it)| (name.clone(), value(it))).collect();
    let properties = Properties { headers, message_id: Some(ID.to_owned()), ..Properties::default() };
    bench.post.put(Via::Resume, properties, Bytes::from(bytes(&left["body"])));
}

fn status(bench: &Bench) -> JobStatus {
    let key = JobKey { tenant: "acme".to_owned(), job_id: ID.parse().unwrap() };
    bench.engine.states(&key.tenant, &[key.job_id]).unwrap()[0].state
}

#[tokio::test]
async fn an_open_job_with_an_identifier_refused_today_goes_on_and_ends_only_by_evidence() {
    let left = left();
    for has_store in [true, false] {
        for is_there in [true, false] {
            let case = format!("store: {has_store}, there: {is_there}");
            let bench = taken_over(&left, has_store, is_there).await;
            let (letters, acked) = (bench.post.seen().letters.len(), bench.post.seen().acked);
            return_copy(&bench, &left);
            bench.post.until(&case, |seen| seen.acked > acked).await;
            if is_there || has_store {
                // It waits for the password as before: the copy is parked again.
                assert_eq!(status(&bench), JobStatus::NeedsInput, "{case}");
                assert_eq!(bench.post.seen().letters.len(), letters, "{case}");
                bench.post.deliver(sent(None, None), message(&left, true).to_string(), false);
            }
            if is_there {
                let event = bench.post.event(ID, "completed").await;
                assert_eq!(event["data"]["targets"][0]["outcome"], "erased", "{case}");
            } else {
                // No person can have that address, so "not found" by it proves nothing.
                let event = bench.post.event(ID, "failed").await;
                let target = &event["data"]["targets"][0];
                assert_eq!(
                    (target["outcome"].as_str(), target["error"]["code"].as_str()),
                    (Some("failed"), Some("ERS-0020")),
                    "{case}: {event:#}"
                );
                bench.post.until(&case, |seen| seen.letters.len() > letters).await;
            }
            assert!(!bench.post.seen().events.iter().any(|event| event["type"] == "erasure.job.rejected.v1"), "{case}");
            bench.end().await;
        }
    }
}

#[tokio::test]
async fn a_new_message_with_such_an_identifier_is_refused_also_beside_another_persons_job() {
    let left = left();
    let bench = taken_over(&left, true, true).await;
    for (id, email) in
        [(ID, "bob@example.com\u{200b}"), ("6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f12", "ann@example.com\u{200b}")]
    {
        let mut job = message(&left, true);
        (job["job_id"], job["targets"][0]["email"]) = (json!(id), json!(email));
        let letters = bench.post.seen().letters.len();
        bench.post.deliver(sent(None, None), job.to_string(), false);
        let seen = bench.post.until(email, |seen| seen.letters.len() > letters).await;
        let rejected = seen.events.iter().rfind(|event| event["subject"] == id).unwrap();
        assert_eq!(rejected["type"], "erasure.job.rejected.v1");
    }
    assert_eq!(status(&bench), JobStatus::NeedsInput);
    bench.end().await;
}

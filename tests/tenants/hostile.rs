//! Invalid jobs and invalid cancellations: each message is kept, and the events about it follow the schema.

use erasure_worker::broker::{HeaderValue, Properties};
use erasure_worker::job::schema;
use serde_json::{Value, json};
use testkit::mutate::{Mutator, corpus};
use testkit::post::header;

use crate::bench::{Bench, KEY, NOON, id, shop_job};
use crate::validator::fault;

const SEED: u64 = 20_260;
const JOBS: usize = 2_000;
const CANCELS: usize = 1_000;
const WORDS: [&str; 12] = [
    "\"schema\":\"erasure.job/v1\"",
    "\"schema\":\"erasure.cancel/v1\"",
    "\"tenant\":\"acme\"",
    "\"tenant\":\"Ä\"",
    "\"mode\":\"preview\"",
    "\"requested_at\":\"2062-01-01T00:00:00Z\"",
    "\"confirmed_at\":\"2099-01-01T00:00:00Z\"",
    "\"\\ud83d\"",
    "1e999",
    "null",
    "},",
    "[[[[[[[[",
];

/// Timestamp properties as libraries write them, and invalid ones.
fn timestamps() -> Vec<Option<u64>> {
    let noon = u64::try_from(NOON).unwrap();
    let sizes = [1, 1_000, 1_000_000, 1_000_000_000].map(|size| noon * size);
    let edges = [0, 1, 946_684_799, 946_684_800, 4_102_444_799, 4_102_444_800, 253_402_300_799, 253_402_300_800];
    let most = [9_223_372_036_854_775, 9_223_372_036_854_775_807, u64::MAX];
    sizes.into_iter().chain(edges).chain(most).map(Some).chain([None]).collect()
}

/// Properties that differ between neighbours.
fn properties(number: usize) -> Properties {
    let timestamps = timestamps();
    let texts =
        ["", "x", "Ann Example", "{6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11}", "\u{0}\u{feff}\u{202e}", "not-a-trace"];
    let text = |place: usize| Some(texts[(number / place) % texts.len()].to_owned());
    let traceparent = HeaderValue::Text(texts[number % texts.len()].to_owned());
    Properties {
        // Most have a job id, so that most make an event.
        message_id: if number.is_multiple_of(5) {
            text(1)
        } else {
            Some(uuid::Uuid::from_u128(number as u128).to_string())
        },
        correlation_id: text(2),
        content_type: text(3),
        kind: text(5),
        app_id: text(7),
        timestamp: timestamps[number % timestamps.len()],
        headers: [("traceparent".to_owned(), traceparent)].into(),
        ..Properties::default()
    }
}

/// Every event so far is valid under the schema and has an RFC 3339 time.
fn are_valid(events: &[Value]) {
    let schema = serde_json::from_str(schema::EVENT).unwrap();
    for event in events {
        assert_eq!(fault(&schema, event), None, "{event}");
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with('2') && time.ends_with('Z'), "{event}");
    }
}

#[tokio::test]
async fn every_event_about_a_hostile_message_is_valid_under_the_schema_and_every_message_is_kept() {
    let bench = Bench::with("").await;
    let mut mutator = Mutator::new(corpus("jobs"), &WORDS, SEED);
    for number in 0..JOBS {
        bench.post.deliver(properties(number), mutator.mutation(), false);
    }
    let seen = bench.post.until("every message", |seen| seen.acked == JOBS).await;
    assert_eq!(seen.letters.len(), JOBS, "all messages are for another environment");
    are_valid(&seen.events);
    assert!(seen.events.len() > JOBS / 2, "only {} events", seen.events.len());

    let cancel = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": uuid::Uuid::from_u128(1) });
    let mut mutator = Mutator::new(vec![cancel.to_string().into_bytes()], &WORDS, SEED);
    let mut unreadable = std::collections::BTreeSet::new();
    for number in 0..CANCELS {
        let body = mutator.mutation();
        if erasure_worker::job::Cancel::parse(&body).is_err() {
            unreadable.insert((body.clone(), number % timestamps().len()));
        }
        bench.post.control(properties(number), body);
    }
    let letters = JOBS + CANCELS / 2;
    let seen = bench.post.until("the letters of cancellations", |seen| seen.letters.len() >= letters).await;
    assert!(unreadable.len() > CANCELS / 2, "the mutations are too mild: {}", unreadable.len());
    are_valid(&seen.events);
    bench.end().await;
}

#[tokio::test]
async fn a_timestamp_in_seconds_or_milliseconds_is_the_events_time_and_other_numbers_are_ignored() {
    let bench = Bench::with("").await;
    let noon = "2026-11-22T10:00:00.000Z";
    for (number, timestamp) in timestamps().into_iter().enumerate() {
        let message_id = uuid::Uuid::from_u128(number as u128).to_string();
        let properties = Properties { message_id: Some(message_id.clone()), timestamp, ..Properties::default() };
        bench.post.deliver(properties, format!("no job {number}"), false);
        let event = bench.post.event(&message_id, "rejected").await;
        let expected = match timestamp {
            Some(946_684_800) => "2000-01-01T00:00:00.000Z",
            Some(4_102_444_799) => "2099-12-31T23:59:59.000Z",
            // In seconds, in milliseconds, or by the worker's clock.
            _ => noon,
        };
        assert_eq!(event["time"], expected, "{timestamp:?}");
    }
    bench.end().await;
}

/// An active worker: only it dead-letters unreadable messages of the control stream. There is one dead letter.
async fn active() -> Bench {
    let bench = Bench::with("").await;
    bench.post.deliver(Properties::default(), "no job", false);
    bench.post.until("its dead letter", |seen| seen.letters.len() == 1 && seen.acked == 1).await;
    bench
}

/// A job for a person in the shop, after a cancellation of it in another form. The cancellation's dead letter is the
/// second.
async fn cancelled_in_form(form: impl Fn(&str) -> Vec<u8>) -> (Bench, Value) {
    let bench = active().await;
    let person = bench.person(1);
    let job = shop_job("acme", &person);
    bench.post.control(Properties::default(), form(id(&job)));
    bench.post.until("its dead letter", |seen| seen.letters.len() == 2).await;
    bench.send(&job);
    bench.post.until("the job's end", |seen| seen.acked == 2).await;
    (bench, job)
}

#[tokio::test]
async fn a_cancellation_with_a_certain_job_is_obeyed_in_any_form_and_its_fault_is_reported() {
    let plain = |id: &str| json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id });
    let text = move |change: fn(&mut Value)| {
        move |id: &str| {
            let mut cancel = plain(id);
            change(&mut cancel);
            cancel.to_string().into_bytes()
        }
    };
    let value = |kind: u8, wide: bool| {
        move |id: &str| {
            let body = plain(id).to_string();
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            [&[0x00, 0x53, 0x77, kind][..], if wide { &length } else { &length[3..] }, body.as_bytes()].concat()
        }
    };
    let in_form = move |form: fn(&str) -> String| {
        move |id: &str| plain("ID").to_string().replace("ID\"", &format!("{}\"", form(id))).into_bytes()
    };
    type Form = Box<dyn Fn(&str) -> Vec<u8>>;
    let forms: Vec<(&str, Form)> = vec![
        ("braces", Box::new(in_form(|id| format!("{{{id}}}")))),
        ("a URN", Box::new(in_form(|id| format!("urn:uuid:{id}")))),
        ("digits alone", Box::new(in_form(|id| id.replace('-', "")))),
        ("spaces", Box::new(in_form(|id| format!(" {id} ")))),
        ("an extra field", Box::new(text(|cancel| cancel["reason"] = "changed her mind".into()))),
        ("an extra field that no text is", Box::new(text(|cancel| cancel["extensions"] = json!([1])))),
        (
            "a field twice",
            Box::new(move |id: &str| plain(id).to_string().replacen('{', "{\"tenant\":\"acme\",", 1).into_bytes()),
        ),
        ("an AMQP 1.0 text", Box::new(value(0xa1, false))),
        ("a long AMQP 1.0 text", Box::new(value(0xb1, true))),
        ("AMQP 1.0 bytes", Box::new(value(0xa0, false))),
        ("long AMQP 1.0 bytes", Box::new(value(0xb0, true))),
    ];
    for (what, form) in forms {
        let (bench, job) = cancelled_in_form(form).await;
        bench.post.event(id(&job), "cancelled").await;
        assert_eq!(bench.calls(), 0, "{what}: the person withdrew");
        let event = bench.post.event(id(&job), "rejected").await;
        assert_eq!(event["data"]["final"], false, "{what}");
        let letter = &bench.post.seen().letters[1].properties;
        assert!(header(letter, "x-erasure-reason").ends_with("is cancelled all the same"), "{what}");
        bench.end().await;
    }
}

#[tokio::test]
async fn an_ambiguous_cancellation_cancels_nothing_and_is_reported() {
    type Form = fn(&str) -> Value;
    let forms: [(&str, Form); 6] = [
        ("no schema", |id| json!({ "tenant": "acme", "job_id": id })),
        ("another schema", |id| json!({ "schema": "erasure.job/v1", "tenant": "acme", "job_id": id })),
        ("a tenant that is none", |id| json!({ "schema": "erasure.cancel/v1", "tenant": "ACME", "job_id": id })),
        ("no tenant's name", |id| json!({ "schema": "erasure.cancel/v1", "tenant": null, "job_id": id })),
        ("a cut id", |id| json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id[..35] })),
        ("a list", |id| json!([{ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id }])),
    ];
    for (what, form) in forms {
        let (bench, job) = cancelled_in_form(|id| form(id).to_string().into_bytes()).await;
        bench.post.event(id(&job), "completed").await;
        let letter = &bench.post.seen().letters[1].properties;
        assert!(!header(letter, "x-erasure-reason").contains("cancelled"), "{what}");
        bench.end().await;
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_permitted_in_jobs_and_cancellations() {
    let bench = active().await;
    let [kept, gone] = [1, 2].map(|number| shop_job("acme", &bench.person(number)));
    let marked = |value: &Value| format!("\u{feff}{value}").into_bytes();
    let cancel = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": id(&kept) });
    bench.post.control(Properties::default(), marked(&cancel));
    // The second cancellation follows in the stream: after its dead letter, the first was read.
    bench.post.control(Properties::default(), "no cancellation");
    bench.post.until("the letter of the second", |seen| seen.letters.len() == 2).await;
    for job in [&kept, &gone] {
        bench.post.deliver(Properties::default(), marked(job), false);
    }
    bench.post.event(id(&kept), "cancelled").await;
    bench.post.event(id(&gone), "completed").await;
    assert_eq!(bench.post.seen().letters.len(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_job_with_a_future_time_is_refused_but_an_accepted_job_goes_on_after_the_clock_is_set_back() {
    let bench = Bench::with("").await;
    let person = bench.person(1);
    for (pointer, time) in [
        ("/requested_at", "2062-11-22T10:00:00Z"),
        ("/requested_at", "2026-11-23T10:00:00.001Z"),
        ("/requested_at", "1999-12-31T23:59:59Z"),
        ("/confirmation", "2099-01-01T00:00:00Z"),
        ("/targets/0/confirmation", "2099-01-01T00:00:00Z"),
    ] {
        let mut job = shop_job("acme", &person);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let value = if name == "confirmation" { json!({ "confirmed_at": time }) } else { json!(time) };
        job.pointer_mut(parent).unwrap()[name] = value;
        bench.send(&job);
        let event = bench.post.event(id(&job), "rejected").await;
        let detail = event["data"]["error"]["detail"].as_str().unwrap();
        let path = pointer[1..].replace("/0/", "[0].").replace("confirmation", "confirmation.confirmed_at");
        assert!(detail.starts_with(&format!("{path}: is ")), "{detail}");
    }
    assert_eq!(bench.calls(), 0);
    // A day ahead is accepted as a clock's error. A clock that is set back does not undo an acceptance.
    let mut job = shop_job("acme", &person);
    job["requested_at"] = "2026-11-23T10:00:00Z".into();
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.send(&job);
    bench.post.until("the park", |seen| seen.parked.len() == 1).await;
    let bench = bench.restarted(&format!("master_key = \"{KEY}\""), "").await;
    bench.set_back(std::time::Duration::from_secs(3 * 86_400));
    bench.post.waits_end();
    bench.post.until("the next park", |seen| seen.parked.len() == 1).await;
    assert_eq!(bench.post.seen().of(id(&job)).iter().filter(|event| event["data"]["outcome"] == "rejected").count(), 0);
    bench.end().await;
}

//! Sealed messages that the broker's tools moved, or whose key is missing: they stay unchanged, and can be replayed
//! after the key is configured.

use erasure_worker::broker::{DeadLetter, HeaderValue, Properties, Via};
use erasure_worker::engine::operators::LetterFilter;
use serde_json::Value;
use testkit::post::header;

use crate::bench::{Bench, KEY, NEXT_KEY, id, sent, shop_job};

const OTHER_KEY: &str = "0f0e0d0c0b0a09080706050403020100fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0";
/// The keys of the receiving worker: the same key; the next key with the same as the previous one; the next key alone;
/// another environment's key.
fn keys() -> [String; 4] {
    [
        format!("master_key = \"{KEY}\""),
        format!("master_key = \"{NEXT_KEY}\"\nmaster_key_previous = \"{KEY}\""),
        format!("master_key = \"{NEXT_KEY}\""),
        format!("master_key = \"{OTHER_KEY}\""),
    ]
}

/// The moved message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    /// The dead letter of a failed job.
    Failed,
    /// The dead letter of an invalid message.
    Refused,
    /// The copy of a waiting job.
    Parked,
}

/// A message of this kind as it is on the broker, and the job as it was published.
async fn made(bench: &Bench, what: What) -> (Value, DeadLetter) {
    let person = bench.person(1);
    let mut job = shop_job("acme", &person);
    let target = job["targets"][0].as_object_mut().unwrap();
    match what {
        What::Failed => drop(target.insert("customer_password".into(), "wrong".into())),
        What::Refused => drop(target.insert("system".into(), "elsewhere".into())),
        What::Parked => drop(target.remove("customer_password")),
    }
    bench.post.deliver(sent(None, None), job.to_string(), false);
    let is_there = |seen: &testkit::post::Seen| seen.letters.len() + seen.parked.len() == 1 && seen.acked == 1;
    bench.post.until("it", is_there).await;
    let seen = bench.post.take();
    let parked = seen.parked.into_iter().map(|it| DeadLetter { properties: it.properties, body: it.body });
    (job, seen.letters.into_iter().chain(parked).next().unwrap())
}

fn headers(properties: &Properties) -> Vec<(&String, Option<&str>, Option<i64>)> {
    let value = |value: &'_ HeaderValue| value.as_int();
    properties.headers.iter().map(|(name, it)| (name, it.as_text(), value(it))).collect()
}

#[tokio::test]
async fn a_moved_sealed_message_or_one_without_its_key_stays_unchanged_and_can_be_replayed() {
    let mut cases = 0;
    for what in [What::Failed, What::Refused, What::Parked] {
        for via in [Via::Requests, Via::Resume, Via::Other] {
            for (number, key) in keys().iter().enumerate() {
                // A copy that arrives by its own queue, and opens, goes on.
                if what == What::Parked && via == Via::Resume && number < 2 {
                    continue;
                }
                cases += 1;
                let case = format!("{what:?} by {via:?} under key {number}");
                let bench = Bench::with("").await;
                bench.let_time_pass();
                let (job, moved) = made(&bench, what).await;
                let calls = bench.calls();
                let bench = bench.restarted(key, "").await;
                let events = bench.post.seen().events.len();
                bench.post.put(via, moved.properties.clone(), moved.body.clone());
                let seen = bench.post.until(&case, |seen| seen.letters.len() == 1).await;
                let letter = &seen.letters[0];
                assert_eq!(letter.body, moved.body, "{case}: sealed a second time");
                if what == What::Parked {
                    assert_eq!(header(&letter.properties, "x-erasure-code"), "ERS-0024", "{case}");
                } else {
                    assert_eq!(headers(&letter.properties), headers(&moved.properties), "{case}");
                }
                assert_eq!((bench.calls(), seen.events.len(), seen.parked.len()), (calls, events, 0), "{case}");

                let filter = LetterFilter::default();
                let bench = if number > 1 {
                    // Without its key it stays in the dead letters, or returns to them.
                    let moved_on = bench.engine.replay(&filter, 10).await.unwrap().swept.done;
                    let acked = seen.acked + moved_on;
                    let is_back = |seen: &testkit::post::Seen| seen.letters.len() == 1 && seen.acked == acked;
                    let seen = bench.post.until("it to be back", is_back).await;
                    assert_eq!(seen.letters[0].body, moved.body, "{case}");
                    bench.restarted(&keys()[0], "").await
                } else {
                    bench
                };
                // The shop has the job's password. The copy still waits for one.
                bench.set_shop_password(&bench.person(1), "wrong");
                bench.engine.replay(&filter, 10).await.unwrap();
                match what {
                    What::Failed => {
                        let event = bench.post.event(id(&job), "completed").await;
                        assert_eq!(event["data"]["run"], 2, "{case}");
                    }
                    What::Refused => {
                        let is_again =
                            |seen: &testkit::post::Seen| seen.events.len() > events && seen.letters.len() == 1;
                        let seen = bench.post.until("the same refusal", is_again).await;
                        assert_eq!(seen.of(id(&job)).len(), 2, "{case}");
                        assert_eq!(header(&seen.letters[0].properties, "x-erasure-code"), "ERS-0020", "{case}");
                    }
                    What::Parked => {
                        let seen = bench.post.until("the park", |seen| seen.parked.len() == 1).await;
                        assert!(seen.letters.is_empty(), "{case}");
                    }
                }
                bench.end().await;
            }
        }
    }
    assert_eq!(cases, 34);
}

#[tokio::test]
async fn a_moved_plain_dead_letter_stays_unchanged() {
    let bench = Bench::with("[dead_letters]\nseal = false").await;
    bench.let_time_pass();
    let (job, moved) = made(&bench, What::Failed).await;
    assert!(moved.body.starts_with(b"{"));
    let (calls, events) = (bench.calls(), bench.post.seen().events.len());
    bench.post.put(Via::Requests, moved.properties.clone(), moved.body.clone());
    let seen = bench.post.until("the letter", |seen| seen.letters.len() == 1).await;
    assert_eq!(
        (&seen.letters[0].body, headers(&seen.letters[0].properties)),
        (&moved.body, headers(&moved.properties))
    );
    assert_eq!((bench.calls(), seen.events.len()), (calls, events));
    bench.set_shop_password(&bench.person(1), "wrong");
    bench.engine.replay(&LetterFilter::default(), 10).await.unwrap();
    assert_eq!(bench.post.event(id(&job), "completed").await["data"]["run"], 2);
    bench.end().await;
}

#[tokio::test]
async fn a_publishers_message_that_imitates_a_sealed_one_gets_no_vouched_header() {
    let bench = Bench::with("").await;
    let (_, parked) = made(&bench, What::Parked).await;
    let mut body = parked.body.to_vec();
    body.extend_from_slice(b"more");
    bench.post.put(Via::Requests, parked.properties.clone(), body.into());
    bench.post.until("the letter", |seen| seen.letters.len() == 1).await;
    let page = bench.engine.dead_letters(&LetterFilter::default(), 0, 10).await.unwrap();
    assert!(!page.dead_letters[0].vouched);
    assert_eq!(bench.engine.replay(&LetterFilter::default(), 10).await.unwrap().swept.done, 1);
    bench.post.until("the letter again", |seen| seen.letters.len() == 1 && seen.acked >= 2).await;
    assert!(bench.is_in_shop(&bench.person(1)));
    bench.end().await;
}

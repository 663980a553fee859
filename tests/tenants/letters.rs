//! The age limit of dead letters: each removal is announced by an event.

use std::time::Duration;

use erasure_worker::broker::{Broker as _, Destination, HeaderValue, Properties, Publication};
use erasure_worker::engine::dead_letter_age::Aged;
use erasure_worker::engine::dead_letter_head::{LetterHead, Vouched};
use erasure_worker::engine::envelope::{self, DeadLetterHead};
use erasure_worker::engine::operators::LetterFilter;
use erasure_worker::job::record::DeadLetterNote;
use erasure_worker::job::{At, Carried, JobKey, Reason, StepName};
use erasure_worker::seal::{Keyring, MasterKey};

use crate::bench::{Bench, KEY, id, shop_job};

const DAY: Duration = Duration::from_secs(86_400);
const AGED: &str = "[dead_letters]\nmax_age = \"20d\"";

async fn failed(bench: &Bench) -> serde_json::Value {
    let mut job = shop_job("acme", &bench.person(1));
    job["targets"][0]["customer_password"] = "wrong".into();
    bench.send(&job);
    bench.post.event(id(&job), "failed").await;
    bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    job
}

#[tokio::test]
async fn a_dead_letter_is_announced_and_removed_only_after_its_notice() {
    let bench = Bench::with(AGED).await;
    let job = failed(&bench).await;
    bench.pass(15 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged::default());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged { reported: 1, removed: 0 });
    let event = bench.post.event(id(&job), "at_risk").await;
    assert_eq!(event["data"]["cause"], "dead_letter_expires");
    assert_eq!(event["data"]["expires_at"], "2026-12-12T10:00:00.000Z");
    assert_eq!(event["data"]["error"]["reason"], "wrong_customer_password");
    assert_eq!(event["data"]["final"], false);
    bench.pass(5 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged::default());
    assert_eq!(bench.post.seen().letters.len(), 1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged { reported: 0, removed: 1 });
    assert!(bench.post.seen().letters.is_empty());
    assert_eq!((bench.counted("dead_letters_aged", "told"), bench.counted("dead_letters_aged", "removed")), (1, 1));
    bench.end().await;
}

#[tokio::test]
async fn a_worker_that_was_down_at_the_notice_still_gives_the_full_notice() {
    let bench = Bench::with(AGED).await;
    let job = failed(&bench).await;
    bench.pass(100 * DAY);
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged { reported: 1, removed: 0 });
    bench.post.event(id(&job), "at_risk").await;
    bench.pass(5 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged::default());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged { reported: 0, removed: 1 });
    bench.end().await;
}

#[tokio::test]
async fn a_dead_letter_without_a_job_is_removed_without_an_event() {
    let bench = Bench::with(AGED).await;
    bench.post.deliver(Default::default(), "no job", false);
    bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    bench.pass(20 * DAY);
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged { reported: 0, removed: 1 });
    assert!(bench.post.seen().events.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_dead_letter_of_unknown_age_is_kept() {
    let bench = Bench::with(AGED).await;
    failed(&bench).await;
    let publication = erasure_worker::broker::Publication {
        to: erasure_worker::broker::Destination::DeadLetter,
        properties: Default::default(),
        body: "somebody else's".into(),
    };
    erasure_worker::broker::Broker::publish(&*bench.post, publication).await.unwrap();
    bench.pass(200 * DAY);
    bench.engine.sweep_dead_letters().await.unwrap();
    bench.pass(200 * DAY);
    bench.engine.sweep_dead_letters().await.unwrap();
    let left = bench.post.seen().letters;
    assert_eq!(left.iter().map(|letter| &letter.body[..]).collect::<Vec<_>>(), [b"somebody else's"]);
    bench.end().await;
}

/// Every header of ours on a dead letter, except its MACs.
const HEADERS: [&str; 10] = [
    "x-erasure-attempts",
    "x-erasure-at",
    "x-erasure-code",
    "x-erasure-job-id",
    "x-erasure-park",
    "x-erasure-reason",
    "x-erasure-run",
    "x-erasure-step",
    "x-erasure-system",
    "x-erasure-tenant",
];
const MAC: &str = "x-erasure-head-mac";
const EARLIER_MAC: &str = "x-erasure-letter-mac";

/// A worker's dead letter with all headers.
fn letter(keyring: &Keyring, job: u128, body: &[u8], run: u32) -> (Properties, Vec<u8>) {
    let key = JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(job) };
    let (system, step) = (Some("shop".to_owned()), Some(StepName::DeleteAccount));
    let note = DeadLetterNote { reason: Reason::NotGone, system, step, attempts: 3 };
    let carried = Carried::default();
    let at = At(1_700_000_000_000);
    let head = DeadLetterHead { key: Some(&key), run, park: 4, carried: &carried, at, note: &note, detail: None };
    let (properties, body) =
        envelope::dead_letter(keyring, &Properties::default(), &head, body, usize::MAX, true).unwrap();
    assert!(HEADERS.iter().all(|name| properties.headers.contains_key(*name)));
    (properties, body.to_vec())
}

/// A forger's possible MACs: none, a wrong one, another message's, and for unchanged headers the right one.
fn with_mac(properties: &Properties, other: &Properties, which: usize) -> Properties {
    let mut properties = properties.clone();
    match which {
        0 => drop(properties.headers.remove(MAC)),
        1 => drop(properties.headers.insert(MAC.to_owned(), HeaderValue::Text("00".repeat(32)))),
        2 => drop(properties.headers.insert(MAC.to_owned(), other.headers[MAC].clone())),
        _ => {}
    }
    properties
}

#[test]
fn a_dead_letters_headers_count_only_with_its_own_valid_mac() {
    let keyring = Keyring::new(MasterKey::parse(KEY).unwrap(), Vec::new()).unwrap();
    let mut cases = 0;
    for run in [0, 1] {
        let (whole, body) = letter(&keyring, 1, b"one", run);
        let (other, other_body) = letter(&keyring, 2, b"two", run);
        for (name, change, which) in HEADERS
            .iter()
            .flat_map(|name| (0..3).flat_map(move |change| (0..4).map(move |which| (*name, change, which))))
        {
            let mut properties = with_mac(&whole, &other, which);
            match change {
                0 => {}
                1 => drop(properties.headers.remove(name)),
                _ => drop(properties.headers.insert(name.to_owned(), HeaderValue::Text("forged".to_owned()))),
            }
            let head = LetterHead::read(&keyring, &properties, &body);
            let wholly = change == 0 && which == 3;
            assert_eq!(head.vouched == Vouched::Wholly, wholly, "{name} {change} {which}");
            // An earlier release's MAC covers only job and run.
            let is_tied = ["x-erasure-job-id", "x-erasure-park", "x-erasure-run", "x-erasure-tenant"].contains(&name);
            let expected = wholly || (run > 0 && !(is_tied && change > 0));
            assert_eq!(head.vouched != Vouched::Not, expected, "{name} {change} {which}");
            assert_eq!(head.key().is_some(), expected, "{name} {change} {which}");
            properties.headers.remove(EARLIER_MAC);
            let head = LetterHead::read(&keyring, &properties, &body);
            assert_eq!((head.vouched == Vouched::Wholly, head.key().is_some()), (wholly, wholly));
            // The same headers over another body.
            let head = LetterHead::read(&keyring, &properties, &other_body);
            assert_eq!(head.vouched, Vouched::Not, "{name} {change} {which}");
            cases += 3;
        }
    }
    eprintln!("headers of letters: {cases} cases");
}

#[tokio::test]
async fn unvouched_headers_make_no_event_remove_no_dead_letter_and_are_marked() {
    let bench = Bench::with(AGED).await;
    let job = failed(&bench).await;
    let real = bench.post.seen().letters[0].clone();
    let (other, _) = letter(&bench.keyring, 9, b"nine", 1);
    let mut forged = 0;
    for names in [&HEADERS[..], &["x-erasure-tenant", "x-erasure-job-id", "x-erasure-run", "x-erasure-at"]] {
        for which in 0..3 {
            let mut properties = with_mac(&real.properties, &other, which);
            properties
                .headers
                .retain(|name, _| !name.starts_with("x-erasure-") || name == MAC || names.contains(&name.as_str()));
            let tenant = HeaderValue::Text("victim".to_owned());
            properties.headers.insert("x-erasure-tenant".to_owned(), tenant);
            let long_ago = HeaderValue::Text("2020-01-01T00:00:00Z".to_owned());
            properties.headers.insert("x-erasure-at".to_owned(), long_ago);
            // The header of a message that the broker itself dead-lettered.
            properties.headers.insert("x-first-death-reason".to_owned(), HeaderValue::Text("expired".to_owned()));
            let publication = Publication { to: Destination::DeadLetter, properties, body: "{}".into() };
            bench.post.publish(publication).await.unwrap();
            forged += 1;
        }
    }
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Aged::default());
    let page = bench.engine.dead_letters(&LetterFilter::default(), 0, 100).await.unwrap();
    let vouched: Vec<bool> = page.dead_letters.iter().map(|letter| letter.vouched).collect();
    assert_eq!(vouched.iter().filter(|vouched| **vouched).count(), 1);
    assert_eq!(vouched.len(), forged + 1);
    assert!(bench.post.seen().events.iter().all(|event| event["data"]["tenant"] == "acme"));
    assert_eq!(bench.post.seen().of(id(&job)).len(), 1);
    eprintln!("forged letters: {forged}");
    bench.end().await;
}

//! The embedded queue against real files.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use erasure_worker::broker::spool::{
    EventFile, Events, LINE_MAX, Source, SpoolBroker, SpoolConfig, SpoolError, WAIT_FOR_INPUT, WAIT_HEADER,
};
use erasure_worker::broker::{
    Broker, Delivery, Destination, HeaderValue, Lost, Properties, Publication, PublishError, Tier, Verdict, Via,
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

fn fast() -> SpoolConfig {
    SpoolConfig { speed: 100, ..SpoolConfig::default() }
}

fn spool(jobs: &[&str], config: SpoolConfig) -> (Arc<SpoolBroker>, mpsc::UnboundedReceiver<Publication>) {
    let (events, received) = mpsc::unbounded_channel();
    let jobs = jobs.iter().map(|job| Bytes::copy_from_slice(job.as_bytes())).collect();
    (SpoolBroker::open(Source::jobs(jobs), Events::Channel(events), config).unwrap(), received)
}

async fn next(broker: &SpoolBroker) -> Option<Delivery> {
    tokio::time::timeout(PATIENCE, broker.next()).await.expect("a delivery or the end")
}

fn publication(to: Destination, body: &str) -> Publication {
    Publication { to, properties: Properties::default(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn event(id: &str) -> Publication {
    let body = format!(r#"{{"specversion":"1.0","id":"{id}"}}"#);
    let mut event = publication(Destination::Event { routing_key: "job.completed.acme".into() }, &body);
    event.properties.message_id = Some(id.into());
    event
}

async fn file_spool(path: &Path) -> Result<Arc<SpoolBroker>, SpoolError> {
    SpoolBroker::open(Source::jobs(vec![]), Events::File(EventFile::open(path)?), fast())
}

const FIRST: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";
const SECOND: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f12";

#[tokio::test]
async fn every_line_is_a_job_and_the_end_comes_after_all_jobs_in_hand() {
    let input: &[u8] = b"a\n\n  \r\nb\nc";
    let (events, _received) = mpsc::unbounded_channel();
    let broker = SpoolBroker::open(Source::reader(input), Events::Channel(events), fast()).unwrap();
    let mut held = Vec::new();
    for body in ["a", "b", "c"] {
        let delivery = next(&broker).await.unwrap();
        assert_eq!((&delivery.message.body[..], delivery.message.via), (body.as_bytes(), Via::Requests));
        held.push(delivery);
    }
    let ended = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.next().await.is_none() }
    });
    tokio::task::yield_now().await;
    assert!(!ended.is_finished());
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    assert!(tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap());
    assert_eq!(broker.abandoned(), 0);
}

#[tokio::test]
async fn a_line_over_the_limit_is_delivered_cut_just_above_the_limit() {
    let mut input = vec![b'x'; 3 * LINE_MAX];
    input.extend_from_slice(b"\nb\n");
    let (events, _received) = mpsc::unbounded_channel();
    let broker =
        SpoolBroker::open(Source::reader(std::io::Cursor::new(input)), Events::Channel(events), fast()).unwrap();
    assert_eq!(next(&broker).await.unwrap().message.body.len(), LINE_MAX + 1);
    assert_eq!(&next(&broker).await.unwrap().message.body[..], b"b");
}

#[tokio::test]
async fn parked_jobs_are_redelivered_by_resume_in_the_order_of_their_times() {
    let (broker, _events) = spool(&["a"], fast());
    let first = next(&broker).await.unwrap();
    broker.publish(publication(Destination::Wait(Tier::S30), "later")).await.unwrap();
    broker.publish(publication(Destination::Wait(Tier::S5), "sooner")).await.unwrap();
    first.settle.ack().await.unwrap();
    assert_eq!((broker.waiting(), broker.depth("wait.30s").await), (2, Some(1)));
    for body in ["sooner", "later"] {
        let delivery = next(&broker).await.unwrap();
        assert_eq!((&delivery.message.body[..], delivery.message.via), (body.as_bytes(), Via::Resume));
        delivery.settle.ack().await.unwrap();
    }
    assert!(next(&broker).await.is_none());
}

#[tokio::test]
async fn jobs_that_wait_for_a_person_are_counted_and_do_not_delay_the_end() {
    let (broker, _events) = spool(&["a"], SpoolConfig::default());
    let delivery = next(&broker).await.unwrap();
    let mut parked = publication(Destination::Wait(Tier::H1), "a");
    parked.properties.headers.insert(WAIT_HEADER.into(), HeaderValue::Text(WAIT_FOR_INPUT.into()));
    broker.publish(parked).await.unwrap();
    delivery.settle.ack().await.unwrap();
    assert!(next(&broker).await.is_none());
    assert_eq!((broker.waiting_for_input(), broker.waiting()), (1, 0));
}

#[tokio::test]
async fn no_more_jobs_are_in_hand_or_held_than_configured() {
    let (broker, _events) = spool(&["a", "b", "c"], SpoolConfig { in_hand: 2, held_max: 2, ..fast() });
    let first = next(&broker).await.unwrap();
    let _second = next(&broker).await.unwrap();
    let third = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.next().await.unwrap().message.body }
    });
    tokio::task::yield_now().await;
    assert!(!third.is_finished());
    // The parked first job still counts as held: it is redelivered before the third line is read.
    broker.publish(publication(Destination::Wait(Tier::S5), "parked")).await.unwrap();
    first.settle.ack().await.unwrap();
    assert_eq!(&tokio::time::timeout(PATIENCE, third).await.unwrap().unwrap()[..], b"parked");
}

#[tokio::test]
async fn a_requeued_job_is_redelivered_and_a_dropped_delivery_is_not() {
    let (broker, _events) = spool(&["a", "b"], fast());
    next(&broker).await.unwrap().settle.requeue().await.unwrap();
    let mut bodies = Vec::new();
    while let Some(delivery) = next(&broker).await {
        bodies.push((delivery.message.body.clone(), delivery.message.redelivered));
    }
    bodies.sort();
    assert_eq!(bodies, [(Bytes::from("a"), true), (Bytes::from("b"), false)]);
    assert_eq!(broker.abandoned(), 2);
}

#[tokio::test]
async fn a_paused_intake_delivers_nothing_and_a_closed_one_settles_nothing() {
    let (broker, _events) = spool(&["a", "b"], fast());
    let held = next(&broker).await.unwrap();
    broker.pause_intake().await;
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.next().await.map(|delivery| delivery.message.body) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    broker.resume_intake().await;
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().as_deref(), Some(&b"b"[..]));
    broker.close().await;
    assert!(held.message.lost.is_cancelled());
    assert_eq!(held.settle.ack().await, Err(Lost));
    assert!(next(&broker).await.is_none());
}

#[tokio::test]
async fn when_its_publish_returns_an_event_is_in_the_file_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let broker = file_spool(&path).await.unwrap();
    let repeats = (0..50).map(|n| broker.publish(event(if n % 2 == 0 { FIRST } else { SECOND })));
    for result in futures_util::future::join_all(repeats).await {
        assert_eq!(result, Ok(()));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_later_run_adds_only_missing_events_and_removes_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    file_spool(&path).await.unwrap().publish(event(FIRST)).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..whole.len() {
        let mut torn = whole.clone();
        torn.extend_from_slice(&String::from_utf8_lossy(&whole).replace(FIRST, SECOND).as_bytes()[..cut]);
        std::fs::write(&path, &torn).unwrap();
        let broker = file_spool(&path).await.unwrap();
        broker.publish(event(FIRST)).await.unwrap();
        broker.publish(event(SECOND)).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "cut after {cut} bytes");
        assert!(lines[0].contains(FIRST) && lines[1].contains(SECOND) && text.ends_with('\n'));
    }
}

#[tokio::test]
async fn a_file_without_events_is_refused_and_left_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.ndjson");
    for text in ["{\"schema\":\"erasure.job/v1\"}\n", "{\"schema\":\"erasure.job/v1\"}", "notes"] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(file_spool(&path).await, Err(SpoolError::NotEvents { line: 1, .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn dead_letters_survive_the_run_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead-letters.ndjson");
    let config = SpoolConfig { dead_letters: Some(path.clone()), ..fast() };
    let (broker, _events) = spool(&[], config.clone());
    for body in ["keep", "replay", "drop"] {
        let mut letter = publication(Destination::DeadLetter, body);
        letter.properties.headers.insert("x-erasure-code".into(), HeaderValue::Text("ERS-0001".into()));
        letter.properties.headers.insert("x-erasure-run".into(), HeaderValue::Int(1));
        broker.publish(letter).await.unwrap();
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A crash in the middle of a fourth dead letter.
    use std::io::Write;
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"headers\":{").unwrap();

    let (broker, _events) = spool(&[], config.clone());
    assert_eq!(broker.depth("dead-letters").await, Some(3));
    let mut decide = |letter: &erasure_worker::broker::DeadLetter| {
        assert_eq!(letter.properties.headers["x-erasure-code"].as_text(), Some("ERS-0001"));
        assert_eq!(letter.properties.headers["x-erasure-run"].as_int(), Some(1));
        match &letter.body[..] {
            b"replay" => Verdict::Replace(Box::new(publication(Destination::Resume, "replayed"))),
            b"drop" => Verdict::Remove,
            _ => Verdict::Keep,
        }
    };
    assert_eq!(broker.dead_letters(10, &mut decide).await, Ok(3));
    assert_eq!(&next(&broker).await.unwrap().message.body[..], b"replayed");

    let (broker, _events) = spool(&[], config);
    let mut bodies = Vec::new();
    let mut keep = |letter: &erasure_worker::broker::DeadLetter| {
        bodies.push(letter.body.clone());
        Verdict::Keep
    };
    broker.dead_letters(10, &mut keep).await.unwrap();
    assert_eq!(bodies, ["keep"]);
}

#[tokio::test]
async fn an_event_without_a_receiver_is_an_error() {
    let (broker, events) = spool(&[], fast());
    drop(events);
    assert!(matches!(broker.publish(event(FIRST)).await, Err(PublishError::Unrouted(_))));
}

#[tokio::test]
async fn cancellations_are_numbered_from_the_first() {
    let (broker, _events) = spool(&["a"], fast());
    for body in ["x", "y"] {
        broker.publish(publication(Destination::Cancel, body)).await.unwrap();
    }
    for (offset, body) in [(0, b"x"), (1, b"y")] {
        let control = broker.next_control(None).await.unwrap();
        assert_eq!((control.offset, &control.body[..]), (offset, &body[..]));
    }
    broker.stop_intake().await;
    assert!(broker.next_control(None).await.is_none());
}

//! Messages at which the broker itself ends the worker's connection, and messages of AMQP 1.0 publishers.
//!
//! RabbitMQ 4 ends the connection at an AMQP 1.0 property of type uuid. An earlier release speaks no AMQP 1.0: there a
//! relay ends the connection at the message, and a plain message has the properties that RabbitMQ 4 makes from an
//! AMQP 1.0 message.

use lapin::options::BasicGetOptions;
use lapin::types::ShortString;
use serde_json::{Value, json};
use testkit::amqp1::{self, Body, Client};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::raw::{RawMessage, RawPublisher, short};
use testkit::relay::Relay;
use testkit::rig::Rig;
use testkit::soon;
use testkit::worker::Worker;

use crate::poison::header;

const FATAL: &str = "bytes-over-which-the-connection-ends";
const ID: [u8; 16] = *b"0123456789abcdef";

/// Sends a message that the broker accepts, but cannot deliver over this connection.
fn send_fatal(rabbit: &Rabbit, exchange: &str, key: &str) {
    if rabbit.speaks_amqp1() {
        let application = [(amqp1::string("customer"), amqp1::uuid(ID))];
        let message = amqp1::message(&amqp1::null(), &application, &Body::Data(FATAL.as_bytes()));
        Client::connect(rabbit.port()).send(exchange, key, &message);
    } else {
        let body = FATAL.as_bytes().to_vec();
        let message = RawMessage { key: key.as_bytes().to_vec(), body, ..RawMessage::default() };
        RawPublisher::connect(rabbit.port()).publish(exchange, &[message]).unwrap();
    }
}

async fn page(worker: &Worker, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{path}", worker.address().await)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_the_link_is_reported_and_the_documented_policy_lets_the_other_jobs_end() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let relay = Relay::start(rabbit.port(), FATAL.as_bytes()).await;
    let rig = Rig::start(rabbit.url()).await;
    let url = if rabbit.speaks_amqp1() { rabbit.url() } else { relay.url() };
    let exchange = format!("{}.requests", rig.prefix);
    let worker = rig.worker("state", &[("ERASURE__AMQP__URL", &url)]);
    worker.says("connected to the broker").await;

    // As a cancellation: it is skipped, and the next cancellation is obeyed.
    let waiting = Case::new(rig.sandbox(), Form::Unconfirmed, 1);
    rig.publish(std::slice::from_ref(&waiting.body)).await;
    tokio::task::block_in_place(|| send_fatal(&rabbit, &exchange, "cancel"));
    rig.cancel(&waiting.id).await;
    let heard = rig.events.all_end([waiting.id.as_str()]).await;
    assert_eq!(heard.finals(&waiting.id).values().collect::<Vec<_>>(), ["cancelled"]);
    assert_eq!(worker.metric("erasure_control_skipped_total").await, 1.0);
    assert!(worker.log().contains("it is skipped and stays there"), "{}", worker.log());
    assert_eq!(worker.log().matches("the link to the broker is down").count(), 0, "the jobs' connection was lost too");

    // As a job: it is noticed and reported.
    tokio::task::block_in_place(|| send_fatal(&rabbit, &exchange, "job"));
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms, Form::LoyaltyProgram], 2..22);
    rig.publish(&bodies(&cases)).await;
    worker.says("the link to the broker ends each time before a delivery is settled").await;
    assert!(worker.metric("erasure_broker_links_lost_idle_total").await >= 3.0);
    let (status, ready) = page(&worker, "/readyz").await;
    assert!(status == 503 || ready.contains("links_lost_idle"), "{status}: {ready}");

    // The runbook's remedy: a delivery limit.
    let queue = format!("^{}\\.jobs$", rig.prefix);
    let out = ["set_policy", "erasure-out", &queue, r#"{"delivery-limit":5}"#];
    tokio::task::block_in_place(|| rabbit.ctl(&out));
    let heard = rig.events.all_end(ids(&cases)).await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
    }
    // The other jobs may end before the message has reached the limit.
    rig.holds("dead-letters", 1).await;
    tokio::task::block_in_place(|| rabbit.ctl(&["clear_policy", "erasure-out"]));
    soon("the worker to be well", async {
        loop {
            let (status, ready) = page(&worker, "/readyz").await;
            if status == 200 && !ready.contains("links_lost_idle") {
                break;
            }
        }
    })
    .await;

    // The dead letter ends the connection that lists dead letters, but not the jobs' connection.
    let before = worker.log().matches("the link to the broker is down").count();
    assert_eq!(page(&worker, "/v1/dead-letters").await.0, 503);
    let last = Case::new(rig.sandbox(), Form::EasyCms, 30);
    rig.publish(std::slice::from_ref(&last.body)).await;
    rig.events.all_end([last.id.as_str()]).await;
    assert_eq!(worker.log().matches("the link to the broker is down").count(), before);
    rig.holds("dead-letters", 1).await;
    let letters = format!("{}.dead-letters", rig.prefix);
    let taken = if rabbit.speaks_amqp1() {
        tokio::task::block_in_place(|| Client::connect(rabbit.port()).take(&letters))
    } else {
        let channel = rig.connect().await.create_channel().await.unwrap();
        let got = channel.basic_get(ShortString::from(letters), BasicGetOptions { no_ack: true }).await;
        got.unwrap().unwrap().delivery.data
    };
    assert!(String::from_utf8_lossy(&taken).contains(FATAL));
    assert_eq!(page(&worker, "/v1/dead-letters").await.0, 200);
    worker.stop().await;
    rig.is_empty().await;
    rig.nothing_repeated();
}

/// The type of an AMQP 1.0 publisher's message id.
#[derive(Clone, Copy)]
enum Name {
    Text(uuid::Uuid),
    Uuid(uuid::Uuid),
    Bytes(uuid::Uuid),
}

/// Sends a body without a `job_id`; in a value section if `as_value`.
fn send(rabbit: &Rabbit, exchange: &str, key: &str, name: Name, body: &Value, as_value: bool) {
    let body = body.to_string();
    if rabbit.speaks_amqp1() {
        let id = match name {
            Name::Text(id) => amqp1::string(&id.to_string()),
            Name::Uuid(id) => amqp1::uuid(id.into_bytes()),
            Name::Bytes(id) => amqp1::binary(id.as_bytes()),
        };
        let body = if as_value { Body::Text(&body) } else { Body::Data(body.as_bytes()) };
        let message = amqp1::message(&id, &[], &body);
        return Client::connect(rabbit.port()).send(exchange, key, &message);
    }
    let id = match name {
        Name::Text(id) => id.to_string().into_bytes(),
        Name::Uuid(id) => format!("urn:uuid:{id}").into_bytes(),
        Name::Bytes(id) => id.into_bytes().to_vec(),
    };
    // The message-id, and the type of a value section.
    let mut message = RawMessage { key: key.as_bytes().to_vec(), flags: 1 << 7, ..RawMessage::default() };
    message.properties = short(&id);
    message.body = body.clone().into_bytes();
    if as_value {
        message.flags |= 1 << 5;
        message.properties.extend(short(b"amqp-1.0"));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        message.body = [&[0x00, 0x53, 0x77, 0xb1][..], &length, body.as_bytes()].concat();
    }
    RawPublisher::connect(rabbit.port()).publish(exchange, &[message]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_1_0_ids_and_bodies_are_accepted_or_reported_and_a_cancellation_is_never_dropped() {
    let rabbit = Rabbit::shared();
    let rig = Rig::start(rabbit.url()).await;
    let exchange = format!("{}.requests", rig.prefix);
    // A second worker, with its own store, reads the same stream.
    let started = |name: &str| {
        let folder = rig.folder.path().join(format!("import-of-{name}"));
        rig.worker(name, &[("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", folder.to_str().unwrap())])
    };
    let workers = [started("first"), started("second")];
    for worker in &workers {
        worker.says("connected to the broker").await;
    }
    let case = |number| {
        let mut case = Case::new(rig.sandbox(), Form::EasyCms, number);
        case.body.as_object_mut().unwrap().remove("job_id");
        case.body
    };
    let id = |number: u128| uuid::Uuid::from_u128(0x7a31_9c5e_0b64_4d1f_8e2a_d3c4_b5a6_9700 + number);
    let job = |name, number, as_value| {
        let body = case(number);
        tokio::task::block_in_place(|| send(rabbit, &exchange, "job", name, &body, as_value));
    };
    job(Name::Text(id(1)), 1, false);
    job(Name::Uuid(id(2)), 2, false);
    job(Name::Uuid(id(3)), 3, true);
    job(Name::Bytes(id(4)), 4, false);
    let heard = rig.events.all_end([1, 2, 3].map(|number| id(number).to_string()).iter().map(String::as_str)).await;
    let outcome = |number: u128| heard.finals(&id(number).to_string()).into_values().collect::<Vec<_>>();
    assert_eq!([outcome(1), outcome(2), outcome(3)], [["completed"], ["completed"], ["rejected"]]);
    // An id of bytes names no job: a dead letter, without an event.
    rig.holds("dead-letters", 2).await;

    // A cancellation in a value section: it is obeyed, and its fault is reported once.
    let [waiting, last] = [9, 11].map(|number| Case::new(rig.sandbox(), Form::Unconfirmed, number));
    rig.publish(&[waiting.body.clone(), last.body.clone()]).await;
    let is_asked = |heard: &testkit::events::Heard| [&waiting, &last].iter().all(|case| !heard.of(&case.id).is_empty());
    rig.events.until("the questions", is_asked).await;
    let name = uuid::Uuid::parse_str(&waiting.id).unwrap();
    let cancel = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": waiting.id });
    tokio::task::block_in_place(|| send(rabbit, &exchange, "cancel", Name::Uuid(name), &cancel, true));
    let is_rejected = |event: &Value| event["type"] == "erasure.job.rejected.v1";
    let heard = rig.events.until("the rejection", |heard| heard.of(&waiting.id).iter().any(is_rejected)).await;
    let rejected = heard.of(&waiting.id).iter().find(|event| is_rejected(event)).unwrap();
    assert_eq!(rejected["data"]["final"], false, "{rejected}");
    assert!(rejected.to_string().contains("publish the JSON as bytes"), "{rejected}");
    rig.holds("dead-letters", 3).await;
    // Both workers have read the report in the stream once a later cancellation is obeyed.
    rig.cancel(&last.id).await;
    let heard = rig.events.all_end([waiting.id.as_str(), last.id.as_str()]).await;
    for case in [&waiting, &last] {
        assert_eq!(heard.finals(&case.id).into_values().collect::<Vec<_>>(), ["cancelled"]);
    }
    let counts = [
        workers[0].metric("erasure_cancellations_unreadable_total").await,
        workers[1].metric("erasure_cancellations_unreadable_total").await,
    ];
    assert_eq!(counts.iter().sum::<f64>(), 1.0, "not reported exactly once: {counts:?}");
    // A worker with an empty store reads the stream from its first message, and reports no fault again.
    let third = started("third");
    third.says("the control stream was read to its end").await;
    for worker in workers {
        worker.stop().await;
    }
    let after = Case::new(rig.sandbox(), Form::EasyCms, 10);
    rig.publish(std::slice::from_ref(&after.body)).await;
    rig.events.all_end([after.id.as_str()]).await;
    assert_eq!(third.metric("erasure_cancellations_unreadable_total").await, 0.0);
    third.stop().await;
    let mut details = Vec::new();
    soon("three letters", async {
        while details.len() < 3 {
            for (properties, _) in rig.dead_letters().await {
                assert_eq!(header(&properties, "x-erasure-code").as_deref(), Some("ERS-0020"));
                details.push(header(&properties, "x-erasure-reason").unwrap());
            }
        }
    })
    .await;
    let values = details.iter().filter(|detail| detail.contains("publish the JSON as bytes")).count();
    assert_eq!((details.len(), values), (3, 2), "{details:?}");
    let id = details.iter().find(|detail| !detail.contains("publish the JSON")).unwrap();
    assert!(id.contains("UTF-8") || id.contains("expected a UUID"), "{id}");
    rig.is_empty().await;
    rig.nothing_repeated();
}

//! Messages that crash the worker.

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, ShortString};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;
use testkit::worker::Worker;

/// A text header of a message.
pub fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Restarts the worker after each crash, until `done`.
pub async fn keep_alive(start: impl Fn() -> Worker, done: impl Future<Output = ()>) -> (Worker, u32) {
    let mut done = std::pin::pin!(done);
    let mut deaths = 0;
    let mut worker = start();
    loop {
        tokio::select! {
            () = &mut done => return (worker, deaths),
            status = worker.ended_some_day() => {
                assert_eq!(status.code(), None, "{status}: {}", worker.log());
                deaths += 1;
                assert!(deaths < 1000, "endless crashes");
                worker = start();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_the_worker_three_times_alone_becomes_a_dead_letter_and_other_jobs_complete() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let cases = Case::mixed(sandbox, &[Form::LoyaltyProgram, Form::EasyCms], 1..9);
    let slow = |operation| FaultRule::on(operation, Action::Delay { ms: 4000, after_work: false });
    // The other jobs are on the wire when the poison message arrives.
    sandbox.add_fault(slow(Operation::GetMember).nth(1).per_subject());
    sandbox.add_fault(slow(Operation::CustomerExists).nth(1).per_subject());
    rig.publish(&bodies(&cases)).await;
    let poison = Case::new(sandbox, Form::EasyCms, 99);
    let place = format!("after_parse@{}", poison.id);
    let start = || rig.worker("state", &[("ERASURE_CRASH_AT", place.as_str())]);
    let all = async {
        let calls = |calls: &[Entry]| calls.len() >= cases.len();
        soon("eight slow calls", sandbox.wait_for(calls)).await;
        rig.publish(std::slice::from_ref(&poison.body)).await;
        rig.events.all_end(ids(&cases)).await;
        rig.events.until("the rejection", |heard| !heard.of(&poison.id).is_empty()).await;
        rig.holds("jobs", 0).await;
        rig.holds("dead-letters", 1).await;
    };
    let (worker, deaths) = keep_alive(start, all).await;
    assert_eq!(deaths, 4, "not once beside others and three times alone");
    worker.stop().await;

    let letters = rig.dead_letters().await;
    assert_eq!(header(&letters[0].0, "x-erasure-code").as_deref(), Some("ERS-0023"));
    assert_eq!(letters[0].0.message_id().as_ref().map(ToString::to_string), Some(poison.id.clone()));
    let heard = rig.events.heard();
    assert_eq!(heard.of(&poison.id)[0]["data"]["outcome"], "rejected");
    assert!(heard.of(&poison.id)[0]["data"]["receipt"].is_string(), "the final event has no receipt");
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
        assert_eq!(case.remains(sandbox), [""; 0]);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_job_gets_its_code_and_its_event() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::EasyCms, 1);
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2).with_expiration(ShortString::from("1"));
    let (exchange, key) = (ShortString::from(format!("{}.requests", rig.prefix)), ShortString::from("job"));
    let body = case.body.to_string();
    let sent = channel.basic_publish(exchange, key, BasicPublishOptions::default(), body.as_bytes(), properties);
    sent.await.unwrap();
    rig.holds("dead-letters", 1).await;

    let worker = rig.worker("state", &[]);
    let heard = rig.events.until("the rejection", |heard| !heard.of(&case.id).is_empty()).await;
    let error = &heard.of(&case.id)[0]["data"]["error"];
    assert_eq!(error["code"], "ERS-0026");
    assert!(error["detail"].as_str().unwrap().contains("it expired"), "{error}");
    worker.says("were given their code").await;
    worker.stop().await;
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0].0, "x-erasure-code").as_deref(), Some("ERS-0026"));
    assert_eq!(header(&letters[0].0, "x-erasure-job-id").as_ref(), Some(&case.id));
    assert!(!String::from_utf8_lossy(&letters[0].1).contains(&case.id), "its body is sealed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_job_that_had_begun_ends_under_its_own_tenant() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let poison = Case::new(rig.sandbox(), Form::EasyCms, 1);
    rig.publish(std::slice::from_ref(&poison.body)).await;
    let place = format!("before_call@{}", poison.id);
    let start = || rig.worker("state", &[("ERASURE_CRASH_AT", place.as_str())]);
    let all = async {
        rig.events.until("the end", |heard| !heard.of(&poison.id).is_empty()).await;
        rig.holds("jobs", 0).await;
        rig.holds("dead-letters", 1).await;
    };
    let (worker, deaths) = keep_alive(start, all).await;
    assert_eq!(deaths, 4, "not once beside others and three times alone");
    worker.stop().await;
    let heard = rig.events.heard();
    let [event] = heard.of(&poison.id) else { panic!("{:?}", heard.of(&poison.id)) };
    assert_eq!(
        (&event["data"]["tenant"], &event["data"]["error"]["code"]),
        (&"acme".into(), &"ERS-0023".into()),
        "{event}"
    );
    let letters = rig.dead_letters().await;
    assert_eq!(header(&letters[0].0, "x-erasure-tenant").as_deref(), Some("acme"));
    assert_eq!(header(&letters[0].0, "x-erasure-job-id").as_ref(), Some(&poison.id));
}

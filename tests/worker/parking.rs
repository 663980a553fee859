//! Parked jobs, duplicates of their copies, and messages that imitate a copy.
//!
//! The rule it keeps: only the newest copy is processed, and only the worker's own headers count.

use erasure_worker::sandbox::{Action, FaultRule, MemberKey, MemberProof, Operation as Op};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use testkit::amqp::Message;
use testkit::people::{self, id, unconfirmed};

use crate::trial::Trial;

/// A job that waits for its one-time password, and the delivered copy with that wait. An earlier copy, parked for
/// another reason, does not count.
async fn parked_job(trial: &Trial) -> (Value, Message) {
    trial.sandbox().world(|world| world.loyalty("loyalty").settings.member_proof = MemberProof::Otp);
    let person = trial.person();
    let job = unconfirmed(&[people::member_api(&person)]);
    trial.submit(&job).await;
    let waits = |copy: &Message| copy.job_id() == id(&job) && copy.header("x-erasure-wait") == "input";
    let copy = trial.client.resumed.first("the parked copy", waits).await;
    (job, copy)
}

async fn complete(trial: &Trial, job: &mut Value) {
    let number = job["targets"][0]["member"]["integration_id"].as_str().unwrap().trim_start_matches("INT-").to_owned();
    let code = trial.sandbox().world(|world| {
        let (code, sent) = world.loyalty("loyalty").mailbox(&format!("db-{number}")).unwrap();
        assert_eq!(sent, 1, "one password for all copies");
        code.to_owned()
    });
    job["targets"][0]["code"] = json!(code);
    trial.runs_to(job, "completed").await;
    let read = [Op::GetMember, Op::GetProfile];
    let flow = [&read[..], &[Op::RequestOtp], &read, &[Op::DeleteProfile, Op::GetMember]].concat();
    assert_eq!(trial.calls("loyalty"), flow);
}

#[tokio::test]
async fn duplicates_of_a_parked_job_make_one_run_and_send_no_second_password() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "otp")]).await;
    let (mut job, copy) = parked_job(&trial).await;
    for _ in 0..5 {
        trial.client.publish("resume", "job", &copy.body, copy.properties.clone()).await;
    }
    complete(&trial, &mut job).await;
    // The copies have no effect after the job's end either.
    for _ in 0..5 {
        trial.client.publish("resume", "job", &copy.body, copy.properties.clone()).await;
    }
    let next = unconfirmed(&[people::easycms(&trial.person())]);
    trial.runs_to(&next, "completed").await;
    trial.client.fence().await;
    let ends = trial.client.events.all().iter().filter(|event| event.job_id() == id(&job) && event.is_final()).count();
    assert_eq!(ends, 1);
    trial.end().await;
}

#[tokio::test]
async fn an_older_copy_of_a_parked_job_is_acked_without_a_call_and_one_copy_stays_on_the_broker() {
    let mut trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = unconfirmed(&[people::manual(&person)]);
    trial.submit(&job).await;
    let is_copy = |copy: &Message| copy.job_id() == id(&job);
    let copy = trial.client.resumed.first("the parked copy", is_copy).await;
    for _ in 0..5 {
        trial.client.publish("resume", "job", &copy.body, copy.properties.clone()).await;
    }
    // This job is behind them in the queue. An orderly stop settles all jobs in hand.
    let next = unconfirmed(&[people::easycms(&trial.person())]);
    trial.runs_to(&next, "completed").await;
    trial.stop_worker().await;
    trial.client.holds_copies(1).await;
    let numbers: std::collections::BTreeSet<String> = trial
        .client
        .resumed
        .all()
        .iter()
        .filter(|copy| is_copy(copy))
        .map(|copy| copy.header("x-erasure-park"))
        .collect();
    let looks = trial.calls("loyalty");
    assert!(looks.len() <= 1 + numbers.len(), "a look for the job and one for each number: {looks:?}, {numbers:?}");

    trial.sandbox().world(|world| {
        assert!(world.loyalty("loyalty").delete_by_hand(MemberKey::MemberId, &person.member_id, 0));
    });
    trial.start_worker();
    trial.runs_to(&job, "completed").await;
    // The last parked copy is delivered and acked.
    trial.client.holds_copies(0).await;
    trial.end().await;
}

#[tokio::test]
async fn a_copy_with_changed_headers_does_not_count_as_a_copy_and_does_not_change_the_job() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "otp")]).await;
    let (mut job, copy) = parked_job(&trial).await;
    let changed = |name: &str, value: AMQPValue| {
        let mut headers = copy.properties.headers().clone().unwrap();
        headers.insert(name.into(), value);
        copy.properties.clone().with_headers(headers)
    };
    let forgeries = [
        changed("x-erasure-run", AMQPValue::LongLongInt(2)),
        changed("x-erasure-park", AMQPValue::LongLongInt(1 << 40)),
        changed("x-erasure-tenant", AMQPValue::LongString("other".into())),
        changed("x-erasure-mac", AMQPValue::LongString("00".repeat(32).into())),
    ];
    let count = forgeries.len();
    for forgery in forgeries {
        trial.client.publish("resume", "job", &copy.body, forgery).await;
    }
    // A sealed body without a valid MAC is kept unchanged.
    let letters = trial.client.dead_letters.count("the forgeries", count, |_| true).await;
    for letter in &letters {
        assert_eq!((letter.header("x-erasure-code").as_str(), &letter.body), ("ERS-0024", &copy.body));
    }
    complete(&trial, &mut job).await;
    trial.end().await;
}

#[tokio::test]
async fn our_headers_from_a_publisher_have_no_effect() {
    let trial = Trial::start(&[]).await;
    let (ann, bob) = (trial.person(), trial.person());
    let victim = unconfirmed(&[people::program(&ann, "member_id")]);
    for exchange in ["requests", "resume"] {
        let person = if exchange == "requests" { &ann } else { &bob };
        let job = unconfirmed(&[people::program(person, "member_id")]);
        let mut headers = FieldTable::default();
        headers.insert("x-erasure-tenant".into(), AMQPValue::LongString("acme".into()));
        headers.insert("x-erasure-job-id".into(), AMQPValue::LongString(id(&victim).into()));
        headers.insert("x-erasure-run".into(), AMQPValue::LongLongInt(7));
        headers.insert("x-erasure-park".into(), AMQPValue::LongLongInt(99));
        headers.insert("x-erasure-mac".into(), AMQPValue::LongString("ff".repeat(32).into()));
        headers.insert("x-erasure-code".into(), AMQPValue::LongString("ERS-0001".into()));
        let properties = BasicProperties::default()
            .with_correlation_id(crate::checks::correlation_of(id(&job)).as_str().into())
            .with_headers(headers);
        trial.client.publish(exchange, "job", job.to_string().as_bytes(), properties).await;
        let event = trial.ended(&job, "completed", 1).await;
        assert_eq!((event.data("run"), event.data("seq")), (&json!(1), &json!(1)));
        assert_eq!(event.header("x-erasure-run"), "");
    }
    trial.end().await;
}

#[tokio::test]
async fn a_job_in_hand_for_too_long_is_parked_briefly_and_goes_on() {
    let trial = Trial::start(&[
        ("worker.in_hand_max", "1s"),
        ("worker.inline_wait_max", "500ms"),
        ("systems.cleeng.timeout", "900ms"),
        ("systems.cleeng.connect_timeout", "500ms"),
        ("systems.loyalty.timeout", "900ms"),
        ("systems.loyalty.connect_timeout", "500ms"),
        ("systems.easycms.timeout", "900ms"),
        ("systems.easycms.connect_timeout", "500ms"),
        ("systems.vitalsource.timeout", "900ms"),
        ("systems.vitalsource.connect_timeout", "500ms"),
    ])
    .await;
    let person = trial.person();
    for operation in [Op::GetCustomer, Op::ListEntitlements, Op::UpdateSubscription] {
        let slow = Action::Delay { ms: 400, after_work: false };
        trial.sandbox().add_fault(FaultRule::on(operation, slow));
    }
    let job = people::job(&[people::backend(&person)]);
    trial.submit(&job).await;
    let copy = trial.client.resumed.first("the parked copy", |copy| copy.job_id() == id(&job)).await;
    assert_eq!(copy.header("x-erasure-wait"), "renewal");
    trial.ended(&job, "completed", 1).await;
    assert_eq!(trial.calls("cleeng").len(), 7, "no call was repeated");
    trial.end().await;
}

#[tokio::test]
async fn the_publishers_trace_is_in_the_events_also_after_a_wait() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::redeemed(&person)]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let properties = || {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
        BasicProperties::default()
            .with_correlation_id(crate::checks::correlation_of(id(&job)).as_str().into())
            .with_headers(headers)
    };
    let publish = properties();
    trial.client.publish("requests", "job", job.to_string().as_bytes(), publish).await;
    assert_eq!(trial.event(&job, "needs_input").await.json["traceparent"], trace);
    let copy = trial.client.resumed.first("the parked copy", |copy| copy.job_id() == id(&job)).await;
    assert_eq!(copy.header("traceparent"), trace);
    people::confirm(&mut job);
    trial.runs_to(&job, "completed").await;
    trial.end().await;
}

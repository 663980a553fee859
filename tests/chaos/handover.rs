//! Jobs that another worker, with its own store, has had in hand before.

use erasure_worker::app;
use erasure_worker::broker::amqp::AmqpBroker;
use erasure_worker::broker::{Broker as _, Destination, Properties, Publication};
use erasure_worker::engine::envelope::{self, CopyHead};
use erasure_worker::job::{Carried, JobKey};
use erasure_worker::sandbox::{Action, FaultRule, Operation};
use serde_json::Value;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;
use testkit::worker::Worker;

use crate::persons::known;
use crate::poison::keep_alive;

/// Publishes a replay with another worker's numbers.
async fn replay(rig: &Rig, case: &Case, run: u32, park: u64) {
    let config = rig.config("elsewhere");
    let keyring = app::keyring(&config).unwrap();
    let key = JobKey { tenant: "acme".to_owned(), job_id: case.id.parse().unwrap() };
    let original = Properties { message_id: Some(case.id.clone()), ..Properties::default() };
    let body = case.body.to_string();
    let head = CopyHead { key: &key, run, park, wait: "replay", carried: &Carried::default() };
    let (properties, body) = envelope::parked(&keyring, &original, &head, body.as_bytes()).unwrap();
    let broker = AmqpBroker::connect(app::amqp(&config, false).unwrap()).await.unwrap();
    let mut link = broker.link();
    link.wait_for(|link| *link == erasure_worker::broker::Link::Up).await.unwrap();
    broker.publish(Publication { to: Destination::Resume, properties, body }).await.unwrap();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_numbered_by_another_worker_keeps_its_run_and_is_never_stale() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::WrongPassword, 1);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let log = rig.folder.path().join("ended-at");
    let place = format!("after_intent@{}#2", case.id);
    let settings = [("ERASURE_CRASH_AT", place.as_str()), ("ERASURE_CRASH_LOG", log.to_str().unwrap())];
    let start = || rig.worker("state", &settings);
    let all = async {
        rig.events.all_end([case.id.as_str()]).await;
        // The other worker counted fewer parks and more runs than this worker's store.
        replay(&rig, &case, 5, 0).await;
        rig.events.until("a second ending", |heard| heard.finals(&case.id).len() == 2).await;
        rig.is_empty().await;
    };
    let (worker, deaths) = keep_alive(start, all).await;
    worker.stop().await;
    assert_eq!(deaths, 1, "not exactly one crash");
    let heard = rig.events.heard();
    let runs: Vec<_> = heard.of(&case.id).iter().map(|event| event["data"]["run"].as_u64().unwrap()).collect();
    assert!(runs.iter().all(|run| [1, 5].contains(run)) && runs.last() == Some(&5), "{runs:?}");
    rig.nothing_repeated();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_run_begun_by_another_worker_continues_from_this_workers_store() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::Unconfirmed, 1);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let worker = rig.worker("state", &[]);
    rig.events.until("the question", |heard| !heard.of(&case.id).is_empty()).await;
    // At another worker the job failed meanwhile without an answer, and is replayed with the answer.
    let answered = Case { body: case.answered(None), ..case.clone() };
    replay(&rig, &answered, 2, 1).await;
    let heard = rig.events.all_end([case.id.as_str()]).await;
    rig.is_empty().await;
    worker.stop().await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(heard.of(&case.id).last().unwrap()["data"]["run"], 2);
    assert_eq!(case.remains(rig.sandbox()), [""; 0]);
    rig.nothing_repeated();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_person_is_read_again_if_another_worker_may_have_had_the_job_meanwhile() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::Unconfirmed, 1);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let log = rig.folder.path().join("ended-at");
    let settings = [("ERASURE_CRASH_AT", "after_park_number"), ("ERASURE_CRASH_LOG", log.to_str().unwrap())];
    // The worker has read a subscription, which needs a confirmation.
    let mut worker = rig.worker("state", &settings);
    assert!(!worker.ended().await.success());
    // Meanwhile another worker did the job, and the message is redelivered.
    rig.sandbox().world(|world| {
        let mut customer = world.cleeng("cleeng").customer(&case.person.customer_id).unwrap().clone();
        customer.erased = true;
        customer.entitlements.clear();
        world.cleeng("cleeng").add(customer);
    });
    let worker = rig.worker("state", &settings);
    let heard = rig.events.all_end([case.id.as_str()]).await;
    worker.stop().await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_says_partial_if_a_killed_workers_deletion_was_still_on_the_wire() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::EasyCms, 1);
    rig.sandbox().add_fault(FaultRule::on(Operation::DeleteAccount, Action::Delay { ms: 2_000, after_work: false }));
    let timeout = ("ERASURE__SYSTEMS__EASYCMS__TIMEOUT", "5s");
    let first = rig.worker("first", &[timeout]);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let deletes =
        |calls: &[erasure_worker::sandbox::Entry]| calls.iter().any(|call| call.operation == Operation::DeleteAccount);
    soon("the deletion", rig.sandbox().wait_for(deletes)).await;
    first.kill().await;
    rig.cancel(&case.id).await;
    // Its store does not know of the call.
    let second = rig.worker("second", &[timeout]);
    let heard = rig.events.all_end([case.id.as_str()]).await;
    second.stop().await;
    let last = heard.of(&case.id).last().unwrap()["data"].clone();
    assert_eq!((&last["outcome"], &last["partial"]), (&Value::from("cancelled"), &Value::from(true)), "{last}");
    assert_eq!(case.remains(rig.sandbox()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_with_its_own_store_takes_over_from_a_killed_worker() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let forms = [Form::CleengBackend, Form::CleengMediastore, Form::EasyCms, Form::VitalSource];
    let cases = Case::mixed(sandbox, &forms, 1..61);
    let slow = FaultRule::on(Operation::Unknown, Action::Delay { ms: 20, after_work: true });
    sandbox.add_fault(FaultRule { operation: None, ..slow });
    let first = rig.worker("first", &[]);
    first.says("working").await;
    let elsewhere = rig.folder.path().join("import-of-second");
    // A worker with an empty store believes an absence only after a read that shows an existing person.
    let known_person = Case::new(sandbox, Form::Unconfirmed, 61).person;
    let mut settings = known(&known_person).to_vec();
    settings.push(("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", elsewhere.to_str().unwrap()));
    let second = rig.worker("second", &settings);
    second.says("working").await;
    rig.publish(&bodies(&cases)).await;
    let effects = |calls: &[erasure_worker::sandbox::Entry]| calls.iter().filter(|call| call.effect).count();
    soon("some erasures", sandbox.wait_for(|calls| effects(calls) >= 40)).await;
    first.kill().await;
    let heard = rig.events.all_end(ids(&cases)).await;
    second.stop().await;
    for case in &cases {
        // The second worker publishes an unacked job's final event again. Its store is another, so bytes and id
        // differ.
        let finals = heard.finals(&case.id);
        let is_well = (1..=2).contains(&finals.len()) && finals.values().all(|outcome| outcome == "completed");
        assert!(is_well, "{:?}: {:#?}", case.form, heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

/// Waits until this worker process has parked this many copies.
pub async fn parks(worker: &Worker, times: usize) {
    let is_so = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["message"] == "job parked"
    };
    soon(&format!("{times} parked copies"), async {
        while worker.log().lines().filter(is_so).count() < times {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_two_workers_parked_in_turn_is_stale_for_neither() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::EasyCms, 1);
    let refused = FaultRule::on(Operation::Unknown, Action::CredentialRefused);
    rig.sandbox().add_fault(FaultRule { operation: None, system: Some("easycms".to_owned()), ..refused });
    rig.publish(std::slice::from_ref(&case.body)).await;
    // One worker at a time, each with its own store.
    for (state, times) in [("first", 1), ("second", 2), ("first", 1)] {
        let worker = rig.worker(state, &[]);
        parks(&worker, times).await;
        worker.stop().await;
    }
    rig.sandbox().clear_faults();
    let worker = rig.worker("second", &[]);
    let heard = rig.events.all_end([case.id.as_str()]).await;
    rig.is_empty().await;
    worker.stop().await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(case.remains(rig.sandbox()), [""; 0]);
    rig.nothing_repeated();
}

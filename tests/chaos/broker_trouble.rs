//! The broker stopped, killed, cut off, frozen, blocked; deliveries timed out, and the queue deleted.

use std::time::Duration;

use erasure_worker::sandbox::{Action, End, FaultRule, Operation};
use erasure_worker::store::{Options, SledStore, Store as _, Table};
use lapin::options::QueueDeleteOptions;
use lapin::types::ShortString;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;
use testkit::worker::Worker;

/// Delays every call, so that work is always in hand.
pub fn slow(rig: &Rig, ms: u64) {
    let any = FaultRule::on(Operation::Unknown, Action::Delay { ms, after_work: false });
    rig.sandbox().add_fault(FaultRule { operation: None, ..any });
}

/// Every job ends once, as completed, and no personal data is left.
async fn all_complete(rig: &Rig, worker: Worker, cases: &[Case]) {
    let heard = rig.events.all_end(ids(cases)).await;
    worker.stop().await;
    for case in cases {
        let finals = heard.finals(&case.id);
        assert_eq!(finals.values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
        assert_eq!(case.remains(rig.sandbox()), [""; 0], "{:?}", case.form);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_jobs_complete_despite_a_broker_outage_of_twenty_seconds_and_a_killed_broker() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(rabbit.url()).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..501);
    slow(&rig, 20);
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[]);

    rig.events.until("a hundred final events", |heard| heard.ended().len() >= 100).await;
    tokio::task::block_in_place(|| rabbit.stop());
    worker.says("the link to the broker is down").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    tokio::task::block_in_place(|| rabbit.boot());

    let soon_after = rig.events.heard().ended().len() + 100;
    assert!(soon_after < 450, "too few jobs were left at the outage");
    rig.events.until("a hundred more", |heard| heard.ended().len() >= soon_after).await;
    tokio::task::block_in_place(|| rabbit.kill());
    tokio::task::block_in_place(|| rabbit.boot());
    all_complete(&rig, worker, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_jobs_complete_despite_cut_connections_and_a_deleted_queue() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(rabbit.url()).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..201);
    // Slow enough that jobs are left after four broker commands, each of which may take seconds.
    slow(&rig, 400);
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[("ERASURE__WORKER__CONCURRENCY", "12")]);
    for ended in [10, 40, 70] {
        rig.events.until("final events", |heard| heard.ended().len() >= ended).await;
        tokio::task::block_in_place(|| rabbit.ctl(&["close_all_connections", "cut"]));
    }

    rig.events.until("final events", |heard| heard.ended().len() >= 90).await;
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let queue = ShortString::from(format!("{}.jobs", rig.prefix));
    let lost = channel.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
    let ended = rig.events.heard().ended().len();
    assert!(ended < 200 && lost > 0, "the queue was empty already: {ended} jobs ended, {lost} messages lost");
    // The queue's messages are lost with it. This publish succeeds once the worker has declared the queue again.
    soon("the queue to be declared again", rig.publish(&bodies(&cases))).await;
    all_complete(&rig, worker, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_requeues_slow_deliveries_causes_no_second_call() {
    let rabbit = tokio::task::block_in_place(|| {
        Rabbit::start_with("consumer_timeout = 1500", "-rabbit channel_tick_interval 300")
    });
    let rig = Rig::start(rabbit.url()).await;
    let forms = [Form::LoyaltyProgram, Form::EasyCms, Form::CleengBackend];
    let cases = Case::mixed(rig.sandbox(), &forms, 1..13);
    for operation in [Operation::DeleteMember, Operation::DeleteAccount, Operation::DeleteCustomer] {
        let slow = Action::Delay { ms: 4000, after_work: true };
        rig.sandbox().add_fault(FaultRule::on(operation, slow).nth(1).per_subject());
    }
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[]);
    worker.says("the link to the broker is down").await;
    let log = worker.log();
    // Up to RabbitMQ 4.2 the broker closes the channel; from 4.3 on it cancels the consumer.
    let causes = ["timed out", "PRECONDITION_FAILED", "the broker cancelled the consumer"];
    assert!(causes.iter().any(|why| log.contains(why)), "the broker requeued the deliveries: {log}");
    all_complete(&rig, worker, &cases).await;
    let gone = rig.sandbox().entries(0).iter().filter(|call| call.end == End::ClientGone).count();
    assert_eq!(gone, 0, "a call on the wire was cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_a_lost_delivery_finishes_its_call_makes_no_other_and_writes_no_outcome() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(rabbit.url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::EasyCms, Form::LoyaltyProgram], 1..7);
    // The calls are on the wire until the broker has stopped.
    slow(&rig, 5_000);
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[]);
    soon("every job to be in hand", async {
        while worker.metric("erasure_jobs_in_hand").await != 6.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tokio::task::block_in_place(|| rabbit.stop());
    worker.says("the link to the broker is down").await;
    let begun = rig.sandbox().entries(0).len();
    soon("the runs to end", async {
        while worker.metric("erasure_jobs_in_hand").await != 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let calls = rig.sandbox().entries(0);
    assert!(begun > 0 && calls.iter().all(|call| call.end == End::Answered), "{calls:#?}");
    assert_eq!(calls.len(), begun, "a call was begun without a delivery: {calls:#?}");
    worker.kill().await;
    let store = tokio::task::block_in_place(|| SledStore::open(&rig.state_dir("state"), Options::default()));
    let store = store.unwrap().store;
    assert_eq!(store.scan(Table::Ended, b"", None, 10).unwrap(), vec![], "an outcome without a delivery");
    tokio::task::block_in_place(|| drop(store));
    rig.sandbox().clear_faults();
    tokio::task::block_in_place(|| rabbit.boot());
    all_complete(&rig, rig.worker("state", &[]), &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_and_a_blocked_broker_lose_no_job() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(format!("{}?heartbeat=2", rabbit.url())).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..401);
    // Slow enough that jobs are left when the broker's memory alarm begins, which takes seconds.
    slow(&rig, 600);
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[]);
    soon("some calls", rig.sandbox().wait_for(|calls| calls.len() >= 100)).await;
    rabbit.freeze();
    worker.says("the link to the broker is down").await;
    rabbit.thaw();

    let ended = rig.events.heard().ended().len() + 10;
    rig.events.until("some more", |heard| heard.ended().len() >= ended).await;
    // The broker's memory alarm: it accepts no publish until the alarm ends.
    tokio::task::block_in_place(|| rabbit.ctl(&["set_vm_memory_high_watermark", "0.00000001"]));
    worker.says("the broker takes no messages for now").await;
    tokio::task::block_in_place(|| rabbit.ctl(&["set_vm_memory_high_watermark", "0.4"]));
    all_complete(&rig, worker, &cases).await;
}

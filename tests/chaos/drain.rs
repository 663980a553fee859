//! The stop of a worker, and another worker that takes over.

use std::time::Duration;

use erasure_worker::sandbox::{Action, End, Entry, FaultRule, Operation};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;

fn on_the_wire(calls: &[Entry]) -> usize {
    calls.iter().filter(|call| call.operation == Operation::DeleteMember && call.end == End::InHand).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_the_calls_on_the_wire_and_another_worker_completes_the_rest() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let cases = Case::mixed(sandbox, &[Form::LoyaltyProgram], 1..61);
    sandbox.add_fault(FaultRule::on(Operation::DeleteMember, Action::Delay { ms: 3000, after_work: true }).times(30));
    rig.publish(&bodies(&cases)).await;
    let settings = [
        ("ERASURE__SYSTEMS__LOYALTY__MAX_IN_FLIGHT", "30"),
        // Long enough for a first success of the second worker's credential, with members that still exist.
        ("ERASURE__SYSTEMS__LOYALTY__VERIFY_INTERVAL", "2s"),
        ("ERASURE__WORKER__DRAIN_TIMEOUT", "15s"),
    ];
    let mut first = rig.worker("first", &settings);
    soon("thirty calls on the wire", sandbox.wait_for(|calls| on_the_wire(calls) == 30)).await;
    let before = sandbox.entries(0).len();
    let asked = std::time::Instant::now();
    first.ask_to_stop();
    let status = first.ended().await;
    assert_eq!(status.code(), Some(0), "{}", first.log());
    assert!(asked.elapsed() < Duration::from_secs(15), "the drain took too long");

    let calls = sandbox.entries(0);
    assert_eq!(calls.len(), before, "a call was begun after the signal");
    assert!(calls.iter().all(|call| call.end == End::Answered), "a call on the wire was cut off");
    assert!(rig.events.heard().0.is_empty());
    rig.holds("jobs", 60).await;

    let second = rig.worker("second", &settings);
    let heard = rig.events.all_end(ids(&cases)).await;
    second.stop().await;
    for case in &cases {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0]);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_continues_from_its_checkpoints_without_extra_reads() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let cases = Case::mixed(sandbox, &[Form::EasyCms], 1..11);
    sandbox.add_fault(FaultRule::on(Operation::DeleteAccount, Action::Delay { ms: 1500, after_work: true }));
    rig.publish(&bodies(&cases)).await;
    let worker = rig.worker("state", &[]);
    let deletes = |calls: &[Entry]| calls.iter().filter(|call| call.operation == Operation::DeleteAccount).count();
    soon("ten deletes", sandbox.wait_for(|calls| deletes(calls) == 10)).await;
    worker.stop().await;
    let before = sandbox.entries(0).len();
    assert_eq!(before, 20, "not one read and one deletion for each");

    let worker = rig.worker("state", &[]);
    let heard = rig.events.all_end(ids(&cases)).await;
    worker.stop().await;
    assert!(cases.iter().all(|case| heard.finals(&case.id).len() == 1));
    assert_eq!(sandbox.entries(0).len(), 30, "more than one read-back for each");
    rig.nothing_repeated();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_cuts_off_a_slow_call_does_not_count_as_a_crash_of_its_job() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let case = Case::new(sandbox, Form::EasyCms, 1);
    // The read hangs through five restarts.
    sandbox
        .add_fault(FaultRule::on(Operation::CustomerExists, Action::Delay { ms: 15_000, after_work: false }).times(5));
    rig.publish(std::slice::from_ref(&case.body)).await;
    for reads in 1..=5 {
        let worker = rig.worker("state", &[("ERASURE__WORKER__DRAIN_TIMEOUT", "100ms")]);
        soon("a read", sandbox.wait_for(|calls| calls.len() == reads)).await;
        worker.stop().await;
    }
    let worker = rig.worker("state", &[]);
    let heard = rig.events.all_end([case.id.as_str()]).await;
    worker.stop().await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_notified_of_ready_watchdog_and_stopping() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let path = rig.state_dir("notify.sock");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let notified = |what: &'static str| {
        let socket = &socket;
        soon(what, async move {
            let mut buffer = [0; 256];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == what.as_bytes()) {
                    return;
                }
            }
        })
    };
    let settings = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let worker = rig.worker("state", &settings);
    notified("READY=1").await;
    notified("WATCHDOG=1").await;
    notified("WATCHDOG=1").await;
    worker.ask_to_stop();
    notified("STOPPING=1").await;
    worker.stop().await;
}

//! A stop has an end, whatever the broker does: `worker.drain_timeout` and five seconds.

use std::time::{Duration, Instant};

use testkit::forms::{Case, Form, bodies};
use testkit::rabbit::Rabbit;
use testkit::relay::Relay;
use testkit::rig::Rig;
use testkit::soon;

use crate::broker_trouble::slow;

const DRAIN: Duration = Duration::from_secs(3);
/// What is promised beyond that, and what a loaded machine takes to start a thread or end a process.
const BEYOND: Duration = Duration::from_secs(5 + 3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// None: it only stops.
    Nothing,
    /// It takes no publish: its memory is used up.
    Alarm,
    /// Its process stands still.
    Frozen,
    /// Nothing comes or goes, and no connection ends.
    Silent,
    /// It is gone, and its port refuses.
    Gone,
    /// It stands still from before the worker has begun.
    FrozenFromTheStart,
    /// It is gone from before the worker has begun.
    GoneFromTheStart,
}

/// It stops within its time and in good order.
async fn stops(trouble: Trouble) {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let relay = Relay::start(rabbit.port(), b"").await;
    let rig = Rig::start(rabbit.url()).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..41);
    // The command that raises the alarm takes a second: jobs must still be in hand by then.
    slow(&rig, if trouble == Trouble::Alarm { 1_500 } else { 400 });
    rig.publish(&bodies(&cases)).await;
    match trouble {
        Trouble::FrozenFromTheStart => rabbit.freeze(),
        Trouble::GoneFromTheStart => tokio::task::block_in_place(|| rabbit.kill()),
        _ => {}
    }
    let drain = format!("{}s", DRAIN.as_secs());
    let url = relay.url();
    let settings = [("ERASURE__WORKER__DRAIN_TIMEOUT", drain.as_str()), ("ERASURE__AMQP__URL", &url)];
    let mut worker = rig.worker("state", &settings);
    if !matches!(trouble, Trouble::FrozenFromTheStart | Trouble::GoneFromTheStart) {
        soon("calls on the wire", rig.sandbox().wait_for(|calls| calls.len() >= 20)).await;
    }
    match trouble {
        Trouble::Alarm => {
            drop(tokio::task::block_in_place(|| rabbit.ctl(&["set_vm_memory_high_watermark", "0.00000001"])));
            worker.says("the broker takes no messages for now").await;
        }
        Trouble::Frozen => rabbit.freeze(),
        Trouble::Silent => relay.fall_silent(),
        Trouble::Gone => tokio::task::block_in_place(|| rabbit.kill()),
        Trouble::FrozenFromTheStart | Trouble::GoneFromTheStart => {
            // It is on its way to the broker, or waits to try again.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Trouble::Nothing => {}
    }
    // Long enough for publishes, acks and looks to be under way.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let asked = Instant::now();
    worker.ask_to_stop();
    let status = worker.ended().await;
    let took = asked.elapsed();
    eprintln!("{trouble:?}: stopped after {took:?}");
    assert!(took < DRAIN + BEYOND, "{trouble:?}: {took:?}: {}", worker.log());
    assert_eq!(status.code(), Some(0), "{trouble:?}: {}", worker.log());
    if matches!(trouble, Trouble::Frozen | Trouble::FrozenFromTheStart) {
        rabbit.thaw();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_nothing_is_wrong() {
    stops(Trouble::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_broker_takes_no_publish() {
    stops(Trouble::Alarm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_broker_stands_still() {
    stops(Trouble::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_wire_is_silent() {
    stops(Trouble::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_broker_is_gone() {
    stops(Trouble::Gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_broker_stood_still_from_the_start() {
    stops(Trouble::FrozenFromTheStart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_when_the_broker_was_never_there() {
    stops(Trouble::GoneFromTheStart).await;
}

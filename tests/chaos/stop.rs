//! A stop ends after `worker.drain_timeout` and five seconds at most, in any state of the broker.

use std::time::{Duration, Instant};

use testkit::forms::{Case, Form, bodies};
use testkit::rabbit::Rabbit;
use testkit::relay::Relay;
use testkit::rig::Rig;
use testkit::soon;

use crate::broker_trouble::slow;

const DRAIN: Duration = Duration::from_secs(3);
/// The promised five seconds, and three for a loaded machine.
const BEYOND: Duration = Duration::from_secs(5 + 3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// No trouble.
    Nothing,
    /// The broker's memory alarm blocks publishes.
    Alarm,
    /// The broker's process is frozen.
    Frozen,
    /// The network passes no bytes, and no connection ends.
    Silent,
    /// The broker is killed: its port refuses connections.
    Gone,
    /// The broker is frozen before the worker's start.
    FrozenFromTheStart,
    /// The broker is killed before the worker's start.
    GoneFromTheStart,
}

/// The worker stops in time, with status 0.
async fn stops(trouble: Trouble) {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let relay = Relay::start(rabbit.port(), b"").await;
    let rig = Rig::start(rabbit.url()).await;
    let cases = Case::mixed(rig.sandbox(), &Form::PLAIN, 1..41);
    // The command that raises the alarm takes a second, and jobs must still be in hand then.
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
            // The worker connects, or waits before its next attempt.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Trouble::Nothing => {}
    }
    // Long enough for publishes, acks and reads to begin.
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
async fn a_stop_ends_in_time_without_trouble() {
    stops(Trouble::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_broker_blocks_publishes() {
    stops(Trouble::Alarm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_broker_is_frozen() {
    stops(Trouble::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_network_is_silent() {
    stops(Trouble::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_broker_is_gone() {
    stops(Trouble::Gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_broker_was_frozen_from_the_start() {
    stops(Trouble::FrozenFromTheStart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_if_the_broker_was_gone_from_the_start() {
    stops(Trouble::GoneFromTheStart).await;
}

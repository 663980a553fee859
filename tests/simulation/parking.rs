//! A backlog for a system with a rate limit: its cost for the broker, and its speed.
//!
//! The rule it keeps: the rate limit is used to the full, and waiting jobs are redelivered no more often than their
//! place in the line requires.

use std::time::Duration;

use erasure_worker::sandbox::Sandbox;
use erasure_worker::store::MemoryStore;
use testkit::forms::{Case, Form};

use crate::director::configuration;
use crate::hub::Hub;
use crate::life::{Life, Surroundings};

/// Jobs for one system, several times more than it can do in an hour.
const JOBS: u32 = 3_800;
/// The system's limit of calls a minute at each endpoint.
const LIMIT: u32 = 50;
/// A job's requests at its busiest endpoint: two codes are read, and read back.
const CALLS: u32 = 4;
/// The most redeliveries of a job before its turn: from the wait queues, after a third to the whole of the remaining
/// time, and each hour.
const RETURNS: f64 = 20.0;

/// Fails if the system is idle, or waiting jobs cost too much.
pub fn judge() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let mut config = configuration();
    let vitalsource = config.systems.get_mut("vitalsource").unwrap();
    vitalsource.common.requests_per_minute = Some(LIMIT);
    let hub = Hub::new(7);
    let around = Surroundings::new(config, hub.clone(), Sandbox::default());
    for number in 0..JOBS {
        hub.publish_job(&Case::new(&around.sandbox, Form::VitalSource, number.into()).body);
    }
    let life = Life::begin(&around, MemoryStore::new(), 7);
    let (an_hour, ideal) = (Duration::from_secs(3600), Duration::from_secs(60) * JOBS * CALLS / LIMIT);
    let mut done = 0;
    while done < JOBS {
        let before = hub.operations();
        tokio::time::sleep(an_hour).await;
        let [delivered, published, acked] = [0, 1, 2].map(|of| hub.operations()[of] - before[of]);
        let ended = u32::try_from(hub.ended_count()).unwrap() - done;
        let waiting = f64::from(JOBS - done) - f64::from(ended) / 2.0;
        done += ended;
        // The work itself: a delivery, an event, an ack.
        let waits = (delivered + published + acked) as f64 - f64::from(3 * ended);
        println!(
            "parking: {ended} jobs done in an hour; broker operations by each that waited: {:.1}",
            waits / waiting
        );
        assert!(around.clock.elapsed() < ideal + an_hour, "the system is not used: {done} jobs in {ideal:?}");
    }
    let returns = (hub.operations()[0] - u64::from(JOBS)) as f64 / f64::from(JOBS);
    println!("parking: {JOBS} jobs, {LIMIT} calls a minute: {returns:.1} returns by each, {ideal:?} at best");
    assert!(returns <= RETURNS, "waiting jobs spin");
    drop(life.kill());
}

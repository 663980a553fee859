//! A backlog for a system with a limit: what it costs the broker while it waits, and how fast it goes.
//!
//! The rule it keeps: what a system takes is used to the full, and whoever waits for it is looked at
//! no more often than its turn comes nearer.

use std::time::Duration;

use erasure_worker::sandbox::Sandbox;
use erasure_worker::store::MemoryStore;
use testkit::forms::{Case, Form};

use crate::director::configuration;
use crate::hub::Hub;
use crate::life::{Life, Surroundings};

/// Jobs for one system, several times more than it takes in an hour.
const JOBS: u32 = 3_800;
/// Calls a minute that the system takes at each of its endpoints.
const LIMIT: u32 = 50;
/// Requests that such a job needs at the endpoint that it needs most: its two codes are read, and read back.
const CALLS: u32 = 4;
/// Returns before its turn that a job may need: it comes back from the wait queues after a third to a
/// whole of the time that is left, and each hour.
const RETURNS: f64 = 20.0;

/// Fails where the system is not used, or waiting jobs cost more than they must.
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
        let ended = u32::try_from(hub.events_told()).unwrap() - done;
        let waiting = f64::from(JOBS - done) - f64::from(ended) / 2.0;
        done += ended;
        // What the work itself takes: a delivery, an event, an ack.
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

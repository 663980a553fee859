//! Jobs during an outage of an hour, and jobs for a slow system beside jobs for others.
//!
//! The rule it keeps: the end of an outage is noticed soon, waiting jobs are redelivered seldom, and jobs of other
//! systems are not delayed.

use std::time::Duration;

use erasure_worker::sandbox::{Action, FaultRule, Operation, Sandbox};
use erasure_worker::store::MemoryStore;
use testkit::forms::{Case, Form};
use tokio::time::Instant;

use crate::director::configuration;
use crate::hub::Hub;
use crate::life::{Life, Surroundings};

/// The calls of a job to the system.
const CALLS: u32 = 12;
const SLOTS: u32 = 4;

/// Fails if a wait costs too much.
pub fn judge() {
    for scene in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            match scene {
                0 => an_outage().await,
                _ => a_slow_system().await,
            }
        });
    }
}

/// A worker with its default retries.
fn surroundings(limit: Option<u32>) -> Surroundings {
    let mut config = configuration();
    config.worker.concurrency = 64;
    config.retry.initial_interval = Duration::from_millis(500);
    config.retry.max_interval = Duration::from_secs(900);
    config.retry.max_attempts = 8;
    let system = &mut config.systems.get_mut("vitalsource").unwrap().common;
    (system.requests_per_minute, system.max_in_flight) = (limit, SLOTS);
    Surroundings::new(config, Hub::new(7), Sandbox::default())
}

/// From now on each call to the system meets this fault.
fn each_call(around: &Surroundings, action: Action) {
    let any = FaultRule::on(Operation::Unknown, action);
    around.sandbox.add_fault(FaultRule { operation: None, system: Some("vitalsource".to_owned()), ..any });
}

fn publish(around: &Surroundings, form: Form, numbers: std::ops::Range<u32>) -> Vec<Case> {
    let cases = Case::mixed(&around.sandbox, &[form], numbers.start.into()..numbers.end.into());
    cases.iter().for_each(|case| around.hub.publish_job(&case.body));
    cases
}

/// Waits until this many jobs have ended, and returns the time that it took.
async fn all(around: &Surroundings, jobs: u32, most: Duration) -> Duration {
    let began = Instant::now();
    let ended = around.hub.until(|hub| hub.ended_count() >= jobs as usize);
    assert!(tokio::time::timeout(most, ended).await.is_ok(), "{jobs} jobs take longer than {most:?}");
    began.elapsed()
}

fn returns(around: &Surroundings, jobs: u32) -> f64 {
    (around.hub.operations()[0] - u64::from(jobs)) as f64 / f64::from(jobs)
}

async fn an_outage() {
    const JOBS: u32 = 120;
    let around = surroundings(Some(600));
    each_call(&around, Action::DropBefore);
    publish(&around, Form::VitalSource, 0..JOBS);
    let life = Life::begin(&around, MemoryStore::new(), 7);
    // Some calls must test whether the system answers: only their jobs spend attempts.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    around.sandbox.clear_faults();
    // Three minutes until the last job is redelivered, and the time of the work.
    let took = all(&around, JOBS, Duration::from_secs(240)).await;
    let returns = returns(&around, JOBS);
    let failed = around.hub.letters().len();
    println!(
        "pace: an outage of an hour: {failed} failed, {returns:.1} returns by each, all done {took:.0?} after its end"
    );
    assert!(returns <= 40.0, "waiting jobs spin");
    assert!(failed <= JOBS as usize / 20, "too many jobs spent their attempts on the outage");
    drop(life.kill());
}

async fn a_slow_system() {
    const SLOW: u32 = 300;
    const OTHERS: u32 = 600;
    let around = surroundings(None);
    each_call(&around, Action::Delay { ms: 1000, after_work: false });
    publish(&around, Form::VitalSource, 0..SLOW);
    let life = Life::begin(&around, MemoryStore::new(), 7);
    let (began, ideal) = (Instant::now(), Duration::from_secs(1) * SLOW * CALLS / SLOTS);
    let mut others = std::collections::HashMap::new();
    for number in SLOW..SLOW + OTHERS {
        let case = publish(&around, Form::EasyCms, number..number + 1).remove(0);
        others.insert(case.id, Instant::now());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    all(&around, SLOW + OTHERS, ideal * 2).await;
    let took = began.elapsed();
    let entries = around.sandbox.entries(0);
    let calls = entries.iter().filter(|entry| entry.system == "vitalsource").count();
    // After a wait of more than a minute a job reads the person again before it acts.
    let least = (SLOW * CALLS) as usize;
    assert!((least..=least * 12 / 10).contains(&calls), "{calls} calls, {least} were enough");
    let returns = returns(&around, SLOW + OTHERS) * f64::from(SLOW + OTHERS) / f64::from(SLOW);
    let waits = around.hub.events().into_iter().filter_map(|event| {
        others.get(event.value["subject"].as_str().unwrap()).map(|published| event.at - *published)
    });
    let longest = waits.max().unwrap();
    println!("pace: a slow system: {took:.0?}, {ideal:?} at best; {returns:.1} returns by each; others {longest:.1?}");
    assert!(took < ideal * 12 / 10, "the system is not used");
    assert!(longest < Duration::from_secs(10), "other systems' jobs wait for it");
    assert!(returns <= 40.0, "waiting jobs spin");
    drop(life.kill());
}

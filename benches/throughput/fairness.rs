//! The delay that a rate-limited system's backlog causes for the other systems' jobs.
//!
//! The rule it keeps: the same burst of jobs is timed beside the backlog and without it, in turn, on workers with the
//! same settings.

use std::time::{Duration, Instant};

use testkit::rabbit::Rabbit;

use crate::load::{Load, Work};
use crate::{Loop, StandIn, names};

const BURST: u64 = 1_000;
const BURSTS: usize = 3;

/// Measures and prints.
pub async fn show(backlog: u64) {
    let (rabbit, stand_in) = (Rabbit::start(), StandIn::start());
    let alone_load = Load::connect(&rabbit.url(), &names(&rabbit).await).await;
    let beside_load = Load::connect(&rabbit.url(), &names(&rabbit).await).await;
    let start = |load: &Load| Loop::start("worker", &rabbit, &stand_in, load.prefix(), 64, u64::MAX, Work::Limited);
    beside_load.fill(backlog, Work::Limited).await;

    let beside = start(&beside_load);
    let began = Instant::now();
    while beside_load.depth("jobs").await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let parked = began.elapsed();
    let alone = start(&alone_load);
    // The first burst opens the connections, so it is not counted.
    alone_load.burst(BURST).await;
    beside_load.burst(BURST).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..BURSTS {
        without.push(alone_load.burst(BURST).await);
        with.push(beside_load.burst(BURST).await);
    }
    alone.kill();
    beside.kill();
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    println!("{backlog} jobs for a system of 50 calls a minute: parked after {:.1} s", parked.as_secs_f64());
    println!("{BURST} jobs for other systems, median of {BURSTS}: {without:.2?} alone, {with:.2?} beside the backlog");
    println!("fairness slower_by={:.3}", with.as_secs_f64() / without.as_secs_f64() - 1.0);
}

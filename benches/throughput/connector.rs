//! The cost of a job by a connector file, against the built-in client of the same system.
//!
//! The rule it keeps: both make the same calls for the same jobs, in turn, in one run.

use testkit::rabbit::Rabbit;

use crate::load::{Load, Work};
use crate::report::median;
use crate::{Loop, StandIn, names};

const PREFETCH: u16 = 64;

/// Measures and prints.
pub async fn show(jobs: u64, rounds: u64) {
    let (rabbit, stand_in) = (Rabbit::start(), StandIn::start());
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let mut meters = Vec::new();
        for work in [Work::Shop, Work::ShopByFile] {
            let load = Load::connect(&rabbit.url(), &names(&rabbit).await).await;
            load.fill(jobs, work).await;
            let running = Loop::start("worker", &rabbit, &stand_in, load.prefix(), PREFETCH, jobs, work);
            let meter = running.end().await;
            load.check(jobs, true).await;
            println!("{work:12} {:6.0} jobs a second, {:6.0} µs of processor time a job", meter.rate, meter.cpu_us);
            meters.push(meter);
        }
        ratios.push((meters[1].rate / meters[0].rate, meters[1].cpu_us / meters[0].cpu_us));
    }
    let ratio = |figure: fn(&(f64, f64)) -> f64| median(ratios.iter().map(figure));
    println!("connector rate_ratio={:.3} cpu_ratio={:.3}", ratio(|(rate, _)| *rate), ratio(|(_, cpu)| *cpu));
}

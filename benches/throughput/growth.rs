//! The growth of the worker's cost with the number of jobs, jobs in hand, codes of a job, and systems.
//!
//! The rule it keeps: processor time for one unit of work is compared. If it stays the same, the total cost grows in
//! proportion.

use std::fmt::Write as _;

use testkit::rabbit::Rabbit;

use crate::load::Work;
use crate::{StandIn, round};

/// Measures and prints a table for each of the four.
pub async fn show(max_jobs: u64) {
    let (rabbit, stand_in) = (Rabbit::start(), StandIn::start());
    let mut text = String::new();
    let jobs = [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|jobs| *jobs <= max_jobs);
    let jobs = jobs.map(|jobs| Point { of: jobs, jobs, prefetch: 64, work: Work::Mixed, units: 1 });
    table(&mut text, "jobs", "job", jobs, &rabbit, &stand_in).await;
    let in_hand = [1, 4, 16, 64, 256, 1024];
    let in_hand = in_hand.map(|prefetch| {
        let jobs = if prefetch < 16 { 1_000 } else { 5_000 };
        Point { of: prefetch.into(), jobs, prefetch, work: Work::Mixed, units: 1 }
    });
    table(&mut text, "jobs in hand", "job", in_hand, &rabbit, &stand_in).await;
    let codes = [1, 10, 100, 1_000, 10_000].map(|codes: usize| {
        let of = codes as u64;
        Point { of, jobs: (20_000 / of).clamp(20, 4_000), prefetch: 64, work: Work::Codes(codes), units: of }
    });
    table(&mut text, "codes a job", "code", codes, &rabbit, &stand_in).await;
    let systems = [1, 5, 10, 25, 50].map(|systems: usize| Point {
        of: systems as u64,
        jobs: 5_000,
        prefetch: 64,
        work: Work::Systems(systems),
        units: 1,
    });
    table(&mut text, "systems", "job", systems, &rabbit, &stand_in).await;
    println!("{text}");
}

struct Point {
    of: u64,
    jobs: u64,
    prefetch: u16,
    work: Work,
    /// Units of work in a job.
    units: u64,
}

async fn table(
    text: &mut String,
    what: &str,
    unit: &str,
    points: impl IntoIterator<Item = Point>,
    rabbit: &Rabbit,
    stand_in: &StandIn,
) {
    let mut rows = Vec::new();
    for point in points {
        let meter = round("worker", rabbit, stand_in, point.prefetch, point.jobs, point.work).await;
        rows.push((point.of, meter.cpu_us / point.units as f64, meter.rate * point.units as f64, meter));
    }
    let most = rows.iter().map(|(_, cpu, ..)| *cpu).fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "| {what} | {unit}s a second | CPU a {unit} | | peak memory | store, bytes a job | reopened after a stop, after a kill |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|---|");
    for (of, cpu, rate, meter) in rows {
        let bar = "▇".repeat((cpu / most * 20.0).round() as usize);
        let (peak, store, (stopped, killed)) = (meter.peak_mib, meter.store_bytes, meter.opening_ms);
        let _ = write!(text, "| {of} | {rate:.0} | {cpu:.0} µs | {bar} | {peak:.0} MiB | {store:.0} |");
        let _ = writeln!(text, " {stopped:.0} ms, {killed:.0} ms |");
    }
    let _ = writeln!(text);
}

//! The cost of a build with `--release`, which is quick to make, against `--profile dist`, which is shipped.
//!
//! The rule it keeps: both builds work off the same jobs in turn, in one run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::rabbit::Rabbit;

use crate::load::{Load, Work};
use crate::report::median;
use crate::{Loop, StandIn, names};

const PREFETCH: u16 = 64;

/// Builds this bench with `--release`, measures and prints.
pub async fn show(jobs: u64, rounds: u64) {
    let release = build();
    let dist = std::env::current_exe().unwrap();
    let (rabbit, stand_in) = (Rabbit::start(), StandIn::start());
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let mut meters = Vec::new();
        for (profile, program) in [("dist", &dist), ("release", &release)] {
            let load = Load::connect(&rabbit.url(), &names(&rabbit).await).await;
            load.fill(jobs, Work::Mixed).await;
            let running = Loop::of(program, "worker", &rabbit, &stand_in, load.prefix(), PREFETCH, jobs, Work::Mixed);
            let meter = running.end().await;
            load.check(jobs, true).await;
            println!("{profile:8} {:6.0} jobs a second, {:6.0} µs of processor time a job", meter.rate, meter.cpu_us);
            meters.push(meter);
        }
        costs.push((meters[1].cpu_us / meters[0].cpu_us, meters[1].rate / meters[0].rate));
    }
    let cost = |figure: fn(&(f64, f64)) -> f64| median(costs.iter().map(figure));
    println!("release cpu_ratio={:.3} rate_ratio={:.3}", cost(|(cpu, _)| *cpu), cost(|(_, rate)| *rate));
}

/// This bench, built with `--release`.
fn build() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--profile", "release", "--bench", "throughput", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the build with --release failed");
    let messages = String::from_utf8(output.stdout).unwrap();
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = artifacts
        .filter(|artifact| artifact["target"]["name"] == "throughput")
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    program.expect("cargo names the program that it built")
}

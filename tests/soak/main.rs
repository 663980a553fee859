//! The worker in real conditions: a RabbitMQ of one node and a cluster of three, side by side. Nodes, connections,
//! workers and systems fail all the time, and everything is counted at the end.
//!
//! `cargo test --test soak -- --minutes 60 --nodes 3` for a long run (`--rate` jobs a second, by default 8),
//! `-- --seed 17` for the faults of an earlier run, `-- --seed 17 --plan` to print them.

// A run that cannot continue stops by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod events;
mod ground;
mod plan;
mod proxy;
mod publisher;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ground::Ground;
use plan::Plan;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use verdict::Verdict;

/// The time of the faults without `--minutes`.
const SHORT: Duration = Duration::from_secs(15);

/// The seed without `--seed`.
const SEED: u64 = 2026;

/// Jobs a second without `--rate`.
const RATE: u32 = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(place + 1).and_then(|value| value.parse::<u64>().ok()).expect("a number after the option"))
    };
    if has("--list") {
        println!("soak: test");
        return ExitCode::SUCCESS;
    }
    let minutes = number("--minutes");
    let span = minutes.map_or(SHORT, |minutes| Duration::from_secs(minutes * 60));
    let rate = number("--rate").map_or(RATE, |rate| u32::try_from(rate).unwrap().max(1));
    let plan = |nodes| Plan { seed: number("--seed").unwrap_or(SEED), nodes, is_short: minutes.is_none() };
    let plans: Vec<Plan> = match number("--nodes") {
        Some(nodes) => vec![plan(usize::try_from(nodes).unwrap())],
        None => vec![plan(1), plan(3)],
    };
    if has("--plan") {
        plans.iter().for_each(|plan| println!("{} nodes:\n{}", plan.nodes, plan.lines(20).join("\n")));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let breaches = runtime.block_on(async {
        let runs: Vec<_> = plans.into_iter().map(|plan| tokio::spawn(soak(plan, span, rate))).collect();
        let mut breaches = 0;
        for run in runs {
            breaches += run.await.unwrap_or(1);
        }
        breaches
    });
    if breaches == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run; returns the number of broken promises.
async fn soak(plan: Plan, span: Duration, rate: u32) -> usize {
    let ground = Arc::new(Ground::start(plan).await);
    println!("{}: seed {}, plan {:016x}", nodes(&plan), plan.seed, plan.digest());
    let stop = CancellationToken::new();
    let publisher = beside(&ground, {
        let stop = stop.clone();
        |ground| async move { publisher::publish(&ground, rate, &stop).await }
    });
    let lanes = [
        beside(&ground, |ground| async move { ground.link_faults().await }),
        beside(&ground, |ground| async move { ground.broker_faults().await }),
        beside(&ground, |ground| async move { ground.standbys().await }),
    ];
    let lives = beside(&ground, |ground| async move { ground.lives().await });
    let clock = beside(&ground, |ground| async move { report_each_minute(&ground).await });
    tokio::time::sleep(span).await;
    ground.over.cancel();
    for lane in lanes {
        if let Err(why) = lane.await {
            ground.breach(format!("an accident did not happen as planned: {why}"));
        }
    }
    let worker = lives.await.unwrap();
    stop.cancel();
    let published = publisher.await.unwrap();
    ground.settle(worker, published.len()).await;
    clock.abort();
    let verdict = Verdict::measure(&ground, &published).await;
    report(&ground, &verdict)
}

fn beside<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    ground: &Arc<Ground>,
    work: impl FnOnce(Arc<Ground>) -> F,
) -> JoinHandle<T> {
    tokio::spawn(work(Arc::clone(ground)))
}

fn nodes(plan: &Plan) -> String {
    if plan.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", plan.nodes) }
}

async fn report_each_minute(ground: &Ground) {
    for minute in 1.. {
        tokio::time::sleep(Duration::from_secs(60)).await;
        println!(
            "{}, minute {minute}: {} jobs confirmed, {} ended, {} worker kills, {} nodes down, {} connections disturbed, {} breaches",
            nodes(&ground.plan),
            ground.counted("confirmed"),
            *ground.rig.events.ended().borrow(),
            ground.counted("worker kills"),
            ground.counted("node kills") + ground.counted("node stops"),
            ["cuts", "half-closes", "stalls", "slow spells"].iter().map(|what| ground.counted(what)).sum::<u64>(),
            ground.breaches.lock().unwrap().len(),
        );
    }
}

fn report(ground: &Ground, verdict: &Verdict) -> usize {
    let counts = |whats: &[&str]| {
        let counts: Vec<_> = whats.iter().map(|what| format!("{} {what}", ground.counted(what))).collect();
        counts.join(", ")
    };
    let nodes = nodes(&ground.plan);
    println!(
        "{nodes}, seed {}: {} jobs confirmed ({}), {} ended well, {} failed as they must, {} events, {} calls of \
         which {} went wrong",
        ground.plan.seed,
        verdict.jobs,
        counts(&["published again"]),
        verdict.completed,
        verdict.failed,
        verdict.events,
        verdict.calls,
        verdict.faults,
    );
    println!(
        "{nodes}: {}",
        counts(&[
            "worker kills",
            "worker stops",
            "standbys",
            "node kills",
            "node stops",
            "leaders taken away",
            "memory alarms",
            "disk alarms",
            "cuts",
            "half-closes",
            "stalls",
            "slow spells",
        ])
    );
    println!(
        "{nodes}: lost {}, falsely completed {}, ended twice {}, calls repeated {}",
        verdict.lost, verdict.falsely_completed, verdict.ended_twice, verdict.repeats
    );
    println!(
        "{nodes}: {} of the jobs had two workers with a disk each: calls repeated {}, endings published again {}, \
         persons asked again {}, ended as failed {:?}",
        verdict.shared,
        verdict.shared_repeats,
        verdict.shared_published_again,
        verdict.shared_asked,
        verdict.shared_failed,
    );
    let breaches = ground.breaches.lock().unwrap();
    breaches.iter().for_each(|breach| eprintln!("{nodes}, seed {}: {breach}", ground.plan.seed));
    if !breaches.is_empty() && std::env::var_os("SOAK_KEEP").is_some() {
        let _ = std::process::Command::new("cp")
            .arg("-r")
            .arg(ground.rig.folder.path())
            .arg(std::env::var_os("SOAK_KEEP").unwrap())
            .status();
    }
    breaches.len()
}

//! The worker's speed, as a share of the speed that broker and calls alone allow.
//!
//! The rule it keeps: the two loops run in turn, each in its own process, with the same queue, jobs and stand-in. Only
//! ratios within one run count.
//!
//! `cargo bench --bench throughput` prints tables and, at the end, one line for programs. `-- --quick` takes under two
//! minutes; `-- --jobs N` sets the size of a round; `-- --write` puts the tables into `docs/performance.md`. Other
//! measurements: `-- --growth`, the growth of the cost (`--most N`: up to N jobs); `-- --fairness`, the delay by a
//! rate-limited system's backlog (`--backlog N`); `-- --remembered N`, the cost of N ended jobs in the store.

// A bench ends at the first failed condition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs)]

mod bare;
mod connector;
mod fairness;
mod growth;
mod load;
mod meter;
mod release;
mod remembered;
mod report;
mod stand_in;
mod worker;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use erasure_worker::app;
use erasure_worker::broker::amqp::{AmqpBroker, AmqpConfig};
use erasure_worker::store::{Options, SledStore};
use load::{Load, Work};
use meter::Meter;
use report::{Paced, Pair, Report};
use secrecy::SecretString;
use testkit::rabbit::Rabbit;

/// The program's allocator, for both loops and the stand-in.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PREFETCHES: [u16; 2] = [64, 256];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    if flag("--role") {
        return child(&value("--role").unwrap(), |name| value(name).unwrap());
    }
    app::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let quick = flag("--quick");
    // `cargo test` runs this program without `--bench`.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let number = |name: &str, default: u64| value(name).map_or(default, |text| text.parse().unwrap());
    if flag("--growth") {
        return runtime.block_on(growth::show(number("--most", 100_000)));
    }
    if flag("--fairness") {
        return runtime.block_on(fairness::show(number("--backlog", 100_000)));
    }
    if flag("--remembered") {
        return runtime.block_on(remembered::show(number("--remembered", 1_000_000)));
    }
    let plan = Plan {
        jobs: number(
            "--jobs",
            if is_test {
                50
            } else if quick {
                5_000
            } else {
                20_000
            },
        ),
        rounds: number(
            "--rounds",
            if is_test {
                1
            } else if quick {
                2
            } else {
                3
            },
        ),
        paced: number(
            "--paced",
            if is_test {
                50
            } else if quick {
                400
            } else {
                1_000
            },
        ),
    };
    if flag("--connector") {
        return runtime.block_on(connector::show(plan.jobs, plan.rounds));
    }
    if flag("--release") {
        return runtime.block_on(release::show(plan.jobs, plan.rounds));
    }
    let report = runtime.block_on(measure(&plan));
    println!("{}", report.tables());
    if flag("--write") {
        report.write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md").as_path());
    }
    println!("{}", report.line());
}

struct Plan {
    jobs: u64,
    rounds: u64,
    paced: u64,
}

async fn measure(plan: &Plan) -> Report {
    let rabbit = Rabbit::start();
    let stand_in = StandIn::start();
    let mut pairs = Vec::new();
    for prefetch in PREFETCHES {
        let mut pair = Pair { prefetch, bare: Vec::new(), worker: Vec::new() };
        for _ in 0..plan.rounds {
            pair.bare.push(round("bare", &rabbit, &stand_in, prefetch, plan.jobs, Work::Mixed).await);
            pair.worker.push(round("worker", &rabbit, &stand_in, prefetch, plan.jobs, Work::Mixed).await);
        }
        pairs.push(pair);
    }
    let mut paced = Paced::default();
    for _ in 0..2 {
        paced.bare.extend(pace("bare", &rabbit, &stand_in, plan.paced / 2).await);
        paced.worker.extend(pace("worker", &rabbit, &stand_in, plan.paced / 2).await);
    }
    Report { jobs: plan.jobs, pairs, paced }
}

/// One loop works off a full queue.
async fn round(role: &str, rabbit: &Rabbit, stand_in: &StandIn, prefetch: u16, jobs: u64, work: Work) -> Meter {
    let prefix = names(rabbit).await;
    let load = Load::connect(&rabbit.url(), &prefix).await;
    load.fill(jobs, work).await;
    let meter = Loop::start(role, rabbit, stand_in, &prefix, prefetch, jobs, work).end().await;
    load.check(jobs, role == "worker").await;
    eprintln!("{role:6} {prefetch:3} {work}: {meter:.0?}");
    meter
}

/// Fifty jobs a second.
async fn pace(role: &str, rabbit: &Rabbit, stand_in: &StandIn, jobs: u64) -> Vec<Duration> {
    const WARM_UP: u64 = 50;
    let prefix = names(rabbit).await;
    let load = Load::connect(&rabbit.url(), &prefix).await;
    let jobs = jobs + WARM_UP;
    let running = Loop::start(role, rabbit, stand_in, &prefix, 64, jobs, Work::Mixed);
    let took = load.pace(jobs, Duration::from_millis(20), WARM_UP as usize).await;
    running.end().await;
    took
}

/// A new prefix for each round, so that all queues are new.
async fn names(rabbit: &Rabbit) -> String {
    let prefix = format!("b{}", uuid::Uuid::new_v4().simple());
    let config = AmqpConfig { prefix: prefix.clone(), ..AmqpConfig::new(SecretString::from(rabbit.url())) };
    AmqpBroker::declare_topology(&config).await.unwrap();
    prefix
}

/// The work of a loop, in its own process.
struct Task {
    url: String,
    prefix: String,
    /// The stand-in's address.
    systems: String,
    prefetch: u16,
    jobs: u64,
    /// The process ids of the broker and of the stand-in.
    others: [u32; 2],
}

/// A loop in its own process.
struct Loop {
    process: Child,
    dir: tempfile::TempDir,
}

impl Loop {
    fn start(
        role: &str,
        rabbit: &Rabbit,
        stand_in: &StandIn,
        prefix: &str,
        prefetch: u16,
        jobs: u64,
        work: Work,
    ) -> Loop {
        let this = std::env::current_exe().unwrap();
        Loop::of(&this, role, rabbit, stand_in, prefix, prefetch, jobs, work)
    }

    /// A loop of another build of this bench.
    #[allow(clippy::too_many_arguments, reason = "the program, and what `start` takes")]
    fn of(
        program: &Path,
        role: &str,
        rabbit: &Rabbit,
        stand_in: &StandIn,
        prefix: &str,
        prefetch: u16,
        jobs: u64,
        work: Work,
    ) -> Loop {
        let dir = tempfile::Builder::new().prefix("throughput-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(["--role", role, "--url", &rabbit.url(), "--prefix", prefix, "--systems", &stand_in.address])
            .args(["--broker", &rabbit.process().to_string(), "--stand-in", &stand_in.process.id().to_string()])
            .args(["--prefetch", &prefetch.to_string(), "--jobs", &jobs.to_string()])
            .args(["--work", &work.to_string(), "--dir"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Loop { process, dir }
    }

    /// Ends the loop before its work is done.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn end(self) -> Meter {
        let Loop { process, dir } = self;
        let output = tokio::task::spawn_blocking(move || process.wait_with_output().unwrap()).await.unwrap();
        if !output.status.success() {
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("a loop ended with {}:\n{}", output.status, end.join("\n"));
        }
        let meter: Meter = serde_json::from_slice(&output.stdout).unwrap();
        let opening_ms = |state: &str| opening_ms(&dir.path().join(state));
        Meter { opening_ms: (opening_ms("state"), opening_ms("killed")), ..meter }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The time to open a store; 0 if there is none.
fn opening_ms(state: &Path) -> f64 {
    if !state.exists() {
        return 0.0;
    }
    let began = Instant::now();
    let opened = SledStore::open(state, Options::default()).unwrap();
    let took = began.elapsed().as_secs_f64() * 1000.0;
    assert_eq!(opened.moved_aside, None);
    took
}

fn child(role: &str, value: impl Fn(&str) -> String) {
    if role == "stand-in" {
        return stand_in::serve();
    }
    let task = Task {
        url: value("--url"),
        prefix: value("--prefix"),
        systems: value("--systems"),
        prefetch: value("--prefetch").parse().unwrap(),
        jobs: value("--jobs").parse().unwrap(),
        others: ["--broker", "--stand-in"].map(|name| value(name).parse().unwrap()),
    };
    app::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let meter = runtime.block_on(async {
        match role {
            "bare" => bare::run(&task).await,
            "worker" => {
                let _telemetry = erasure_worker::telemetry::init().unwrap();
                worker::run(&task, Path::new(&value("--dir")), value("--work").parse().unwrap()).await
            }
            _ => panic!("no such role"),
        }
    });
    println!("{}", serde_json::to_string(&meter).unwrap());
}

/// The stand-in in its own process; it ends when its standard input is closed.
struct StandIn {
    process: Child,
    address: String,
}

impl StandIn {
    fn start() -> StandIn {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--role", "stand-in"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        StandIn { process, address: address.trim().to_owned() }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

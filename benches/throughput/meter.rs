//! The resources that a loop's process used from a tenth of its jobs to the last.
//!
//! The rule it keeps: the process's figures are the kernel's, read from `/proc/self`.

use std::time::{Duration, Instant};

use erasure_worker::store::StoreStats;
use serde::{Deserialize, Serialize};

/// The unit of `/proc/self/stat`, on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// Figures per job, and the process's peak.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Meter {
    /// Jobs a second.
    pub rate: f64,
    /// Processor time a job, user and kernel.
    pub cpu_us: f64,
    /// The same for the broker and the stand-in.
    pub others_cpu_us: [f64; 2],
    /// Group commits a job.
    pub syncs: f64,
    /// Batches a job.
    pub batches: f64,
    /// Writes of single keys a job.
    pub writes: f64,
    /// Bytes a job written to the disk.
    pub disk_bytes: f64,
    /// Bytes a job of the store at the end.
    pub store_bytes: f64,
    /// Peak resident memory.
    pub peak_mib: f64,
    /// The time to open the store again, after an orderly stop and after a kill.
    pub opening_ms: (f64, f64),
}

struct Reading {
    at: Instant,
    jobs: u64,
    cpu: f64,
    others: [f64; 2],
    disk: u64,
    store: StoreStats,
}

impl Meter {
    /// Measures until `jobs` jobs are done, the processes of the broker and of the stand-in included.
    pub async fn watch(jobs: u64, others: [u32; 2], done: impl Fn() -> u64, store: impl Fn() -> StoreStats) -> Meter {
        let read = |jobs| Reading {
            at: Instant::now(),
            jobs,
            cpu: cpu(std::process::id()),
            others: others.map(cpu),
            disk: disk_bytes(),
            store: store(),
        };
        let until = async |least: u64| {
            loop {
                let now = done();
                if now >= least {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // Few jobs may all end at the same moment, so they are measured from the start.
        let first = read(until(if jobs < 1_000 { 0 } else { jobs / 10 }).await);
        let last = read(until(jobs).await);
        let count = (last.jobs - first.jobs).max(1) as f64;
        let per_job = |first: u64, last: u64| (last - first) as f64 / count;
        Meter {
            rate: count / (last.at - first.at).as_secs_f64(),
            cpu_us: (last.cpu - first.cpu) * 1e6 / count,
            others_cpu_us: [0, 1].map(|other| (last.others[other] - first.others[other]) * 1e6 / count),
            syncs: per_job(first.store.syncs, last.store.syncs),
            batches: per_job(first.store.batches, last.store.batches),
            writes: per_job(first.store.writes, last.store.writes),
            disk_bytes: per_job(first.disk, last.disk),
            store_bytes: last.store.bytes_on_disk as f64 / last.jobs as f64,
            peak_mib: status("VmHWM:") / 1024.0,
            opening_ms: (0.0, 0.0),
        }
    }
}

/// Seconds of processor time of a process so far.
pub fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field is the program's name in parentheses, possibly with spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}

fn disk_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// A line of `/proc/self/status`, in KiB.
pub fn status(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}

//! The cost of ended jobs in the store: bytes, memory, and the time to open the store.
//!
//! The rule it keeps: the store is the real one, with its syncs. Only the jobs are invented, with the size and
//! compressibility of real ones.

use erasure_worker::store::{Batch, Options, SledStore, Store as _, Table};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::meter::{cpu, status};
use crate::{copy, opening_ms};

/// Jobs that end at the same moment.
const TOGETHER: u64 = 64;

/// Stores `jobs` ended jobs and prints a table.
pub async fn show(jobs: u64) {
    let dir = tempfile::Builder::new().prefix("remembered-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (state, killed) = (dir.path().join("state"), dir.path().join("killed"));
    let store = SledStore::open(&state, Options::default()).unwrap().store;
    let mut random = StdRng::seed_from_u64(1);
    let mut number = 0;
    while number < jobs {
        let mut last = None;
        for _ in 0..TOGETHER {
            number += 1;
            last = Some(store.submit(ended(number, &mut random)));
        }
        last.unwrap().await.unwrap();
    }
    let (peak, used) = (status("VmHWM:") / 1024.0, cpu(std::process::id()) * 1e6 / number as f64);
    let bytes = store.stats().bytes_on_disk / number;
    // A copy of the open files is equal to the files after a kill.
    copy(&state.join("store"), &killed.join("store"));
    drop(store);
    let (stopped, killed) = (opening_ms(&state), opening_ms(&killed));
    println!("| jobs remembered | bytes a job | CPU a job | peak memory | opened after a stop | opened after a kill |");
    println!("|---|---|---|---|---|---|");
    println!("| {number} | {bytes} | {used:.0} µs | {peak:.0} MiB | {stopped:.0} ms | {killed:.0} ms |");
}

/// The rows of an ended job: the job's, and the receipt's with the event.
fn ended(number: u64, random: &mut StdRng) -> Batch {
    let mut hex = |bytes: usize| (0..bytes).map(|_| format!("{:02x}", random.random::<u8>())).collect::<String>();
    let (job, event, subject) = (hex(16), hex(16), format!("s-{}", hex(16)));
    let facts = format!(
        r#""job_id":"{job}","tenant":"default","run":1,"subject_ref":"{subject}","regulation":"gdpr","outcome":"completed","partial":false,"requested_at":"2026-11-01T09:00:00.000Z","due_at":"2026-12-01T09:00:00.000Z","finished_at":"2026-11-22T11:{:02}:{:02}.{:03}Z""#,
        number / 60_000 % 60,
        number / 1_000 % 60,
        number % 1_000,
    );
    let target = r#"{"target":0,"system":"vitalsource","kind":"vitalsource","outcome":"erased","identity":"checked","reason":null,"code":null"#;
    let receipt = format!(
        r#"{{"version":1,"worker":"bench","worker_version":"0.1.0","environment":"sandbox","number":{number},"previous":"{}",{facts},"targets":[{target},"evidence":"{}"}}]}}"#,
        hex(32),
        hex(32),
    );
    let steps: String = ["resolve", "read_code", "revoke_code", "overwrite", "read_back"]
        .map(|step| {
            format!(
                r#"{{"step":"{step}","outcome":"erased","count":1,"at":"2026-11-22T11:12:38.{}Z"}},"#,
                number % 1_000
            )
        })
        .concat();
    let event = format!(
        r#"{{"specversion":"1.0","type":"erasure.job.completed.v1","source":"/erasure-worker/sandbox/bench","id":"{event}","subject":"{job}","datacontenttype":"application/json","data":{{{facts},"targets":[{target},"steps":[{steps}]}}],"inputs":[],"follow_up":[],"receipt":""}}}}"#
    );
    let signature: [u8; 64] = random.random();
    let digests: [u8; 64] = random.random();
    let mut batch = Batch::new();
    batch.put(Table::Receipt, number.to_be_bytes(), [receipt.as_bytes(), event.as_bytes(), &signature].concat());
    batch.put(
        Table::Ended,
        [b"default\0", &random.random::<[u8; 16]>()[..]].concat(),
        [&digests[..], subject.as_bytes()].concat(),
    );
    batch
}

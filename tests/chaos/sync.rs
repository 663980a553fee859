//! Proof that every awaited write was synced to the disk.

use std::path::Path;

use erasure_worker::sandbox::Operation;
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::worker::Worker;

/// A system call in strace's output.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Synced,
    /// A destructive request was sent.
    Called,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_destructive_call_follows_a_successful_fdatasync_of_its_intent() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let cases = Case::mixed(rig.sandbox(), &[Form::LoyaltyProgram, Form::EasyCms], 1..9);
    rig.publish(&bodies(&cases)).await;
    let trace = rig.folder.path().join("trace");
    let path = trace.to_str().unwrap();
    let calls = "trace=fdatasync,fsync,sync_file_range,write,writev,sendto,sendmsg";
    // -D: the worker stays our own child, so that signals reach it.
    let strace = ["strace", "-D", "-f", "-s", "80", "-y", "-e", calls, "-o", path];
    // One job at a time, so that each sync belongs to the job in hand.
    let command = rig.wrapped(&strace, "state", &[("ERASURE__WORKER__CONCURRENCY", "1")]);
    let worker = Worker::spawn(command, &rig.folder.path().join("state.log"));
    rig.events.all_end(ids(&cases)).await;
    let reported = worker.metric("erasure_store_syncs_total").await as usize;
    worker.stop().await;

    let text = std::fs::read_to_string(&trace).unwrap();
    let failed: Vec<&str> = text.lines().filter(|line| line.contains("sync") && line.contains(" = -1 ")).collect();
    assert_eq!(failed, [""; 0]);
    let seen = story(&text, &rig.state_dir("state"));
    let syncs = seen.iter().filter(|seen| **seen == Seen::Synced).count();
    let destructive = rig.sandbox().entries(0).iter().filter(|call| call.destructive).count();
    assert_eq!(seen.len() - syncs, destructive, "strace missed a destructive call: {seen:?}");
    assert_eq!(destructive, 8);
    for pair in seen.windows(2) {
        assert_ne!(pair, [Seen::Called, Seen::Called], "no sync between two destructive calls");
    }
    assert!(reported > 0 && syncs >= reported, "{reported} group commits, {syncs} syncs");
    // Intent and outcome are awaited; other writes go with them.
    assert!(syncs >= 2 * cases.len(), "{syncs} syncs");
    assert_eq!(rig.sandbox().summary().by_operation[&Operation::DeleteMember].effects, 4);
}

/// The syncs of the store's log and the destructive requests, in order of their completion.
fn story(text: &str, state: &Path) -> Vec<Seen> {
    let log = format!("<{}>", state.join("store/db").display());
    let mut syncing = std::collections::HashSet::new();
    let mut seen = Vec::new();
    for line in text.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let is_sync = line.contains("fdatasync(") && line.contains(&log);
        if is_sync && line.contains("unfinished") {
            syncing.insert(thread);
        } else if (is_sync && line.ends_with("= 0"))
            || (line.contains("fdatasync resumed") && line.ends_with("= 0") && syncing.remove(thread))
        {
            seen.push(Seen::Synced);
        } else if line.contains("DELETE /loyalty/") || line.contains("set_customer_delete_account") {
            seen.push(Seen::Called);
        }
    }
    seen
}

//! Repeated SIGKILLs: every acknowledged batch is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use erasure_worker::store::DurableStore as _;
use erasure_worker::store::{MemoryStore, Store, StoreError, Table};

use crate::{job, open, put};

const CHILD: &str = "STORE_TEST_CHILD_DIR";
const WRITERS: u64 = 8;

/// Writes from several tasks for ever, and prints each acknowledged number.
async fn write_until_killed(dir: &Path) {
    let store = Arc::new(open(dir));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        let from = job(&*store, &last_key(writer)).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()) + 1);
        writers.spawn(async move {
            for n in from.. {
                let mut batch = put(&last_key(writer), &n.to_be_bytes());
                // Some values are long enough to be split.
                let length = if n % 16 == 0 { 40_000 } else { 100 };
                batch.put(Table::Journal, entry_key(writer, n), vec![n as u8; length]);
                if n >= 50 {
                    batch.remove(Table::Journal, entry_key(writer, n - 50));
                }
                store.submit(batch).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {writer} {n}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    writers.join_next().await.unwrap().unwrap();
}

fn last_key(writer: u64) -> Vec<u8> {
    [b"last/", &writer.to_be_bytes()[..]].concat()
}

fn entry_key(writer: u64, n: u64) -> Vec<u8> {
    [writer.to_be_bytes(), n.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigkill_every_acknowledged_batch_is_there_and_whole() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 1..=4_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::after_sigkill_every_acknowledged_batch_is_there_and_whole", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // The test harness may have begun a line; the kill may have cut the last one.
            let Some(at) = line.find("acknowledged ") else { continue };
            let numbers: Vec<u64> = line[at..].split(' ').skip(1).filter_map(|text| text.parse().ok()).collect();
            let [writer, n] = numbers[..] else { continue };
            acknowledged.insert(writer, n);
            seen += 1;
            if seen == 300 * round {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= 300 * round, "the child ended by itself");

        let store = open(dir.path());
        for (writer, n) in &acknowledged {
            let last = u64::from_be_bytes(job(&store, &last_key(*writer)).unwrap().try_into().unwrap());
            assert!(last >= *n, "writer {writer}: {n} was acknowledged, but the last is {last}");
            let entries = store.scan(Table::Journal, &writer.to_be_bytes(), None, 1000).unwrap();
            let expected: Vec<_> = (last.saturating_sub(49)..=last).map(|n| entry_key(*writer, n)).collect();
            assert_eq!(entries.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), expected);
            for (key, value) in entries {
                let n = u64::from_be_bytes(key[8..].try_into().unwrap());
                assert_eq!(value.len(), if n % 16 == 0 { 40_000 } else { 100 });
                assert!(value.iter().all(|byte| *byte == n as u8));
            }
        }
    }
    assert_eq!(acknowledged.len() as u64, WRITERS);
}

#[tokio::test]
async fn a_closed_store_has_every_submitted_batch_and_accepts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tickets: Vec<_> = (0..500_u32).map(|n| store.submit(put(&n.to_be_bytes(), b"v"))).collect();
    store.close();
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert!(matches!(store.submit(put(b"late", b"v")).await, Err(StoreError::Closed)));
    store.close();
    drop(store);
    assert_eq!(open(dir.path()).scan(Table::Job, b"", None, 1000).unwrap().len(), 500);
}

#[tokio::test]
async fn a_dropped_store_keeps_unawaited_batches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ticket = store.submit(put(b"k", b"v"));
    drop(store);
    ticket.await.unwrap();
    assert_eq!(job(&open(dir.path()), b"k"), Some(b"v".to_vec()));
}

#[tokio::test]
async fn a_crash_of_the_memory_store_loses_only_batches_that_are_not_durable() {
    let store = MemoryStore::new();
    store.submit(put(b"kept", b"1")).await.unwrap();
    store.hold();
    let first = store.submit(put(b"first", b"1"));
    let second = store.submit(put(b"second", b"1"));
    assert_eq!(job(&store, b"first"), None);
    assert_eq!(store.sync(1), 2);
    first.await.unwrap();
    let next = store.crash();
    assert!(matches!(second.await, Err(StoreError::Closed)));
    assert!(matches!(store.submit(put(b"late", b"1")).await, Err(StoreError::Closed)));
    assert_eq!(job(&next, b"kept"), Some(b"1".to_vec()));
    assert_eq!(job(&next, b"first"), Some(b"1".to_vec()));
    assert_eq!(job(&next, b"second"), None);
    next.submit(put(b"more", b"1")).await.unwrap();
}

#[tokio::test]
async fn the_memory_store_can_fail_like_a_disk() {
    let store = MemoryStore::new();
    let full = StoreError::Full { path: "memory".into(), free: 1, needed: 2 };
    store.fail_with(Some(full));
    assert!(matches!(store.submit(put(b"k", b"v")).await, Err(StoreError::Full { .. })));
    assert!(matches!(store.check().await, Err(StoreError::Full { .. })));
    assert_eq!(job(&store, b"k"), None);
    store.fail_with(None);
    store.submit(put(b"k", b"v")).await.unwrap();
    store.fail_with(Some(StoreError::Broken("a sync failed".into())));
    store.fail_with(None);
    assert!(matches!(store.submit(put(b"k", b"v")).await, Err(StoreError::Broken(_))));
    assert!(matches!(store.get(Table::Job, b"k"), Err(StoreError::Broken(_))));
}

//! Archived rows read like rows in the tree.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use erasure_worker::store::DurableStore as _;
use erasure_worker::store::{
    Batch, LogFile, Options, SledStore, Store, StoreError, Syncer, Table, VERSION, VERSION_KEY,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// So few rows stay in the tree that a short test archives often.
const AFTER: usize = 16;

fn options() -> Options {
    Options { archive_after: AFTER, ..Options::default() }
}

fn open(dir: &Path) -> SledStore {
    let opened = SledStore::open(dir, options()).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.store
}

/// A value as long as a receipt, and as hard to compress.
fn value(random: &mut StdRng) -> Vec<u8> {
    let length = if random.random_bool(0.01) { 20_000 } else { random.random_range(0..600) };
    (0..length).map(|_| random.random()).collect()
}

fn receipt(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Ended jobs with their receipts, in one batch each.
async fn end_jobs(store: &SledStore, numbers: std::ops::Range<u64>, random: &mut StdRng) -> Model {
    let mut model = Model::default();
    let mut last = None;
    for number in numbers {
        let mut batch = Batch::new();
        let (job, text) = (random.random::<u128>().to_be_bytes().to_vec(), value(random));
        batch.put(Table::Ended, job.clone(), number.to_be_bytes());
        batch.put(Table::Receipt, receipt(number), text.clone());
        model.ended.insert(job, number.to_be_bytes().to_vec());
        model.receipts.insert(receipt(number), text);
        last = Some(store.submit(batch));
    }
    if let Some(last) = last {
        last.await.unwrap();
    }
    model
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The expected content.
#[derive(Default)]
struct Model {
    ended: Rows,
    receipts: Rows,
}

impl Model {
    fn tables(&self) -> [(Table, &Rows); 2] {
        [(Table::Ended, &self.ended), (Table::Receipt, &self.receipts)]
    }

    fn assert_equals(&self, store: &SledStore) {
        for (table, rows) in self.tables() {
            let all: Vec<_> = rows.clone().into_iter().collect();
            assert_eq!(store.scan(table, b"", None, usize::MAX).unwrap(), all);
        }
    }
}

/// Waits until this many rows are archived.
async fn archived(store: &SledStore, rows: u64) {
    while store.stats().archived < rows {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_puts_and_removes_read_like_one_map() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let mut model = Model::default();
    let mut store = open(dir.path());
    let (mut first, mut next) = (0_u64, 0_u64);
    for round in 0..600 {
        let mut batch = Batch::new();
        for _ in 0..random.random_range(1..8) {
            match random.random_range(0..10) {
                0 if !model.ended.is_empty() => {
                    let job = model.ended.keys().nth(random.random_range(0..model.ended.len())).unwrap().clone();
                    model.ended.remove(&job);
                    batch.remove(Table::Ended, job);
                }
                1 if !model.ended.is_empty() => {
                    let job = model.ended.keys().nth(random.random_range(0..model.ended.len())).unwrap().clone();
                    let value = value(&mut random);
                    model.ended.insert(job.clone(), value.clone());
                    batch.put(Table::Ended, job, value);
                }
                2 if first < next => {
                    // The oldest first, as in reality; sometimes another.
                    let number = if random.random_bool(0.9) { first } else { random.random_range(first..next) };
                    first += u64::from(number == first);
                    model.receipts.remove(&receipt(number));
                    batch.remove(Table::Receipt, receipt(number));
                }
                _ => {
                    let (job, text) = (vec![b'a' + random.random_range(0..3), random.random()], value(&mut random));
                    model.ended.insert(job.clone(), text.clone());
                    batch.put(Table::Ended, job, text);
                    let text = value(&mut random);
                    model.receipts.insert(receipt(next), text.clone());
                    batch.put(Table::Receipt, receipt(next), text);
                    next += 1;
                }
            }
        }
        store.submit(batch).await.unwrap();
        for (table, rows) in model.tables() {
            for key in [random.random::<u64>().to_be_bytes().to_vec(), receipt(random.random_range(0..next + 2))]
                .iter()
                .chain(rows.keys().nth(random.random_range(0..rows.len() + 1)))
            {
                assert_eq!(store.get(table, key).unwrap().as_ref(), rows.get(key), "{round}");
            }
            let prefix = if table == Table::Ended { vec![b'a' + random.random_range(0..4)] } else { Vec::new() };
            let after = rows.keys().nth(random.random_range(0..rows.len() + 1)).cloned();
            let limit = random.random_range(0..40);
            let wanted = rows
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after));
            let wanted: Vec<_> = wanted.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(store.scan(table, &prefix, after.as_deref(), limit).unwrap(), wanted, "{round}");
        }
        if round % 97 == 96 {
            drop(store);
            store = open(dir.path());
            model.assert_equals(&store);
        }
    }
    model.assert_equals(&store);
    assert!(fs::metadata(dir.path().join("store/archive")).unwrap().len() > 300_000, "nothing was archived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_only_whole_batches_while_rows_are_archived() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(dir.path()));
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..400_u64 {
                let mut batch = Batch::new();
                // The same keys in every batch.
                for key in 0..5_u8 {
                    batch.put(Table::Ended, [key], number.to_be_bytes());
                }
                batch.put(Table::Receipt, receipt(number), vec![7; 300]);
                store.submit(batch).await.unwrap();
            }
        })
    };
    let mut scans = 0;
    while !writing.is_finished() {
        let ended = store.scan(Table::Ended, b"", None, 10).unwrap();
        assert!(ended.windows(2).all(|pair| pair[0].1 == pair[1].1), "a scan saw half of a batch");
        assert!([0, 5].contains(&ended.len()));
        let receipts = store.scan(Table::Receipt, b"", None, usize::MAX).unwrap();
        assert!(receipts.iter().zip(0..).all(|((key, _), number)| *key == receipt(number)), "a receipt is missing");
        scans += 1;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert!(scans > 10, "{scans}");
    assert_eq!(store.scan(Table::Receipt, b"", None, usize::MAX).unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_a_missing_older_or_damaged_archive_is_moved_aside() {
    for damage in ["gone", "older", "torn", "empty"] {
        let dir = tempfile::tempdir().unwrap();
        let (archive, older) = (dir.path().join("store/archive"), dir.path().join("older"));
        let mut random = StdRng::seed_from_u64(5);
        let store = open(dir.path());
        end_jobs(&store, 0..100, &mut random).await;
        archived(&store, 100).await;
        drop(store);
        fs::copy(&archive, &older).unwrap();
        let store = open(dir.path());
        end_jobs(&store, 100..300, &mut random).await;
        archived(&store, 200).await;
        drop(store);
        match damage {
            "gone" => fs::remove_file(&archive).unwrap(),
            "older" => drop(fs::copy(&older, &archive).unwrap()),
            "torn" => {
                let file = fs::OpenOptions::new().write(true).open(&archive).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
            _ => fs::write(&archive, b"").unwrap(),
        }
        let opened = SledStore::open(dir.path(), options()).unwrap();
        let aside = opened.moved_aside.unwrap_or_else(|| panic!("{damage}: not noticed"));
        assert!(aside.join("db").exists() && aside.starts_with(dir.path()), "{damage}");
        assert_eq!(opened.store.scan(Table::Ended, b"", None, 1).unwrap(), vec![]);
        // The new store works.
        end_jobs(&opened.store, 0..50, &mut random).await.assert_equals(&opened.store);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_archive_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for remains in [&b""[..], b"redb", &[0; 5000]] {
        fs::write(dir.path().join("store/archive"), remains).unwrap();
        let store = open(dir.path());
        assert_eq!(store.scan(Table::Ended, b"", None, 1).unwrap(), vec![]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_version_before_the_archive_is_opened_and_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    // Such a store has all rows in its tree.
    let store = SledStore::open(dir.path(), Options { archive_after: usize::MAX, ..Options::default() }).unwrap().store;
    let model = end_jobs(&store, 0..200, &mut StdRng::seed_from_u64(3)).await;
    let mut batch = Batch::new();
    batch.put(Table::Meta, VERSION_KEY, 1_u32.to_be_bytes());
    store.submit(batch).await.unwrap();
    drop(store);
    fs::remove_file(dir.path().join("store/archive")).unwrap();
    let store = open(dir.path());
    model.assert_equals(&store);
    assert_eq!(store.get(Table::Meta, VERSION_KEY).unwrap(), Some(VERSION.to_be_bytes().to_vec()));
    archived(&store, 200).await;
    model.assert_equals(&store);
    drop(store);
    model.assert_equals(&open(dir.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_no_row_is_archived_or_lost() {
    let dir = tempfile::tempdir().unwrap();
    let min_free = Options::default().min_free;
    // Enough for the tree's small groups, but not for a larger archive write.
    let free_space = std::sync::Arc::new(move |_: &Path| Ok(min_free + 30_000));
    let options = Options { archive_after: 256, free_space, ..Options::default() };
    let store = SledStore::open(dir.path(), options).unwrap().store;
    let mut random = StdRng::seed_from_u64(9);
    let mut model = Model::default();
    for number in 0..200 {
        let more = end_jobs(&store, number..number + 1, &mut random).await;
        model.ended.extend(more.ended);
        model.receipts.extend(more.receipts);
    }
    model.assert_equals(&store);
    let refused = store.submit({
        let mut batch = Batch::new();
        batch.put(Table::Receipt, receipt(1000), vec![0; 40_000]);
        batch
    });
    assert!(matches!(refused.await, Err(StoreError::Full { .. })));
    drop(store);
    model.assert_equals(&open(dir.path()));
}

/// A disk whose syncs report their begin, and wait for permission, one by one.
struct Gated {
    log: LogFile,
    began: Sender<()>,
    go: Receiver<()>,
}

impl Syncer for Gated {
    fn sync(&mut self) -> io::Result<()> {
        let _ = self.began.send(());
        // A dropped sender permits all syncs.
        let _ = self.go.recv();
        self.log.sync()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archiving_beside_a_refused_batch_leaves_the_store_whole() {
    let dir = tempfile::tempdir().unwrap();
    let ((go, gate), (began, begins)) = (mpsc::channel(), mpsc::channel());
    let min_free = Options::default().min_free;
    let options = Options {
        archive_after: 2,
        free_space: std::sync::Arc::new(move |_: &Path| Ok(min_free + 200_000)),
        wrap_syncer: Box::new(|log| Box::new(Gated { log, began, go: gate })),
        ..Options::default()
    };
    go.send(()).unwrap(); // for the version record of the new store
    let store = SledStore::open(dir.path(), options).unwrap().store;
    begins.recv().unwrap();
    let ended = |number: u64| {
        let mut batch = Batch::new();
        batch.put(Table::Ended, number.to_be_bytes(), b"v");
        batch.put(Table::Receipt, number.to_be_bytes(), b"receipt");
        store.submit(batch)
    };
    let first = ended(1);
    begins.recv().unwrap();
    // This ticket is not awaited yet: its batch shares a group with the request of the archiver, which the sync wakes.
    let mut batch = Batch::new();
    batch.put(Table::Job, b"k", vec![0; 300_000]);
    let large = store.submit(batch);
    drop(go);
    first.await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(matches!(large.await, Err(StoreError::Full { .. })));
    for number in 2..20 {
        ended(number).await.unwrap();
    }
    archived(&store, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_archiving_is_not_tried_with_every_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (asked, min_free) = (std::sync::Arc::new(AtomicU64::new(0)), Options::default().min_free);
    let counted = asked.clone();
    let free_space = std::sync::Arc::new(move |_: &Path| {
        // The committer asks before each group; the archiver before it moves rows.
        let moves = std::thread::current().name() == Some("store-archiver");
        counted.fetch_add(u64::from(moves), Ordering::Relaxed);
        Ok(min_free + if moves { 0 } else { 30_000 })
    });
    let options = Options { archive_after: AFTER, free_space, ..Options::default() };
    let store = SledStore::open(dir.path(), options).unwrap().store;
    let mut random = StdRng::seed_from_u64(5);
    for number in 0..200 {
        drop(end_jobs(&store, number..number + 1, &mut random).await);
    }
    store.close();
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=2 * 200 / AFTER as u64).contains(&asked), "{asked}");
}

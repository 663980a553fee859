//! Counted, delayed and failing syncs; a full disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use erasure_worker::store::DurableStore as _;
use erasure_worker::store::{LogFile, Options, SledStore, Store, StoreError, Syncer, Table};
use tokio::sync::mpsc;

use crate::{job, open, put};

/// Wraps the disk: counts syncs, copies the store's folder at each sync, fails on request.
struct Watched {
    log: LogFile,
    calls: Arc<AtomicU64>,
    fail: Arc<AtomicBool>,
    /// A sync reports its begin on the first channel, and waits for the second.
    gate: Option<(mpsc::UnboundedSender<()>, std::sync::mpsc::Receiver<()>)>,
    /// The store's folder, and the folder for its copies, numbered by call.
    copies: Option<(PathBuf, PathBuf)>,
}

impl Syncer for Watched {
    fn sync(&mut self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((from, to)) = &self.copies {
            copy(from, &to.join(call.to_string()).join("store"));
        }
        if let Some((began, go)) = &self.gate {
            let _ = began.send(());
            let _ = go.recv();
        }
        if self.fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("the test fails this sync"));
        }
        self.log.sync()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[derive(Default)]
struct Hooks {
    calls: Arc<AtomicU64>,
    fail: Arc<AtomicBool>,
}

impl Hooks {
    fn open(&self, dir: &Path, with: impl FnOnce(Watched) -> Watched + Send + 'static) -> SledStore {
        let (calls, fail) = (self.calls.clone(), self.fail.clone());
        let wrap = move |log| Box::new(with(Watched { log, calls, fail, gate: None, copies: None })) as Box<dyn Syncer>;
        SledStore::open(dir, Options { wrap_syncer: Box::new(wrap), ..Options::default() }).unwrap().store
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Waits for a sync to begin. The limit only makes a store that never syncs fail the test.
async fn begins(began: &mut mpsc::UnboundedReceiver<()>) {
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, began.recv()).await.expect("no sync began").expect("the committer is gone");
}

#[tokio::test]
async fn a_ticket_resolves_after_one_sync_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::default();
    let (began_tx, mut began) = mpsc::unbounded_channel();
    let (go, go_rx) = std::sync::mpsc::channel();
    go.send(()).unwrap(); // for the version record of the new store
    let store = hooks.open(dir.path(), move |watched| Watched { gate: Some((began_tx, go_rx)), ..watched });
    begins(&mut began).await;
    assert_eq!(hooks.calls(), 1);

    let mut first = store.submit(put(b"1", b"v"));
    begins(&mut began).await;
    assert!(futures_util::poll!(&mut first).is_pending(), "resolved before its sync was over");
    // Batches during a sync are gathered, and share the next one.
    let mut later: Vec<_> = (0..100_u32).map(|n| store.submit(put(&n.to_be_bytes(), b"v"))).collect();
    go.send(()).unwrap();
    first.await.unwrap();
    begins(&mut began).await;
    assert!(later.iter_mut().all(|ticket| futures_util::FutureExt::now_or_never(ticket).is_none()));
    go.send(()).unwrap();
    for ticket in later {
        ticket.await.unwrap();
    }
    assert_eq!(hooks.calls(), 3);
    assert_eq!(store.stats().syncs, 2);
    assert_eq!(store.stats().batches, 101);
}

#[tokio::test]
async fn at_a_sync_the_file_has_every_batch_that_will_be_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let hooks = Hooks::default();
    let paths = (dir.path().join("store"), copies.path().to_owned());
    let store = hooks.open(dir.path(), move |watched| Watched { copies: Some(paths), ..watched });
    for n in 0..12_u32 {
        store.submit(put(&n.to_be_bytes(), &vec![n as u8; 3000 * n as usize])).await.unwrap();
        let there = open(&copies.path().join(hooks.calls().to_string()));
        for n in 0..=n {
            assert_eq!(job(&there, &n.to_be_bytes()), Some(vec![n as u8; 3000 * n as usize]));
        }
    }
}

#[tokio::test]
async fn a_failed_sync_breaks_the_store_permanently_and_is_never_retried() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = Hooks::default();
    let store = hooks.open(dir.path(), |watched| watched);
    let mut broken = store.broken();
    store.submit(put(b"before", b"v")).await.unwrap();
    assert_eq!(*broken.borrow(), None);

    hooks.fail.store(true, Ordering::SeqCst);
    let error = store.submit(put(b"k", b"v")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Broken(why) if why.contains("sync")) && error.is_fatal());
    let calls = hooks.calls();
    hooks.fail.store(false, Ordering::SeqCst);

    broken.changed().await.unwrap();
    assert!(broken.borrow().as_deref().unwrap().contains("sync"));
    for ticket in [store.submit(put(b"k", b"v")), store.check(), store.submit(Default::default())] {
        assert!(matches!(ticket.await, Err(StoreError::Broken(_))));
    }
    assert!(matches!(store.get(Table::Job, b"before"), Err(StoreError::Broken(_))));
    assert!(matches!(store.scan(Table::Job, b"", None, 1), Err(StoreError::Broken(_))));
    assert_eq!(hooks.calls(), calls);
    assert_eq!(store.stats().batches, 1);
}

#[tokio::test]
async fn a_sync_that_panics_breaks_the_store_instead_of_hanging_it() {
    struct Panics(u32);
    impl Syncer for Panics {
        fn sync(&mut self) -> io::Result<()> {
            self.0 += 1;
            assert!(self.0 == 1, "the test panics in this sync");
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options { wrap_syncer: Box::new(|_| Box::new(Panics(0))), ..Options::default() };
    let store = SledStore::open(dir.path(), options).unwrap().store;
    assert!(matches!(store.submit(put(b"k", b"v")).await, Err(StoreError::Broken(_))));
    assert!(matches!(store.check().await, Err(StoreError::Broken(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_whole_groups_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let asked = free.clone();
    let options = || {
        let asked = asked.clone();
        Options { free_space: Arc::new(move |_| Ok(asked.load(Ordering::SeqCst))), ..Options::default() }
    };
    let store = SledStore::open(dir.path(), options()).unwrap().store;
    store.submit(put(b"k", b"before")).await.unwrap();

    free.store(1000, Ordering::SeqCst);
    let mut batch = put(b"k", b"while full");
    batch.put(Table::Job, b"other", b"while full");
    let error = store.submit(batch).await.unwrap_err();
    let StoreError::Full { free: reported, needed, .. } = error.clone() else { panic!("{error}") };
    assert!(reported == 1000 && needed >= 16 << 20 && !error.is_fatal());
    assert!(matches!(store.check().await, Err(StoreError::Full { .. })));
    assert_eq!(job(&store, b"k"), Some(b"before".to_vec()));
    assert_eq!(job(&store, b"other"), None);
    assert_eq!(*store.broken().borrow(), None);

    // A little room is not enough: the next batch would be refused again.
    free.store(Options::default().min_free + 1000, Ordering::SeqCst);
    assert!(matches!(store.submit(put(b"k", &[0; 2000])).await, Err(StoreError::Full { .. })));
    assert!(matches!(store.check().await, Err(StoreError::Full { .. })));
    store.submit(put(b"k", b"small")).await.unwrap();

    free.store(u64::MAX, Ordering::SeqCst);
    store.check().await.unwrap();
    store.submit(put(b"k", b"after")).await.unwrap();
    drop(store);
    let store = SledStore::open(dir.path(), options()).unwrap().store;
    assert_eq!(job(&store, b"k"), Some(b"after".to_vec()));
    assert_eq!(job(&store, b"other"), None);
}

#[test]
fn a_new_store_on_a_full_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { min_free: u64::MAX, ..Options::default() };
    assert!(matches!(SledStore::open(dir.path(), options), Err(StoreError::Full { .. })));
    assert_eq!(open(dir.path()).scan(Table::Job, b"", None, 1).unwrap(), vec![]);
}

#[tokio::test]
async fn no_value_is_in_a_file_that_sled_does_not_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 0..6_usize {
        for n in 0..40_u32 {
            drop(store.submit(put(&n.to_be_bytes(), &vec![round as u8; 8192 * (1 + (n as usize + round) % 4)])));
        }
        store.check().await.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("store/blobs")).unwrap().count(), 0);
    }
}

//! The thread that moves what has come to rest from the tree into the archive.
//!
//! The rule it keeps: only what is durable in the tree is archived, or half of a batch would outlive the
//! rest of it; archived first, durably; then the committer, and only the committer, takes from the tree
//! what has not changed meanwhile. Wherever the process ends, each row is in one of the two, or the same in
//! both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use super::archive::{Archive, ArchiveError, Row};
use super::committer::{Health, Orders};
use super::layout::{ARCHIVED, flat};
use super::options::FreeSpace;
use super::value::whole_value;
use super::{StoreError, Ticket};

/// Bytes of each table that are moved at once: what is moved lies in memory meanwhile.
const AT_ONCE: usize = 4 << 20;

/// How many rows lie in the tree that belong into the archive, and how many are worth waking the thread.
#[derive(Debug)]
struct Rows {
    count: AtomicUsize,
    enough: AtomicUsize,
}

/// Where rows are counted, and the thread is told when they are many.
#[derive(Debug)]
pub(super) struct Resting {
    rows: Arc<Rows>,
    wake: mpsc::SyncSender<()>,
}

impl Resting {
    /// Notes that so many more were written.
    pub(super) fn add(&self, rows: usize) {
        let (count, enough) = (&self.rows.count, &self.rows.enough);
        if rows > 0 && count.fetch_add(rows, Ordering::Relaxed) + rows >= enough.load(Ordering::Relaxed) {
            // Where it is awake already, it need not be told.
            let _ = self.wake.try_send(());
        }
    }
}

/// Where the thread waits to be woken.
pub(super) struct Bed {
    rows: Arc<Rows>,
    /// As many as are moved together.
    enough: usize,
    called: mpsc::Receiver<()>,
}

impl Bed {
    fn is_full(&self) -> bool {
        self.rows.count.load(Ordering::Relaxed) >= self.rows.enough.load(Ordering::Relaxed)
    }

    /// Without room each round only costs: the next one comes when there are that many more.
    fn put_off(&self) {
        let count = self.rows.count.load(Ordering::Relaxed);
        self.rows.enough.store(count.saturating_add(self.enough), Ordering::Relaxed);
    }
}

/// The two ends of it.
pub(super) fn bed(enough: usize) -> (Resting, Bed) {
    let rows = Arc::new(Rows { count: AtomicUsize::new(0), enough: AtomicUsize::new(enough) });
    // One call that is not heard yet says all.
    let (wake, called) = mpsc::sync_channel(1);
    (Resting { rows: rows.clone(), wake }, Bed { rows, enough, called })
}

/// What the thread works with.
pub(super) struct Mover {
    pub(super) db: sled::Db,
    pub(super) archive: Arc<Archive>,
    pub(super) whole: Arc<RwLock<()>>,
    pub(super) orders: Orders,
    pub(super) health: Health,
    pub(super) path: PathBuf,
    pub(super) min_free: u64,
    pub(super) free_space: FreeSpace,
}

/// The handle of the thread, which ends by itself once the committer is gone.
#[derive(Debug)]
pub(super) struct Archiver(Mutex<Option<JoinHandle<()>>>);

impl Archiver {
    pub(super) fn start(mover: Mover, bed: Bed) -> std::io::Result<Self> {
        let run = move || {
            while bed.called.recv().is_ok() {
                // It may have been called before the last round, which put the next one off.
                while bed.is_full() {
                    match catch_unwind(AssertUnwindSafe(|| mover.round(&bed))) {
                        Ok(Ok(true)) => {}
                        Ok(Ok(false)) => break,
                        Ok(Err(error)) => return mover.fail(&error.to_string()),
                        Err(_) => return mover.fail("moving rows into the archive panicked"),
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-archiver".into()).spawn(run)?;
        Ok(Self(Mutex::new(Some(thread))))
    }

    /// Waits until the thread has ended. The committer must have ended before.
    pub(super) fn close(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether the committer did what it was asked for. Where it has ended, or refused the group for want of
/// room, nothing is lost: the rows stay in the tree, and are moved when more come or the store is opened.
fn done(order: Ticket) -> Result<bool, StoreError> {
    match order.wait() {
        Ok(()) => Ok(true),
        Err(StoreError::Closed | StoreError::Full { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Mover {
    /// Moves what is there, or a part of it; true where there is more.
    fn round(&self, bed: &Bed) -> Result<bool, StoreError> {
        let count = &bed.rows.count;
        let counted = count.load(Ordering::Relaxed);
        let (rows, is_all) = self.rows()?;
        if !done(self.orders.settled())? {
            bed.put_off();
            return Ok(false);
        }
        let found = rows.len();
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        // Room for the pages that are written anew as well. Where there is none, the rows stay.
        if (self.free_space)(&self.path).is_ok_and(|free| free < self.min_free.saturating_add(2 * bytes as u64)) {
            bed.put_off();
            return Ok(false);
        }
        let broken = |error: ArchiveError| StoreError::Broken(error.to_string());
        let number = self.archive.number().map_err(broken)? + 1;
        let moved = self.archive.put(rows, number).map_err(broken)?;
        let left = found - moved.len();
        if !moved.is_empty() && !done(self.orders.archived(moved, number))? {
            bed.put_off();
            return Ok(false);
        }
        bed.rows.enough.store(bed.enough, Ordering::Relaxed);
        if is_all {
            // What was added meanwhile stays counted.
            count.fetch_add(left, Ordering::Relaxed);
            count.fetch_sub(counted, Ordering::Relaxed);
        }
        Ok(!is_all && left < found)
    }

    /// The rows of the tree that belong into the archive, in the order of their keys, and whether these are
    /// all of them.
    fn rows(&self) -> Result<(Vec<Row>, bool), StoreError> {
        let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        let (mut rows, mut is_all) = (Vec::new(), true);
        for table in ARCHIVED {
            let mut bytes = 0;
            for pair in self.db.scan_prefix(flat(table, b"")) {
                let (key, stored) = pair.map_err(|error| StoreError::Broken(format!("a read failed: {error}")))?;
                let value = whole_value(&self.db, &key, &stored)?;
                bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                rows.push((key.to_vec(), value));
                if bytes >= AT_ONCE {
                    is_all = false;
                    break;
                }
            }
        }
        Ok((rows, is_all))
    }

    /// The process is about to stop. A last sync that comes with closing might "succeed" without the
    /// bytes that a failed one lost, so the file stays open.
    fn fail(&self, why: &str) {
        self.health.fail(why);
        std::mem::forget(self.archive.clone());
    }
}

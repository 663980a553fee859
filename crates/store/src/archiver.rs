//! The thread that moves ended jobs' rows from the tree into the archive.
//!
//! The rule it keeps: only durable rows of the tree are archived; otherwise half of a batch could outlive its other
//! half. First the archive is durable; then the committer, and only the committer, removes from the tree the rows
//! that have not changed since. Wherever the process ends, each row is in one of the two, or identical in both.

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

/// Bytes of each table in one move: they are in memory meanwhile.
const AT_ONCE: usize = 4 << 20;

/// The number of the tree's rows for the archive, and the number that wakes the thread.
#[derive(Debug)]
struct Rows {
    count: AtomicUsize,
    enough: AtomicUsize,
}

/// Counts rows, and wakes the thread when there are many.
#[derive(Debug)]
pub(super) struct Resting {
    rows: Arc<Rows>,
    wake: mpsc::SyncSender<()>,
}

impl Resting {
    /// Notes that this many more were written.
    pub(super) fn add(&self, rows: usize) {
        let (count, enough) = (&self.rows.count, &self.rows.enough);
        if rows > 0 && count.fetch_add(rows, Ordering::Relaxed) + rows >= enough.load(Ordering::Relaxed) {
            // A thread that is awake needs no signal.
            let _ = self.wake.try_send(());
        }
    }
}

/// The waiting place of the thread.
pub(super) struct Bed {
    rows: Arc<Rows>,
    /// The number of rows in one move.
    enough: usize,
    called: mpsc::Receiver<()>,
}

impl Bed {
    fn is_full(&self) -> bool {
        self.rows.count.load(Ordering::Relaxed) >= self.rows.enough.load(Ordering::Relaxed)
    }

    /// Without room each round only costs: the next one starts after that many more rows.
    fn put_off(&self) {
        let count = self.rows.count.load(Ordering::Relaxed);
        self.rows.enough.store(count.saturating_add(self.enough), Ordering::Relaxed);
    }
}

/// The two ends of it.
pub(super) fn bed(enough: usize) -> (Resting, Bed) {
    let rows = Arc::new(Rows { count: AtomicUsize::new(0), enough: AtomicUsize::new(enough) });
    // One pending signal is enough.
    let (wake, called) = mpsc::sync_channel(1);
    (Resting { rows: rows.clone(), wake }, Bed { rows, enough, called })
}

/// The parts that the thread needs.
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

/// The handle of the thread, which ends by itself after the committer's end.
#[derive(Debug)]
pub(super) struct Archiver(Mutex<Option<JoinHandle<()>>>);

impl Archiver {
    pub(super) fn start(mover: Mover, bed: Bed) -> std::io::Result<Self> {
        let run = move || {
            while bed.called.recv().is_ok() {
                // The signal may be from before the last round, which delayed the next one.
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

    /// Waits for the thread's end. The committer must have ended before.
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

/// True if the committer carried out the order. If it has ended, or refused the group for want of room, nothing is
/// lost: the rows stay in the tree, and are moved later.
fn done(order: Ticket) -> Result<bool, StoreError> {
    match order.wait() {
        Ok(()) => Ok(true),
        Err(StoreError::Closed | StoreError::Full { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Mover {
    /// Moves the present rows, or a part of them; true if there are more.
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
        // Includes room for rewritten pages. Without room the rows stay.
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
            // Rows added meanwhile stay counted.
            count.fetch_add(left, Ordering::Relaxed);
            count.fetch_sub(counted, Ordering::Relaxed);
        }
        Ok(!is_all && left < found)
    }

    /// The tree's rows for the archive, in key order; true if these are all of them.
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

    /// The process is about to stop. A last sync at the closing might "succeed" without the bytes that a failed one
    /// lost, so the file stays open.
    fn fail(&self, why: &str) {
        self.health.fail(why);
        std::mem::forget(self.archive.clone());
    }
}

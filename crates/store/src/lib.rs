//! Where progress lives: an ordered key-value store that says when bytes are really on the disk.
//!
//! The rule it keeps: a [`Ticket`] that resolves to `Ok` means that the batch and every batch
//! submitted before it survive a power cut.
//!
//! In reading order: `sled` (the store on disk) with `options`, `committer` (its one writer) with its
//! `queue`, `layout` (tables and values in one tree), `notes` (what outlives the process), `folder` (the
//! state directory) with `presence`; `archive` (where ended jobs come to rest) with `block`, and `archiver` (who brings them
//! there); `memory` (for tests).

mod archive;
mod archiver;
mod block;
mod committer;
mod folder;
mod layout;
mod memory;
mod notes;
mod opening;
mod options;
mod presence;
mod queue;
mod sled;
mod value;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

pub use folder::{KEEP_MOVED_ASIDE, delete_moved_aside};
pub use memory::MemoryStore;
pub use options::{FreeSpace, LogFile, Options, Syncer, WrapSyncer};
pub use sled::{CREATED_KEY, Opened, SledStore, VERSION, VERSION_KEY};

/// The families of records. The number is part of every key on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// One small summary per open or failed job.
    Job = 1,
    /// The entries of each job's journal, in order.
    Journal = 2,
    /// Where a store has no other place for [`Store::note`].
    Start = 3,
    /// Events that belong to no delivery in hand and must still be published.
    Outbox = 4,
    /// Cancellations that came before their job, and the offset read so far.
    Cancel = 5,
    /// The store's own facts: version, incarnation, clean stop, proven credentials.
    Meta = 6,
    /// What is remembered of an ended job.
    Ended = 7,
    /// When what may be forgotten: due time, then key.
    Expiry = 8,
    /// The receipts by their number in the chain: eight bytes, big-endian.
    Receipt = 9,
}

/// One change: a new value, or (with `None`) a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The family the key belongs to.
    pub table: Table,
    /// The key within its table; compared as bytes.
    pub key: Vec<u8>,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// What a key must hold for a batch to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The family the key belongs to.
    pub table: Table,
    /// The key within its table.
    pub key: Vec<u8>,
    /// Its value; `None` where it must not be there.
    pub value: Option<Vec<u8>>,
}

/// Changes that become visible and durable together, or not at all. Later writes to a key win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes in order.
    pub writes: Vec<Write>,
    /// What must hold after all batches submitted before, else nothing of this one is written and
    /// its ticket says [`StoreError::Outrun`].
    pub expected: Vec<Expected>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value under a key.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push(Write { table, key: key.into(), value: Some(value.into()) });
    }

    /// Removes a key; removing one that is not there is no error.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes.push(Write { table, key: key.into(), value: None });
    }

    /// Makes the batch depend on what a key holds at its turn: a batch before it that failed must
    /// not leave this one behind as if nothing had happened.
    pub fn expect(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.expected.push(Expected { table, key: key.into(), value });
    }

    /// True where nothing would change.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Why the store could not do what was asked. No variant carries a key or a value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the folder.
    #[error(
        "the store in {path} is held by another process; one process owns a state directory: stop the other one or set another worker.state_dir"
    )]
    Held {
        /// The folder.
        path: String,
    },
    /// Written by a newer release than this one.
    #[error(
        "the store in {path} has version {found}, this release knows up to {known}: run the newer release, or move the folder away (the jobs come back from the broker)"
    )]
    Newer {
        /// The folder.
        path: String,
        /// The version found.
        found: u32,
        /// The newest version this release reads.
        known: u32,
    },
    /// Too little room on the disk; nothing of the batch was written.
    #[error(
        "the disk of {path} has {free} bytes free, {needed} are needed: make room; jobs stay on the broker until then"
    )]
    Full {
        /// The folder.
        path: String,
        /// Bytes free.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// A batch before this one failed, or changed what this one expected; nothing of it was written.
    #[error("the batch was made for another state of the store; nothing of it was written")]
    Outrun,
    /// A write or a sync failed: the state on disk is not known any more, the process must stop.
    #[error("the store failed and the process must stop: {0}")]
    Broken(String),
    /// A value could not be decoded.
    #[error("a record of the store cannot be read: {0}")]
    Unreadable(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// True where the process must exit with 1: retrying could lie about what is durable.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StoreError::Broken(_) | StoreError::Closed)
    }
}

/// A receipt for a submitted batch: await it to learn that it is durable, or drop it and go on.
///
/// A batch that nobody awaits may lie for some milliseconds, to share the sync of one that is awaited.
#[derive(Debug)]
pub struct Ticket {
    settled: oneshot::Receiver<Result<(), StoreError>>,
    interest: Option<queue::Interest>,
}

impl Ticket {
    /// A ticket and the end that resolves it.
    pub fn new() -> (oneshot::Sender<Result<(), StoreError>>, Ticket) {
        let (sender, settled) = oneshot::channel();
        (sender, Ticket { settled, interest: None })
    }

    /// Awaited like this, it does not hurry the store: what it speaks of goes with the next group.
    #[must_use]
    pub fn unhurried(self) -> Ticket {
        Ticket { interest: None, ..self }
    }

    /// Says so once somebody awaits it.
    fn of_interest(self, interest: queue::Interest) -> Ticket {
        Ticket { interest: Some(interest), ..self }
    }

    /// Awaits all of some tickets, handed out in this order.
    ///
    /// # Errors
    /// The first of their errors.
    pub async fn all(tickets: Vec<Ticket>) -> Result<(), StoreError> {
        let mut answer = Ok(());
        // The last one resolves last: with it the others have, and nobody is woken for each.
        for ticket in tickets.into_iter().rev() {
            if let Err(error) = ticket.await {
                answer = Err(error);
            }
        }
        answer
    }

    /// Waits for it on a thread of its own, never on the runtime's.
    fn wait(self) -> Result<(), StoreError> {
        if let Some(interest) = self.interest {
            interest.tell();
        }
        self.settled.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settled = Pin::new(&mut self.settled).poll(cx);
        if settled.is_pending()
            && let Some(interest) = self.interest.take()
        {
            interest.tell();
        }
        settled.map(|got| got.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Figures for metrics; all count from the process's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreStats {
    /// Batches made durable.
    pub batches: u64,
    /// Group commits (each one flush and one sync).
    pub syncs: u64,
    /// Single writes.
    pub writes: u64,
    /// Rows of ended jobs that have left the tree for the archive.
    pub archived: u64,
    /// Bytes on disk now.
    pub bytes_on_disk: u64,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered key-value store with durable, atomic batches.
///
/// Reads see every batch whose ticket has resolved, and may see submitted ones earlier; no read
/// sees part of a batch. Batches become durable in the order in which they were submitted. Values
/// may have any length; keys stay below 512 bytes.
pub trait Store: Send + Sync + 'static {
    /// The value under a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` pairs of a table whose key starts with `prefix`, in key order, after `after`
    /// (exclusive) where given.
    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// Hands a batch to the committer. Never blocks on the disk.
    fn submit(&self, batch: Batch) -> Ticket;

    /// Keeps a small value for the process after this one, or with `None` nothing any more. On return it
    /// outlives this process, however that ends; a power cut may forget it, or bring back an older one.
    /// Key and value have at most 54 bytes together.
    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError>;

    /// All that is noted.
    fn notes(&self) -> Result<Vec<Pair>, StoreError>;

    /// A test write and sync: `Ok` means that the store can take work (again).
    fn check(&self) -> Ticket;

    /// Figures for metrics.
    fn stats(&self) -> StoreStats;
}

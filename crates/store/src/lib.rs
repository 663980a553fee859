//! The store of progress: an ordered key-value store that reports when bytes are really on the disk.
//!
//! The rule it keeps: if a [`Ticket`] resolves to `Ok`, its batch and every batch submitted before survive a power
//! cut.
//!
//! In reading order: `sled` (the store on disk) with `options`, `committer` (its only writer) with its `queue`,
//! `layout` (tables and values in one tree), `notes` (values that outlive the process), `folder` (the state
//! directory) with `presence`; `archive` (ended jobs) with `block`, and `archiver` (it fills the archive); `postgres`
//! (the store of a worker without a disk, with the same committer); `memory` (for tests).

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
pub mod postgres;
mod presence;
mod queue;
mod sled;
mod value;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use folder::{KEEP_MOVED_ASIDE, delete_moved_aside};
pub use memory::MemoryStore;
pub use options::{FreeSpace, LogFile, Options, Syncer, WrapSyncer};
pub use sled::{CREATED_KEY, Opened, SledStore, VERSION, VERSION_KEY};

/// The target of log lines: an operator's filter for the worker's lines includes those of its store.
const TARGET: &str = "erasure_worker::store";

/// The tables. The number is part of every key on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// One small summary per open or failed job.
    Job = 1,
    /// The entries of each job's journal, in order.
    Journal = 2,
    /// For [`Store::note`], in a store without another place for it.
    Start = 3,
    /// Events that belong to no delivery in hand and must still be published.
    Outbox = 4,
    /// Cancellations that arrived before their job, and the offset read so far.
    Cancel = 5,
    /// The store's own facts: version, incarnation, clean stop, proven credentials.
    Meta = 6,
    /// The records of ended jobs.
    Ended = 7,
    /// Forgetting: due time, then key.
    Expiry = 8,
    /// The receipts by their number in the chain: eight bytes, big-endian.
    Receipt = 9,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 9] = [
        Table::Job,
        Table::Journal,
        Table::Start,
        Table::Outbox,
        Table::Cancel,
        Table::Meta,
        Table::Ended,
        Table::Expiry,
        Table::Receipt,
    ];
}

/// One change: a new value, or (with `None`) a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The key within its table; compared as bytes.
    pub key: Vec<u8>,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// The value that a key must have for a batch to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The table.
    pub table: Table,
    /// The key within its table.
    pub key: Vec<u8>,
    /// Its value; `None` if it must not exist.
    pub value: Option<Vec<u8>>,
}

/// Changes that become visible and durable together, or not at all. The last write to a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes in order.
    pub writes: Vec<Write>,
    /// Conditions after all earlier batches. If one fails, nothing of this batch is written, and its ticket resolves
    /// to [`StoreError::Outrun`].
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

    /// Removes a key; a missing key is no error.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes.push(Write { table, key: key.into(), value: None });
    }

    /// Makes the batch depend on a key's value at its turn: if an earlier batch failed, this one must fail too.
    pub fn expect(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.expected.push(Expected { table, key: key.into(), value });
    }

    /// True if nothing would change.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// The reason why the store failed. No variant carries a key or a value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the folder.
    #[error(
        "the store in {path} is held by another process; one process owns a store: stop the other one, or set another worker.state_dir or store.postgres.schema"
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
    /// The database cannot hold a store as it is set up.
    #[error("the database {path} cannot hold the store: {why}")]
    Unfit {
        /// Host, database and schema.
        path: String,
        /// What is wrong, and what to do.
        why: String,
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
    /// The database cannot be reached, or does not answer. Whether a batch was written is unknown until it can.
    #[error("the store's database is away: {why}; jobs stay on the broker until it is back")]
    Away {
        /// The reason, without names or values of rows.
        why: String,
    },
    /// Another process has taken the store over: nothing more is written by this one.
    #[error("another process has taken over the store: this one must stop")]
    Fenced,
    /// A batch before this one failed, or changed an expected value; nothing of this batch was written.
    #[error("the store changed since this batch was prepared; nothing of it was written")]
    Outrun,
    /// A write or a sync failed: the state on disk is unknown, and the process must stop.
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
    /// True if the process must exit with 1: a retry could report a false durability.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StoreError::Broken(_) | StoreError::Closed | StoreError::Fenced)
    }

    /// True if the store can be used again later: intake stops until a check succeeds.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Full { .. } | StoreError::Away { .. })
    }
}

/// The receipt of a submitted batch: await it to learn that the batch is durable, or drop it.
///
/// A batch without a waiting task may wait some milliseconds, to share the sync of another one.
#[derive(Debug)]
pub struct Ticket {
    settled: oneshot::Receiver<Result<(), StoreError>>,
    interest: Option<queue::Interest>,
}

impl Ticket {
    /// A ticket, and the sender that resolves it.
    pub fn new() -> (oneshot::Sender<Result<(), StoreError>>, Ticket) {
        let (sender, settled) = oneshot::channel();
        (sender, Ticket { settled, interest: None })
    }

    /// A ticket that is settled already.
    pub fn settled(answer: Result<(), StoreError>) -> Ticket {
        let (sender, ticket) = Ticket::new();
        let _ = sender.send(answer);
        ticket
    }

    /// A ticket whose await does not hurry the store: its batch goes with the next group.
    #[must_use]
    pub fn unhurried(self) -> Ticket {
        Ticket { interest: None, ..self }
    }

    /// Wakes the committer when the ticket is awaited.
    fn of_interest(self, interest: queue::Interest) -> Ticket {
        Ticket { interest: Some(interest), ..self }
    }

    /// Awaits several tickets, given in the order of their batches.
    ///
    /// # Errors
    /// The first of their errors.
    pub async fn all(tickets: Vec<Ticket>) -> Result<(), StoreError> {
        let mut answer = Ok(());
        // The last one resolves last: after it the others are resolved, so one wake-up is enough.
        for ticket in tickets.into_iter().rev() {
            if let Err(error) = ticket.await {
                answer = Err(error);
            }
        }
        answer
    }

    /// Waits on a thread of its own, never on the runtime's.
    fn wait(self) -> Result<(), StoreError> {
        if let Some(interest) = self.interest {
            interest.notify();
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
            interest.notify();
        }
        settled.map(|got| got.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Counts for metrics, since the process's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreStats {
    /// Batches made durable.
    pub batches: u64,
    /// Group commits (each with one flush and one sync).
    pub syncs: u64,
    /// Single writes.
    pub writes: u64,
    /// Rows of ended jobs moved from the tree to the archive.
    pub archived: u64,
    /// Bytes on disk now.
    pub bytes_on_disk: u64,
}

/// Rows that will be read.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Rows by table and key.
    pub rows: Vec<(Table, Vec<u8>)>,
    /// All rows whose keys begin so.
    pub below: Vec<(Table, Vec<u8>)>,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered key-value store with durable, atomic batches.
///
/// Reads see every batch whose ticket has resolved, and may see submitted ones earlier; no read sees a part of a
/// batch. Batches become durable in the order of their submission. Values may have any length; keys are shorter than
/// 512 bytes.
pub trait Store: Send + Sync + 'static {
    /// The value under a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` pairs of a table whose keys start with `prefix`, in key order; with `after`, only later ones.
    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// Submits a batch to the committer. Never waits for the disk.
    fn submit(&self, batch: Batch) -> Ticket;

    /// Stores a small value for the next process; `None` removes it. After its ticket resolves it survives the end of
    /// this process, in whatever way. A power cut may lose it, or restore an older one. Key and value have at most 54
    /// bytes together.
    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket;

    /// All notes.
    fn notes(&self) -> Result<Vec<Pair>, StoreError>;

    /// Reads rows before they are asked for: later reads of them need no trip to a database. A store on the machine
    /// has nothing to do.
    fn warm(&self, _rows: &dyn Fn() -> Wanted) -> Option<Ticket> {
        None
    }

    /// The time for which no other process can take the store over; `None` if none ever can while this one lives.
    fn vouched_for(&self) -> Option<Duration> {
        None
    }

    /// The faults of the store that need attention although it can be used: a word and its detail.
    fn ailments(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// A test write and sync: `Ok` means that the store can be written (again).
    fn check(&self) -> Ticket;

    /// Figures for metrics.
    fn stats(&self) -> StoreStats;
}

/// A store that outlives the process.
pub trait DurableStore: Store {
    /// The reason of the store's failure, once it has failed; the process must then stop.
    fn broken(&self) -> watch::Receiver<Option<String>>;

    /// Checks that the store is still where it was opened; otherwise it has failed. Blocks.
    fn check_presence(&self);

    /// Commits everything submitted and closes the store; later tickets resolve to [`StoreError::Closed`]. Blocks.
    fn close(&self);
}

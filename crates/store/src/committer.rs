//! The only writing thread: it collects waiting batches, commits them as one group, and resolves their tickets.
//!
//! The rule it keeps: a ticket resolves to `Ok` only after the commit of its batch was synced. After one failed
//! commit every ticket fails, and nothing is tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::archive::Row;
use super::layout::{ARCHIVE_KEY, Change, Changes, flat};
use super::queue::{Order, Queue, Reply, Work};
use super::{Batch, StoreError, StoreStats, Ticket};

/// Most batches of a group: it bounds the wait of the first one.
const GROUP_BATCHES: usize = 4096;
/// A group with this many bytes takes no further batch.
const GROUP_BYTES: usize = 4 << 20;

/// After a group of at least this many batches, the next one is collected until it has as many, for at most twice
/// that group's time and at most [`GATHER`]: under load a larger group saves more than its first batch loses. A
/// single job never waits for this.
const BUSY: usize = 16;
const GATHER: Duration = Duration::from_millis(8);

/// The destination of groups.
pub(super) trait Sink: Send + 'static {
    /// An error if the disk has no room for this many more bytes.
    fn room(&self, bytes: u64) -> Result<(), StoreError>;

    /// The present value of a flat key, in tree or archive.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The tree's own value of a flat key; `Some(None)`: removed.
    fn in_tree(&self, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, StoreError>;

    /// Makes a group visible and durable.
    fn commit(&mut self, changes: Changes) -> Result<(), CommitError>;
}

/// The reason why a group was not committed.
pub(super) enum CommitError {
    /// The state of the store is unknown: it has failed.
    Broken(String),
    /// The group's tickets resolve to this; the store stays usable.
    Refused(StoreError),
}

/// Whether the store has failed, for all parts.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<watch::Sender<Option<String>>>);

impl Health {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Notes the first failure; later ones are its consequences.
    pub(super) fn fail(&self, why: &str) -> StoreError {
        self.0.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some(why.to_owned());
            }
            first
        });
        self.check().err().unwrap_or_else(|| StoreError::Broken(why.to_owned()))
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &*self.0.borrow() {
            Some(why) => Err(StoreError::Broken(why.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) batches: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) archived: AtomicU64,
}

impl Counts {
    /// The figures of a store of this size.
    pub(super) fn stats(&self, bytes_on_disk: u64) -> StoreStats {
        StoreStats {
            batches: self.batches.load(Ordering::Relaxed),
            syncs: self.groups.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            archived: self.archived.load(Ordering::Relaxed),
            bytes_on_disk,
        }
    }
}

/// The archiver's orders to the committer.
#[derive(Debug, Clone)]
pub(super) struct Orders(Arc<Queue>);

impl Orders {
    /// Resolves when the tree's present state is durable.
    pub(super) fn settled(&self) -> Ticket {
        self.0.push(Work::Commit { batch: Batch::new(), must_sync: false })
    }

    /// Removes these rows from the tree, except the ones that were changed since.
    pub(super) fn archived(&self, rows: Vec<Row>, number: u64) -> Ticket {
        self.0.push(Work::Archived { rows, number })
    }
}

/// The handle of the thread; its drop commits the rest and joins.
#[derive(Debug)]
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) counts: Arc<Counts>,
}

impl Committer {
    pub(super) fn start(sink: impl Sink, health: Health) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let counts = Arc::new(Counts::default());
        let mut worker = Worker { sink, queue: Arc::clone(&queue), health, counts: counts.clone() };
        let thread = std::thread::Builder::new().name("store-committer".into()).spawn(move || worker.run())?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)), counts })
    }

    /// `must_sync` requires a commit even without a change.
    pub(super) fn submit(&self, batch: Batch, must_sync: bool) -> Ticket {
        self.queue.push(Work::Commit { batch, must_sync })
    }

    /// For the archiver.
    pub(super) fn orders(&self) -> Orders {
        Orders(Arc::clone(&self.queue))
    }

    /// Commits everything submitted before, then ends the thread. Blocks until its end.
    pub(super) fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.queue.stop();
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Default)]
struct Group {
    changes: Changes,
    replies: Vec<Reply>,
    bytes: usize,
    writes: u64,
    archived: u64,
    must_sync: bool,
}

impl Group {
    fn add(&mut self, batch: Batch, must_sync: bool) {
        for write in batch.writes {
            self.writes += 1;
            self.bytes += 1 + write.key.len() + write.value.as_ref().map_or(0, Vec::len);
            self.changes.insert(flat(write.table, &write.key), write.value.map_or(Change::Removed, Change::Put));
        }
        self.must_sync |= must_sync;
    }

    fn has_space(&self) -> bool {
        self.replies.len() < GROUP_BATCHES && self.bytes < GROUP_BYTES
    }
}

struct Worker<S> {
    sink: S,
    queue: Arc<Queue>,
    health: Health,
    counts: Arc<Counts>,
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<S: Sink> Worker<S> {
    fn run(&mut self) {
        let mut gather = None;
        while self.queue.wait() {
            if let Some((enough, most)) = gather {
                self.queue.gather(enough, most);
            }
            let began = Instant::now();
            let mut group = Group::default();
            let mut outrun = Vec::new();
            while group.has_space()
                && let Some(Order { work, reply }) = self.queue.pop()
            {
                let taken = match work {
                    Work::Commit { batch, must_sync } => self.take(&mut group, batch, must_sync),
                    Work::Archived { rows, number } => self.forget(&mut group, rows, number),
                };
                match taken {
                    Ok(()) => group.replies.push(reply),
                    Err(error) => outrun.push((reply, error)),
                }
            }
            let taken = group.replies.len();
            if !group.replies.is_empty() {
                self.settle(group);
            }
            // Answered last, so that rejected batches find all earlier batches settled.
            for (reply, error) in outrun {
                let _ = reply.send(Err(error));
            }
            gather = (taken >= BUSY).then(|| (taken, (began.elapsed() * 2).min(GATHER)));
        }
    }

    /// Adds a batch to a group if its conditions hold.
    fn take(&self, group: &mut Group, batch: Batch, must_sync: bool) -> Result<(), StoreError> {
        if must_sync {
            // A check asks for room for a whole group; otherwise the next one would be refused again.
            self.sink.room(GROUP_BYTES as u64)?;
        }
        if !self.holds(group, &batch)? {
            return Err(StoreError::Outrun);
        }
        group.add(batch, must_sync);
        Ok(())
    }

    /// Whether a batch's conditions hold after the group before it.
    fn holds(&self, group: &Group, batch: &Batch) -> Result<bool, StoreError> {
        for expected in &batch.expected {
            let key = flat(expected.table, &expected.key);
            let holds = match group.changes.get(&key) {
                Some(Change::Put(pending)) => expected.value.as_ref() == Some(pending),
                Some(Change::Removed) => expected.value.is_none(),
                Some(Change::Archived) | None => self.sink.get(&key)? == expected.value,
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the removal of archived rows from the tree, if they are unchanged there.
    fn forget(&self, group: &mut Group, rows: Vec<Row>, number: u64) -> Result<(), StoreError> {
        for (key, value) in rows {
            if !group.changes.contains_key(&key) && self.sink.in_tree(&key)? == Some(value) {
                group.changes.insert(key, Change::Archived);
                group.archived += 1;
            }
        }
        group.changes.insert(ARCHIVE_KEY.to_vec(), Change::Put(number.to_be_bytes().to_vec()));
        Ok(())
    }

    fn settle(&mut self, mut group: Group) {
        let replies = std::mem::take(&mut group.replies);
        let (batches, writes, archived) = (replies.len() as u64, group.writes, group.archived);
        let answer = self.commit(group);
        if answer.is_ok() {
            self.counts.batches.fetch_add(batches, Ordering::Relaxed);
            self.counts.writes.fetch_add(writes, Ordering::Relaxed);
            self.counts.archived.fetch_add(archived, Ordering::Relaxed);
        }
        for reply in replies {
            // A dropped ticket has no receiver.
            let _ = reply.send(answer.clone());
        }
    }

    fn commit(&mut self, group: Group) -> Result<(), StoreError> {
        self.health.check()?;
        if group.changes.is_empty() && !group.must_sync {
            // Nothing to write, and everything submitted before is already durable.
            return Ok(());
        }
        self.sink.room(group.bytes as u64)?;
        let sink = &mut self.sink;
        match catch_unwind(AssertUnwindSafe(move || sink.commit(group.changes))) {
            Ok(Ok(())) => {
                self.counts.groups.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(CommitError::Broken(why))) => Err(self.health.fail(&why)),
            Ok(Err(CommitError::Refused(error))) => Err(error),
            Err(_) => Err(self.health.fail("the commit panicked")),
        }
    }
}

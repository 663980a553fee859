//! The store in memory: for tests, simulation and the demo.
//!
//! The rule it keeps: the same promises as the store on disk, with crashes on request.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::layout::{flat, start};
use super::{Batch, Expected, Pair, Store, StoreError, StoreStats, Table, Ticket};

#[derive(Debug, Default)]
struct State {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    waiting: VecDeque<(Batch, oneshot::Sender<Result<(), StoreError>>)>,
    held: bool,
    failure: Option<StoreError>,
    broken: Option<StoreError>,
    stats: StoreStats,
    lease: Option<Duration>,
}

/// A store that forgets everything when it is dropped.
///
/// Batches are durable at once, unless [`MemoryStore::hold`] was called: then they wait, unseen, for
/// [`MemoryStore::release`], and [`MemoryStore::crash`] loses them.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on batches wait.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Makes up to `count` waiting batches durable, the oldest first, and returns how many waited. Later batches
    /// still wait.
    pub fn sync(&self, count: usize) -> usize {
        let mut state = self.state();
        let waiting = state.waiting.len();
        for _ in 0..count.min(waiting) {
            if let Some((batch, reply)) = state.waiting.pop_front() {
                let _ = reply.send(state.commit(batch));
            }
        }
        waiting
    }

    /// Settles all waiting batches, the oldest first, with `decide`: its error becomes the batch's, and nothing of
    /// that batch is written. Returns how many waited.
    pub fn settle(&self, mut decide: impl FnMut(&Batch) -> Result<(), StoreError>) -> usize {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        let count = waiting.len();
        for (batch, reply) in waiting {
            let answer = decide(&batch).and_then(|()| state.commit(batch));
            let _ = reply.send(answer);
        }
        count
    }

    /// Makes all waiting batches durable, and later ones at once again.
    pub fn release(&self) {
        self.sync(usize::MAX);
        self.state().held = false;
    }

    /// From now on batches and checks fail with this error and change nothing, until a call with `None`. A fatal
    /// error stays, as on disk.
    pub fn fail_with(&self, failure: Option<StoreError>) {
        let mut state = self.state();
        if let Some(error) = failure.as_ref().filter(|error| error.is_fatal()) {
            state.broken.get_or_insert_with(|| error.clone());
            for (_, reply) in std::mem::take(&mut state.waiting) {
                let _ = reply.send(Err(error.clone()));
            }
        }
        state.failure = failure;
    }

    /// From now on the store is vouched for so long only; `None`: for ever.
    pub fn lease(&self, left: Option<Duration>) {
        self.state().lease = left;
    }

    /// The store that a new process finds after this one was killed: the durable batches. Tickets of waiting batches
    /// resolve to [`StoreError::Closed`], and this store accepts nothing more.
    pub fn crash(&self) -> MemoryStore {
        let mut state = self.state();
        state.waiting.clear();
        state.broken = Some(StoreError::Closed);
        MemoryStore(Mutex::new(State { durable: state.durable.clone(), ..State::default() }))
    }

    /// A copy of the disk, made now.
    pub fn backup(&self) -> MemoryStore {
        MemoryStore(Mutex::new(State { durable: self.state().durable.clone(), ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_in(&self, batch: Batch) -> Ticket {
        let (reply, ticket) = Ticket::new();
        let mut state = self.state();
        if let Some(error) = state.broken.clone().or_else(|| state.failure.clone()) {
            let _ = reply.send(Err(error));
        } else if state.held {
            state.waiting.push_back((batch, reply));
        } else {
            let _ = reply.send(state.commit(batch));
        }
        ticket
    }
}

impl State {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let holds =
            |expected: &Expected| self.durable.get(&flat(expected.table, &expected.key)) == expected.value.as_ref();
        if !batch.expected.iter().all(holds) {
            return Err(StoreError::Outrun);
        }
        self.stats.batches += 1;
        self.stats.syncs += 1;
        self.stats.writes += batch.writes.len() as u64;
        for write in batch.writes {
            let key = flat(write.table, &write.key);
            match write.value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
        Ok(())
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.broken.clone().map_or(Ok(()), Err)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        state.alive()?;
        Ok(state.durable.get(&flat(table, key)).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let state = self.state();
        state.alive()?;
        let whole = flat(table, prefix);
        let range = state.durable.range::<Vec<u8>, _>((start(table, prefix, after), Bound::Unbounded));
        Ok(range
            .take_while(|(key, _)| key.starts_with(&whole))
            .take(limit)
            .map(|(key, value)| (key[1..].to_vec(), value.clone()))
            .collect())
    }

    fn submit(&self, batch: Batch) -> Ticket {
        self.hand_in(batch)
    }

    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket {
        let mut state = self.state();
        if let Some(error) = state.broken.clone().or_else(|| state.failure.clone()) {
            return Ticket::settled(Err(error));
        }
        let key = flat(Table::Start, key);
        match value {
            Some(value) => state.durable.insert(key, value.to_vec()),
            None => state.durable.remove(&key),
        };
        Ticket::settled(Ok(()))
    }

    fn notes(&self) -> Result<Vec<Pair>, StoreError> {
        self.scan(Table::Start, b"", None, usize::MAX)
    }

    fn vouched_for(&self) -> Option<Duration> {
        self.state().lease
    }

    fn check(&self) -> Ticket {
        self.hand_in(Batch::new())
    }

    fn stats(&self) -> StoreStats {
        let state = self.state();
        let bytes = state.durable.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        StoreStats { bytes_on_disk: bytes as u64, ..state.stats }
    }
}

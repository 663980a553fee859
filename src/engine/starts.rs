//! The poison guard: which message was being worked on when the process died.
//!
//! The rule it keeps: a start is durable before the body is parsed; after an unclean stop those with
//! an open start run one at a time, and only a death while one runs alone counts against it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::job::At;
use crate::store::{Batch, Store, StoreError, Table, Ticket};

/// Deaths of a message alone before it is set aside.
const MOST_DEATHS: u8 = 3;
const RUNNING: &[u8] = b"running";
/// A suspect whose delivery went to another worker is forgotten after this.
const FORGET_AFTER_MS: i64 = 24 * 3_600_000;

/// What is known of a message whose start was open at an unclean stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspect {
    deaths: u8,
}

/// Permission to work on a message.
#[derive(Debug)]
pub enum Turn {
    /// Side by side with others.
    Shared(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockWriteGuard<()>),
    /// It stopped the worker three times while it ran alone.
    Condemned,
}

/// The open starts of this process and the suspects of the last one.
#[derive(Debug, Default)]
pub struct Starts {
    suspects: Mutex<HashMap<Vec<u8>, Suspect>>,
    alone: std::sync::Arc<RwLock<()>>,
}

impl Starts {
    /// Reads what the last process left, and notes that this one runs.
    pub async fn begin(&self, store: &dyn Store, now: At) -> Result<usize, StoreError> {
        let unclean = store.get(Table::Meta, RUNNING)?.is_some();
        let mut batch = Batch::new();
        let mut found = HashMap::new();
        for (digest, value) in store.scan(Table::Start, b"", None, usize::MAX)? {
            let (at, deaths, alone) = decode(&value);
            if !unclean || now.0 - at > FORGET_AFTER_MS {
                batch.remove(Table::Start, digest);
                continue;
            }
            let deaths = deaths.saturating_add(u8::from(alone));
            batch.put(Table::Start, digest.clone(), encode(at, deaths, false));
            found.insert(digest, Suspect { deaths });
        }
        batch.put(Table::Meta, RUNNING, now.0.to_be_bytes());
        let count = found.len();
        *self.suspects.lock().unwrap_or_else(PoisonError::into_inner) = found;
        store.submit(batch).await?;
        Ok(count)
    }

    /// Notes a clean stop.
    pub async fn end(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.remove(Table::Meta, RUNNING);
        store.submit(batch).await
    }

    /// Waits for the message's turn and makes its start durable.
    pub async fn open(&self, store: &dyn Store, digest: &[u8], now: At) -> Result<Turn, StoreError> {
        let suspect = self.suspects.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied();
        let (turn, deaths, alone) = match suspect {
            Some(suspect) if suspect.deaths >= MOST_DEATHS => return Ok(Turn::Condemned),
            Some(suspect) => {
                (Turn::Alone(std::sync::Arc::clone(&self.alone).write_owned().await), suspect.deaths, true)
            }
            None => (Turn::Shared(std::sync::Arc::clone(&self.alone).read_owned().await), 0, false),
        };
        let mut batch = Batch::new();
        batch.put(Table::Start, digest, encode(now.0, deaths, alone));
        store.submit(batch).await?;
        Ok(turn)
    }

    /// A suspect has run alone for long enough: what happens from here on is not counted against it.
    pub fn survived(&self, store: &dyn Store, digest: &[u8], turn: Turn, now: At) -> Turn {
        let Turn::Alone(guard) = turn else { return turn };
        let mut batch = Batch::new();
        batch.put(Table::Start, digest, encode(now.0, 0, false));
        drop(store.submit(batch));
        Turn::Shared(guard.downgrade())
    }

    /// The message is settled, or goes back: it did not stop the worker.
    pub fn close(&self, store: &dyn Store, digest: &[u8]) -> Ticket {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        let mut batch = Batch::new();
        batch.remove(Table::Start, digest);
        store.submit(batch)
    }
}

fn encode(at: i64, deaths: u8, alone: bool) -> Vec<u8> {
    let mut bytes = at.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[deaths, u8::from(alone)]);
    bytes
}

fn decode(bytes: &[u8]) -> (i64, u8, bool) {
    let at = bytes.get(..8).and_then(|at| at.try_into().ok()).map_or(0, i64::from_be_bytes);
    (at, bytes.get(8).copied().unwrap_or(0), bytes.get(9).is_some_and(|alone| *alone == 1))
}

//! The poison guard: it finds the message that was in hand when the process crashed.
//!
//! The rule it keeps: a start is stored, so that it survives a crash, before the body is parsed. After an unclean stop,
//! messages with an open start run one at a time, and only a crash while a message runs alone counts against it.
//!
//! A crash by a message looks like a kill from outside. But the progress is known: a poison message crashes the worker
//! at once, every time. So a crash before any sign of life counts as much as four crashes after one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::Instant;

use super::rows;
use crate::job::At;
use crate::store::{Batch, Store, StoreError, Table};

/// The weight of crashes at which a message becomes a dead letter.
const MOST_WEIGHT: u8 = 12;
/// A crash alone, before any sign of life: three are too many.
const DEATH_AT_ONCE: u8 = 4;
/// A crash alone, after an answered call or some time: twelve are too many.
const DEATH_LATER: u8 = 1;
/// After this time alone a suspect runs beside other messages again; after real progress, at once.
const ALONE_MAX: Duration = Duration::from_secs(10);
/// After this time alone a suspect did not crash the worker at once.
const ALIVE_AFTER: Duration = Duration::from_millis(250);
const RUNNING: &[u8] = rows::RUNNING.prefix;
/// A suspect whose delivery went to another worker is forgotten after this.
const FORGET_AFTER_MS: i64 = 24 * 3_600_000;

/// A message whose start was open at an unclean stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspect {
    weight: u8,
}

/// A message's progress since its start was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It runs beside others.
    Shared = 0,
    /// It runs alone and has shown no sign of life.
    Alone = 1,
    /// It runs alone; a call was answered, or some time has passed.
    Alive = 2,
}

impl Stage {
    fn weight(self) -> u8 {
        match self {
            Stage::Shared => 0,
            Stage::Alone => DEATH_AT_ONCE,
            Stage::Alive => DEATH_LATER,
        }
    }
}

/// A delivery's arrival.
pub(crate) struct Arrived {
    /// The time.
    pub at: Instant,
    /// Notified after a call was answered.
    pub life: Notify,
    /// Notified after the answer of a step that cannot be repeated blindly.
    pub progress: Notify,
    /// The key of its start's row.
    pub digest: Vec<u8>,
}

impl Arrived {
    pub(crate) fn new(digest: Vec<u8>) -> Arrived {
        let (life, progress) = (Notify::new(), Notify::new());
        Arrived { at: Instant::now(), life, progress, digest }
    }
}

/// Permission to work on a message.
#[derive(Debug)]
pub enum Turn {
    /// Together with others.
    Shared(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockWriteGuard<()>),
    /// It crashed the worker too often while it ran alone.
    Condemned,
}

/// The way in which a message is worked on, from its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Together with others.
    Shared,
    /// Alone.
    Alone,
    /// Not at all: it becomes a dead letter.
    Condemned,
}

impl Trial {
    pub fn of(turn: &Turn) -> Trial {
        match turn {
            Turn::Shared(_) => Trial::Shared,
            Turn::Alone(_) => Trial::Alone,
            Turn::Condemned => Trial::Condemned,
        }
    }
}

/// The open starts of this process and the suspects of the last one.
#[derive(Debug, Default)]
pub struct Starts {
    suspects: Mutex<HashMap<Vec<u8>, Suspect>>,
    alone: std::sync::Arc<RwLock<()>>,
}

impl Starts {
    /// Reads the rows of the last process, and notes that this one runs.
    pub async fn begin(&self, store: &dyn Store, now: At) -> Result<usize, StoreError> {
        let unclean = store.get(Table::Meta, RUNNING)?.is_some();
        let mut batch = Batch::new();
        let mut found = HashMap::new();
        for (digest, value) in store.notes()? {
            let (at, weight, stage) = decode(&value);
            if !unclean || now.0 - at > FORGET_AFTER_MS {
                store.note(&digest, None).await?;
                continue;
            }
            let weight = weight.saturating_add(stage.weight());
            store.note(&digest, Some(&encode(at, weight, Stage::Shared))).await?;
            found.insert(digest, Suspect { weight });
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
        match store.submit(batch).await {
            // Without an open start there is no suspect. Removing a start needs no room.
            Err(StoreError::Full { .. }) => {
                for (digest, _) in store.notes()? {
                    store.note(&digest, None).await?;
                }
                Ok(())
            }
            settled => settled,
        }
    }

    /// Waits until the message may run, and notes its start.
    pub async fn open(&self, store: &dyn Store, digest: &[u8], now: At) -> Result<Turn, StoreError> {
        let (turn, weight, stage) = match self.suspect(digest) {
            Some(suspect) if suspect.weight >= MOST_WEIGHT => return Ok(Turn::Condemned),
            Some(suspect) => {
                (Turn::Alone(std::sync::Arc::clone(&self.alone).write_owned().await), suspect.weight, Stage::Alone)
            }
            None => (Turn::Shared(std::sync::Arc::clone(&self.alone).read_owned().await), 0, Stage::Shared),
        };
        store.note(digest, Some(&encode(now.0, weight, stage))).await?;
        Ok(turn)
    }

    /// Runs the work on a message, and notes a suspect's progress. Returns the permission, which changes for a suspect
    /// that was alone for long enough.
    pub(crate) async fn watch<T>(
        &self,
        store: &dyn Store,
        turn: Turn,
        arrived: &Arrived,
        now: impl Fn() -> At,
        work: impl Future<Output = T>,
    ) -> (T, Turn) {
        if !matches!(turn, Turn::Alone(_)) {
            return (work.await, turn);
        }
        let survived = async {
            tokio::select! {
                biased;
                () = tokio::time::sleep(ALIVE_AFTER) => {}
                () = arrived.life.notified() => {}
            }
            self.lives(store, &arrived.digest, now()).await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(ALONE_MAX) => false,
                () = arrived.progress.notified() => true,
            }
        };
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => (done, turn),
            got_on = survived => {
                // It has not crashed the worker so far: other messages need not wait any longer.
                let turn = self.survived(store, &arrived.digest, turn, got_on, now()).await;
                (work.await, turn)
            }
        }
    }

    /// Notes a sign of life of a suspect that runs alone.
    pub async fn lives(&self, store: &dyn Store, digest: &[u8], now: At) {
        let weight = self.suspect(digest).map_or(0, |suspect| suspect.weight);
        self.note(store, digest, now, weight, Stage::Alive).await;
    }

    /// A suspect was alone for long enough: later crashes do not count against it. If it `got_on` with its work,
    /// earlier ones do not count either.
    pub async fn survived(&self, store: &dyn Store, digest: &[u8], turn: Turn, got_on: bool, now: At) -> Turn {
        let Turn::Alone(guard) = turn else { return turn };
        let weight = if got_on { 0 } else { self.suspect(digest).map_or(0, |suspect| suspect.weight) };
        self.note(store, digest, now, weight, Stage::Shared).await;
        Turn::Shared(guard.downgrade())
    }

    fn suspect(&self, digest: &[u8]) -> Option<Suspect> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    /// If this note is lost, the next crash counts more, which is the safe side.
    async fn note(&self, store: &dyn Store, digest: &[u8], now: At, weight: u8, stage: Stage) {
        if let Err(error) = store.note(digest, Some(&encode(now.0, weight, stage))).await {
            tracing::debug!(%error, "the progress of a suspect message could not be stored");
        }
    }

    /// Removes the start of a message that is settled or requeued: it did not crash the worker.
    pub async fn close(&self, store: &dyn Store, digest: &[u8]) -> Result<(), StoreError> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        store.note(digest, None).await
    }
}

fn encode(at: i64, weight: u8, stage: Stage) -> Vec<u8> {
    let mut bytes = at.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[weight, stage as u8]);
    bytes
}

fn decode(bytes: &[u8]) -> (i64, u8, Stage) {
    let at = bytes.get(..8).and_then(|at| at.try_into().ok()).map_or(0, i64::from_be_bytes);
    let stage = match bytes.get(9) {
        Some(1) => Stage::Alone,
        Some(2) => Stage::Alive,
        _ => Stage::Shared,
    };
    (at, bytes.get(8).copied().unwrap_or(0), stage)
}

#[cfg(test)]
mod tests;

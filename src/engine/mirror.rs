//! Rows that are also kept in memory.
//!
//! The rule it keeps: memory changes together with the batch that changes the disk. A batch must be submitted before
//! the lock is released, so that the disk gets the changes in the order of memory. After a refused batch its rows are
//! reloaded.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::JobKey;
use crate::store::{Batch, Store, StoreError, Table};

/// Rows in one read.
const PAGE: usize = 512;

/// The name of a row, after the prefix of its kind.
pub(crate) trait RowKey: Ord + Clone {
    /// The name.
    fn name(&self) -> Vec<u8>;

    /// The key from its name.
    fn of_name(name: &[u8]) -> Option<Self>;
}

impl RowKey for JobKey {
    fn name(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn of_name(name: &[u8]) -> Option<JobKey> {
        JobKey::from_bytes(name)
    }
}

/// The version of a row's value, its first byte.
const VERSION: u8 = 1;

/// A kind of row that is kept in memory. Default encoding: version 1, postcard.
pub(crate) trait Mirrored: Serialize + DeserializeOwned {
    /// The names of its rows.
    type Key: RowKey;
    /// The beginning of its rows' names.
    const PREFIX: &'static [u8];

    /// The row's value.
    fn encode(&self) -> Vec<u8> {
        versioned(self)
    }

    /// The row from its value; `None`: the row is ignored.
    fn decode(_key: &Self::Key, value: &[u8]) -> Result<Option<Self>, StoreError> {
        of_versioned(value).map(Some)
    }
}

/// A value in postcard, after its version.
pub(crate) fn versioned(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

/// A value from the bytes of [`versioned`].
pub(crate) fn of_versioned<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    let value = bytes.strip_prefix(&[VERSION]).and_then(|rest| postcard::from_bytes(rest).ok());
    value.ok_or_else(|| StoreError::Unreadable("a row that is kept in memory".to_owned()))
}

/// All rows of a kind.
#[derive(Debug)]
pub(crate) struct Mirror<T: Mirrored>(BTreeMap<T::Key, T>);

impl<T: Mirrored> Default for Mirror<T> {
    fn default() -> Self {
        Mirror(BTreeMap::new())
    }
}

impl<T: Mirrored> Deref for Mirror<T> {
    type Target = BTreeMap<T::Key, T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Mirrored> Mirror<T> {
    /// Reads all rows from the store.
    pub(crate) fn read(store: &dyn Store) -> Result<Mirror<T>, StoreError> {
        let mut all = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(Table::Meta, T::PREFIX, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(Mirror(all)) };
            after = Some(last.clone());
            for (row, value) in page {
                let Some(key) = row.strip_prefix(T::PREFIX).and_then(T::Key::of_name) else { continue };
                if let Some(value) = T::decode(&key, &value)? {
                    all.insert(key, value);
                }
            }
        }
    }

    /// The rows of these keys, as the disk has them.
    pub(crate) fn of<'a>(store: &dyn Store, keys: impl Iterator<Item = &'a T::Key>) -> Result<Mirror<T>, StoreError>
    where
        T::Key: 'a,
    {
        let mut some = Mirror::default();
        for key in keys {
            some.read_again(store, key)?;
        }
        Ok(some)
    }

    /// The name of a row.
    pub(crate) fn row(key: &T::Key) -> Vec<u8> {
        [T::PREFIX, &key.name()].concat()
    }

    /// Adds the row or replaces it.
    pub(crate) fn put(&mut self, key: T::Key, value: T, batch: &mut Batch) {
        batch.put(Table::Meta, Self::row(&key), value.encode());
        self.0.insert(key, value);
    }

    /// Removes the row. True if there was one.
    pub(crate) fn remove(&mut self, key: &T::Key, batch: &mut Batch) -> bool {
        let is_there = self.0.remove(key).is_some();
        if is_there {
            batch.remove(Table::Meta, Self::row(key));
        }
        is_there
    }

    /// Removes rows from memory alone.
    pub(crate) fn keep(&mut self, mut is_kept: impl FnMut(&mut T) -> bool) {
        self.0.retain(|_, value| is_kept(value));
    }

    /// Changes the row in memory alone: the disk has the change already, or gets it later.
    pub(crate) fn get_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        self.0.get_mut(key)
    }

    /// Reloads a row from the disk, after a refused write.
    pub(crate) fn read_again(&mut self, store: &dyn Store, key: &T::Key) -> Result<(), StoreError> {
        let stored = store.get(Table::Meta, &Self::row(key))?;
        match stored.map(|value| T::decode(key, &value)).transpose()?.flatten() {
            Some(value) => self.0.insert(key.clone(), value),
            None => self.0.remove(key),
        };
        Ok(())
    }
}

/// Mirrors behind a lock; the first use reads them.
#[derive(Debug)]
pub(crate) struct Locked<S>(OnceLock<Mutex<S>>);

impl<S> Default for Locked<S> {
    fn default() -> Self {
        Locked(OnceLock::new())
    }
}

impl<S> Locked<S> {
    /// Waits for the lock. If two tasks read at once, the first result counts: nothing is written before it is set.
    pub(crate) fn lock(&self, read: impl FnOnce() -> Result<S, StoreError>) -> Result<MutexGuard<'_, S>, StoreError> {
        let mutex = match self.0.get() {
            Some(mutex) => mutex,
            None => {
                let read = read()?;
                self.0.get_or_init(|| Mutex::new(read))
            }
        };
        Ok(mutex.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! A value of the store: whole in the tree, in pieces, or in the archive.
//!
//! The rule it keeps: the tree's value of a key counts before the archive's.

use super::StoreError;
use super::archive::{Archive, ArchiveError};
use super::layout::{self, is_archived};

/// The reason why a read failed: sled, the archive, or the form of the bytes.
pub(super) enum Failure {
    Sled(sled::Error),
    Archive(ArchiveError),
    Store(StoreError),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Failure::Archive(error)
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        Failure::Sled(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Store(error)
    }
}

/// The tree's value of a key, from its stored bytes; `None` if it was removed.
pub(super) fn whole_value(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let get = |piece: &[u8]| {
        db.get(piece).map_err(|error| StoreError::Unreadable(format!("a piece of a value cannot be read: {error}")))
    };
    layout::restore(key, stored, get)
}

/// The value of a key, from tree or archive.
pub(super) fn value_of(db: &sled::Db, archive: &Archive, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    match db.get(key)? {
        Some(stored) => Ok(whole_value(db, key, &stored)?),
        None if is_archived(key) => Ok(archive.get(key)?),
        None => Ok(None),
    }
}

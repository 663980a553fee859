//! The identifiers by which waiting and failed jobs can be found.
//!
//! The rule it keeps: an identifier is stored only as a keyed digest, and only as long as the job can be worked on. A
//! job that ended well names nobody.
//!
//! Written when a job is parked or fails, so that a job without waits costs nothing.

use super::{Engine, rows};
use crate::job::{Job, JobKey, JobRecord};
use crate::store::{Batch, StoreError, Table};

const NAMED: &[u8] = rows::NAMED.prefix;
const VERSION: u8 = 1;

fn row(key: &JobKey) -> Vec<u8> {
    [NAMED, &key.to_bytes()].concat()
}

/// Removes the row: the job can no longer be worked on.
pub(crate) fn forget(key: &JobKey, batch: &mut Batch) {
    batch.remove(Table::Meta, row(key));
}

/// True if there may be a row: the job was parked, or failed before.
pub(crate) fn may_be_there(record: &JobRecord) -> bool {
    record.park_written > 0 || record.run > 1
}

impl Engine {
    /// Puts the names into the batch that parks or fails a job: about 90 bytes, once.
    pub(crate) fn put_names(&self, job: &Job, batch: &mut Batch) -> Result<(), StoreError> {
        let mut names: Vec<_> =
            job.identifiers().map(|identifier| self.keyring.identifier_name(&job.key.tenant, identifier)).collect();
        names.sort_unstable();
        names.dedup();
        let (row, value) = (row(&job.key), [&[VERSION][..], names.as_flattened()].concat());
        if !names.is_empty() && self.store.get(Table::Meta, &row)?.as_ref() != Some(&value) {
            batch.put(Table::Meta, row, value);
        }
        Ok(())
    }

    /// True if the job names a person by one of these.
    pub(crate) fn is_named_by(&self, key: &JobKey, names: &[[u8; 16]]) -> Result<bool, StoreError> {
        if names.is_empty() {
            return Ok(false);
        }
        let stored = self.store.get(Table::Meta, &row(key))?;
        let kept = stored.as_deref().and_then(|bytes| bytes.strip_prefix(&[VERSION])).unwrap_or_default();
        Ok(kept.chunks_exact(16).any(|name| names.iter().any(|wanted| wanted == name)))
    }
}

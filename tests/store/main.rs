//! The store's promises: one suite for every implementation, kills, power cuts, failing disks, damage, owners.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod archive;
mod conformance;
mod copy;
mod crash;
mod faults;
mod opening;
mod postgres;
mod power;
mod presence;

use std::path::Path;

use erasure_worker::store::{Batch, Options, SledStore, Store, Table};

/// Opens the store of an undamaged state directory.
fn open(state_dir: &Path) -> SledStore {
    let opened = SledStore::open(state_dir, Options::default()).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.store
}

/// A batch of one value.
fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Job, key, value);
    batch
}

/// The value under a key of the job table.
fn job(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.get(Table::Job, key).unwrap()
}

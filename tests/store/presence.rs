//! The loss of the state directory while the store is open.
//!
//! The rule it keeps: a write into a lost folder is never reported as durable.

use std::fs;
use std::path::Path;

use erasure_worker::store::DurableStore as _;
use erasure_worker::store::{CREATED_KEY, Opened, Options, SledStore, Store, StoreError, Table};

use crate::{open, put};

/// A loss of the folder.
type Loss = fn(&Path);

/// Every kind of loss.
const WAYS: [(&str, Loss); 9] = [
    ("the directory removed", |dir| fs::remove_dir_all(dir).unwrap()),
    ("the store's folder removed", |dir| fs::remove_dir_all(dir.join("store")).unwrap()),
    ("the log removed", |dir| fs::remove_file(dir.join("store/db")).unwrap()),
    ("the lock removed", |dir| fs::remove_file(dir.join("lock")).unwrap()),
    ("the directory moved", |dir| fs::rename(dir, dir.with_extension("old")).unwrap()),
    ("the directory removed and made anew", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir_all(dir.join("store")).unwrap();
    }),
    ("another directory in its place", |dir| {
        let other = dir.with_extension("other");
        drop(open(&other));
        fs::rename(dir, dir.with_extension("old")).unwrap();
        fs::rename(other, dir).unwrap();
    }),
    ("the log replaced by a copy", |dir| {
        let log = dir.join("store/db");
        fs::copy(&log, dir.join("copy")).unwrap();
        fs::rename(dir.join("copy"), log).unwrap();
    }),
    ("a file in its place", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, b"").unwrap();
    }),
];

#[tokio::test]
async fn every_loss_of_the_folder_ends_the_store_at_the_next_write_or_check() {
    for (way, lose) in WAYS {
        for is_checked in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("state");
            let store = open(&dir);
            store.submit(put(b"k", b"before")).await.unwrap();
            store.check_presence();
            assert_eq!(*store.broken().borrow(), None, "{way}");
            lose(&dir);
            if is_checked {
                store.check_presence();
            } else {
                let written = store.submit(put(b"k", b"after")).await;
                assert!(matches!(written, Err(StoreError::Broken(_))), "{way}: {written:?}");
            }
            let why = store.broken().borrow().clone().unwrap_or_default();
            assert!(why.contains("is not the one that was opened"), "{way}: {why}");
            assert!(matches!(store.get(Table::Job, b"k"), Err(StoreError::Broken(_))), "{way}");
        }
    }
    println!("{} ways to lose the folder", WAYS.len());
}

#[test]
fn a_store_reports_whether_it_is_new_and_its_time_of_creation() {
    let dir = tempfile::tempdir().unwrap();
    let opened = || SledStore::open(dir.path(), Options::default()).unwrap();
    let Opened { store, is_new, .. } = opened();
    let created = store.get(Table::Meta, CREATED_KEY).unwrap();
    assert!(is_new && created.as_ref().is_some_and(|bytes| bytes.len() == 8));
    drop(store);
    let Opened { store, is_new, .. } = opened();
    assert_eq!((is_new, store.get(Table::Meta, CREATED_KEY).unwrap()), (false, created));
}

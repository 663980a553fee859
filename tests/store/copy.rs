//! A store on disk that moves into PostgreSQL: all of it, or nothing.

use std::sync::Mutex;

use erasure_worker::store::postgres::copy;
use erasure_worker::store::{Batch, MemoryStore, Store, StoreError, Table};
use testkit::postgres::Postgres;

use crate::postgres::{at, open, options};
use crate::{job, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_takes_every_row_and_note_along_or_nothing() {
    let memory = MemoryStore::new();
    for (number, table) in (0_u8..).zip(Table::ALL.into_iter().filter(|table| *table != Table::Start)) {
        for n in 0..1_234_u32 {
            let mut batch = Batch::new();
            batch.put(table, n.to_be_bytes(), vec![number; n as usize % 50]);
            memory.submit(batch).await.unwrap();
        }
    }
    memory.note(b"start", Some(b"1")).await.unwrap();
    let address = at(Postgres::durable().port());
    let options = options("a_copy");
    let copied = tokio::task::block_in_place(|| copy(&memory, &address, &options)).unwrap();
    // The memory store has its notes among its rows.
    assert_eq!((copied.jobs, copied.ended, copied.rows), (1_234, 1_234, 8 * 1_234 + 2));
    let store = open("a_copy");
    for table in Table::ALL {
        let (here, there) =
            (memory.scan(table, b"", None, 9_999).unwrap(), store.scan(table, b"", None, 9_999).unwrap());
        let there: Vec<_> = there.into_iter().filter(|(key, _)| key != b"version" && key != b"created").collect();
        assert!(here == there, "{table:?}");
    }
    assert_eq!(store.notes().unwrap(), [(b"start".to_vec(), b"1".to_vec())]);
    drop(store);
    let again = tokio::task::block_in_place(|| copy(&memory, &address, &options));
    assert!(matches!(&again, Err(StoreError::Unfit { why, .. }) if why.contains("empty")), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_ends_in_the_middle_leaves_an_empty_store() {
    /// A store whose last table cannot be read.
    struct Torn(MemoryStore, Mutex<u32>);
    impl Store for Torn {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(table, key)
        }
        fn scan(
            &self,
            table: Table,
            prefix: &[u8],
            after: Option<&[u8]>,
            limit: usize,
        ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
            *self.1.lock().unwrap() += 1;
            if table == Table::Receipt {
                return Err(StoreError::Unreadable("a test".to_owned()));
            }
            self.0.scan(table, prefix, after, limit)
        }
        fn submit(&self, batch: Batch) -> erasure_worker::store::Ticket {
            self.0.submit(batch)
        }
        fn note(&self, key: &[u8], value: Option<&[u8]>) -> erasure_worker::store::Ticket {
            self.0.note(key, value)
        }
        fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
            self.0.notes()
        }
        fn check(&self) -> erasure_worker::store::Ticket {
            self.0.check()
        }
        fn stats(&self) -> erasure_worker::store::StoreStats {
            self.0.stats()
        }
    }
    let torn = Torn(MemoryStore::new(), Mutex::new(0));
    torn.submit(put(b"k", b"v")).await.unwrap();
    let address = at(Postgres::durable().port());
    let copied = tokio::task::block_in_place(|| copy(&torn, &address, &options("torn_copy")));
    assert!(matches!(copied, Err(StoreError::Unreadable(_))), "{copied:?}");
    assert!(*torn.1.lock().unwrap() > 2);
    let store = open("torn_copy");
    assert_eq!(job(&store, b"k"), None);
}

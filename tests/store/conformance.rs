//! The suite that every implementation of the store must pass: in memory, on disk, in PostgreSQL.

use std::sync::Arc;

use erasure_worker::store::{Batch, MemoryStore, Store, StoreError, Table};

use crate::{job, open, put};

/// Makes three tests of each promise: with the memory store, with the store on disk, and with the store in PostgreSQL.
macro_rules! suite {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise(Arc::new(MemoryStore::new())).await;
            })*
        }
        mod disk {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let dir = tempfile::tempdir().unwrap();
                super::$promise(Arc::new(open(dir.path()))).await;
            })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise(Arc::new(crate::postgres::open(stringify!($promise)))).await;
            })*
        }
    };
}

suite!(
    after_its_ticket_resolves_a_value_is_read,
    the_last_write_to_a_key_counts_within_a_batch_and_between_batches,
    a_removed_key_is_gone_and_removing_a_missing_key_is_no_error,
    the_same_key_in_two_tables_is_two_records,
    a_scan_obeys_its_table_prefix_start_and_limit,
    a_scan_can_be_continued_page_by_page,
    keys_are_ordered_by_their_bytes,
    values_of_any_length_read_back_unchanged,
    an_empty_batch_resolves_after_all_earlier_batches,
    a_scan_sees_a_batch_whole_or_not_at_all,
    many_writers_all_read_their_own_writes,
    batches_take_effect_in_the_order_of_submission,
    a_check_succeeds_and_the_counts_grow,
    a_note_is_kept_until_it_is_removed,
    a_batch_with_an_unmet_expectation_writes_nothing,
    in_one_group_expectations_see_the_writes_of_earlier_batches,
);

async fn after_its_ticket_resolves_a_value_is_read<S: Store>(store: Arc<S>) {
    assert_eq!(job(&*store, b"k"), None);
    store.submit(put(b"k", b"v")).await.unwrap();
    assert_eq!(job(&*store, b"k"), Some(b"v".to_vec()));
}

async fn the_last_write_to_a_key_counts_within_a_batch_and_between_batches<S: Store>(store: Arc<S>) {
    let mut batch = put(b"k", b"1");
    batch.put(Table::Job, b"k", b"2");
    batch.put(Table::Job, b"gone", b"1");
    batch.remove(Table::Job, b"gone");
    batch.remove(Table::Job, b"back");
    batch.put(Table::Job, b"back", b"1");
    let earlier = store.submit(batch);
    let later = store.submit(put(b"back", b"2"));
    later.await.unwrap();
    earlier.await.unwrap();
    assert_eq!(job(&*store, b"k"), Some(b"2".to_vec()));
    assert_eq!(job(&*store, b"gone"), None);
    assert_eq!(job(&*store, b"back"), Some(b"2".to_vec()));
}

async fn a_removed_key_is_gone_and_removing_a_missing_key_is_no_error<S: Store>(store: Arc<S>) {
    store.submit(put(b"k", b"v")).await.unwrap();
    let mut batch = Batch::new();
    batch.remove(Table::Job, b"k");
    batch.remove(Table::Job, b"never there");
    store.submit(batch).await.unwrap();
    assert_eq!(job(&*store, b"k"), None);
    assert_eq!(store.scan(Table::Job, b"", None, 10).unwrap(), vec![]);
}

async fn the_same_key_in_two_tables_is_two_records<S: Store>(store: Arc<S>) {
    let mut batch = put(b"k", b"job");
    batch.put(Table::Journal, b"k", b"journal");
    batch.put(Table::Expiry, b"k", b"expiry");
    batch.remove(Table::Expiry, b"k");
    store.submit(batch).await.unwrap();
    assert_eq!(job(&*store, b"k"), Some(b"job".to_vec()));
    assert_eq!(store.get(Table::Journal, b"k").unwrap(), Some(b"journal".to_vec()));
    assert_eq!(store.get(Table::Expiry, b"k").unwrap(), None);
    assert_eq!(store.get(Table::Ended, b"k").unwrap(), None);
}

fn keys(store: &dyn Store, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<String> {
    let pairs = store.scan(Table::Journal, prefix, after, limit).unwrap();
    pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

async fn a_scan_obeys_its_table_prefix_start_and_limit<S: Store>(store: Arc<S>) {
    let mut batch = put(b"a/9", b"other table, before");
    for key in ["b", "a/2", "a", "a/1", "a/3", "a0"] {
        batch.put(Table::Journal, key, key);
    }
    batch.put(Table::Start, b"a/0", b"other table, after");
    store.submit(batch).await.unwrap();
    assert_eq!(keys(&*store, b"", None, 99), ["a", "a/1", "a/2", "a/3", "a0", "b"]);
    assert_eq!(keys(&*store, b"a/", None, 99), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys(&*store, b"a/", Some(b"a/1"), 99), ["a/2", "a/3"]);
    assert_eq!(keys(&*store, b"a/", Some(b"a/10"), 1), ["a/2"]);
    assert_eq!(keys(&*store, b"a/", Some(b"A"), 99), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys(&*store, b"a/", Some(b"b"), 99), [""; 0]);
    assert_eq!(keys(&*store, b"a", None, 2), ["a", "a/1"]);
    assert_eq!(keys(&*store, b"a", None, 0), [""; 0]);
    assert_eq!(keys(&*store, b"c", None, 99), [""; 0]);
    let pair = store.scan(Table::Journal, b"b", None, 9).unwrap().remove(0);
    assert_eq!(pair, (b"b".to_vec(), b"b".to_vec()));
}

async fn a_scan_can_be_continued_page_by_page<S: Store>(store: Arc<S>) {
    let mut batch = Batch::new();
    for n in 0..250_u32 {
        batch.put(Table::Journal, format!("p/{n:05}"), b"");
        batch.put(Table::Journal, format!("q/{n:05}"), b"");
    }
    store.submit(batch).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = keys(&*store, b"p/", after.as_deref(), 7);
        let Some(last) = page.last() else { break };
        after = Some(last.clone().into_bytes());
        seen.extend(page);
    }
    let expected: Vec<_> = (0..250).map(|n| format!("p/{n:05}")).collect();
    assert_eq!(seen, expected);
}

async fn keys_are_ordered_by_their_bytes<S: Store>(store: Arc<S>) {
    let mut batch = Batch::new();
    for byte in (0..=255_u8).rev() {
        batch.put(Table::Expiry, [byte], [byte]);
        batch.put(Table::Expiry, [byte, 0], [byte]);
    }
    batch.put(Table::Expiry, [], []);
    store.submit(batch).await.unwrap();
    let pairs = store.scan(Table::Expiry, b"", None, 1000).unwrap();
    assert_eq!(pairs.len(), 513);
    assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0));
    let last = store.scan(Table::Expiry, &[255], None, 1000).unwrap();
    assert_eq!(last, vec![(vec![255], vec![255]), (vec![255, 0], vec![255])]);
}

async fn values_of_any_length_read_back_unchanged<S: Store>(store: Arc<S>) {
    let lengths = [0_usize, 1, 8191, 8192, 8193, 100_000, 3_000_000, 20, 65_536];
    for (round, length) in lengths.into_iter().enumerate() {
        let value: Vec<u8> = (0..length).map(|n| (n * 7 + round) as u8).collect();
        let mut batch = put(b"changing", &value);
        batch.put(Table::Job, format!("kept/{length:07}"), value.clone());
        store.submit(batch).await.unwrap();
        assert_eq!(job(&*store, b"changing"), Some(value));
    }
    let kept = store.scan(Table::Job, b"kept/", None, 99).unwrap();
    let mut sorted = lengths;
    sorted.sort_unstable();
    assert_eq!(kept.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), sorted);
    assert_eq!(store.scan(Table::Job, b"", None, 99).unwrap().len(), lengths.len() + 1);
}

async fn an_empty_batch_resolves_after_all_earlier_batches<S: Store>(store: Arc<S>) {
    store.submit(Batch::new()).await.unwrap();
    drop(store.submit(put(b"k", b"v")));
    store.submit(Batch::new()).await.unwrap();
    assert_eq!(job(&*store, b"k"), Some(b"v".to_vec()));
}

async fn a_scan_sees_a_batch_whole_or_not_at_all<S: Store>(store: Arc<S>) {
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 0..200_u32 {
                let mut batch = Batch::new();
                for key in 0..40_u8 {
                    batch.put(Table::Job, [key], round.to_be_bytes());
                }
                store.submit(batch).await.unwrap();
            }
        }
    });
    let mut scans = 0;
    while !writer.is_finished() || scans == 0 {
        let pairs = store.scan(Table::Job, b"", None, 99).unwrap();
        assert!(pairs.is_empty() || pairs.len() == 40);
        assert!(pairs.windows(2).all(|two| two[0].1 == two[1].1), "a scan saw two rounds at once");
        scans += 1;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(job(&*store, &[0]), Some(199_u32.to_be_bytes().to_vec()));
}

async fn many_writers_all_read_their_own_writes<S: Store>(store: Arc<S>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64_u32 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..50_u32 {
                let key = format!("{writer:02}/{n:03}");
                store.submit(put(key.as_bytes(), &n.to_be_bytes())).await.unwrap();
                assert_eq!(job(&*store, key.as_bytes()), Some(n.to_be_bytes().to_vec()));
                if n % 2 == 1 {
                    let mut batch = Batch::new();
                    batch.remove(Table::Job, key);
                    store.submit(batch).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let left = store.scan(Table::Job, b"", None, 10_000).unwrap();
    assert_eq!(left.len(), 64 * 25);
    assert_eq!(store.stats().writes, 64 * 75);
}

async fn batches_take_effect_in_the_order_of_submission<S: Store>(store: Arc<S>) {
    let mut last = store.submit(Batch::new());
    for n in 0..5000_u32 {
        let mut batch = put(b"latest", &n.to_be_bytes());
        batch.put(Table::Journal, n.to_be_bytes(), b"");
        if n >= 10 {
            batch.remove(Table::Journal, (n - 10).to_be_bytes());
        }
        last = store.submit(batch);
    }
    last.await.unwrap();
    assert_eq!(job(&*store, b"latest"), Some(4999_u32.to_be_bytes().to_vec()));
    let kept = store.scan(Table::Journal, b"", None, 99).unwrap();
    let expected: Vec<_> = (4990..5000_u32).map(|n| (n.to_be_bytes().to_vec(), vec![])).collect();
    assert_eq!(kept, expected);
}

async fn a_check_succeeds_and_the_counts_grow<S: Store>(store: Arc<S>) {
    let before = store.stats();
    store.check().await.unwrap();
    let mut batch = put(b"a", b"1");
    batch.put(Table::Job, b"b", b"2");
    store.submit(batch).await.unwrap();
    let after = store.stats();
    assert_eq!(after.syncs - before.syncs, 2);
    assert_eq!(after.writes - before.writes, 2);
    assert!(after.bytes_on_disk > 0);
    assert_eq!(store.scan(Table::Meta, b"check", None, 9).unwrap(), vec![]);
}

async fn a_note_is_kept_until_it_is_removed<S: Store>(store: Arc<S>) {
    let notes = || {
        let mut notes = store.notes().unwrap();
        notes.sort();
        notes
    };
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    store.note(b"one", Some(b"1")).await.unwrap();
    store.note(b"two", Some(b"2")).await.unwrap();
    store.note(b"one", Some(b"anew")).await.unwrap();
    assert_eq!(notes(), [pair(b"one", b"anew"), pair(b"two", b"2")]);
    for key in [b"one", b"one", b"six"] {
        store.note(key, None).await.unwrap();
    }
    assert_eq!(notes(), [pair(b"two", b"2")]);
    assert_eq!(store.stats().batches, 0, "a note counted as a batch");
}

async fn a_batch_with_an_unmet_expectation_writes_nothing<S: Store>(store: Arc<S>) {
    let expecting = |value: Option<&[u8]>, put: &[u8]| {
        let mut batch = crate::put(b"head", put);
        batch.put(Table::Job, b"row", put);
        batch.expect(Table::Job, b"head", value.map(<[u8]>::to_vec));
        batch
    };
    store.submit(expecting(None, b"1")).await.unwrap();
    assert!(matches!(store.submit(expecting(None, b"other")).await, Err(StoreError::Outrun)));
    assert!(matches!(store.submit(expecting(Some(b"2"), b"3")).await, Err(StoreError::Outrun)));
    assert_eq!((job(&*store, b"head"), job(&*store, b"row")), (Some(b"1".to_vec()), Some(b"1".to_vec())));
    store.submit(expecting(Some(b"1"), b"2")).await.unwrap();
    assert_eq!(job(&*store, b"row"), Some(b"2".to_vec()));
}

async fn in_one_group_expectations_see_the_writes_of_earlier_batches<S: Store>(store: Arc<S>) {
    // Submitted without waiting, so that many batches share a group. Every third has a wrong expectation.
    let mut tickets = Vec::new();
    let mut head: Option<Vec<u8>> = None;
    for n in 0_u32..300 {
        let wrong = n % 3 == 2;
        let mut batch = Batch::new();
        batch.expect(Table::Job, b"head", if wrong { Some(b"never".to_vec()) } else { head.clone() });
        batch.put(Table::Job, b"head", n.to_be_bytes());
        tickets.push((wrong, store.submit(batch)));
        if !wrong {
            head = Some(n.to_be_bytes().to_vec());
        }
    }
    for (wrong, ticket) in tickets {
        assert_eq!(matches!(ticket.await, Err(StoreError::Outrun)), wrong);
    }
    assert_eq!(job(&*store, b"head"), head);
}

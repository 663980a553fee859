//! A job's journal on a store that takes some writes and refuses others, as a disk does that is
//! just about full.

use erasure_worker::engine::journal::{Journal, entries_of};
use erasure_worker::job::{Answer, At, Entry, JobKey, JobRecord, Step, StepName};
use erasure_worker::seal::{self, Keyring, MasterKey};
use erasure_worker::store::{Batch, MemoryStore, StoreError};

fn key() -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(7) }
}

fn sealer() -> seal::JobKey {
    let master = MasterKey::parse(&"5f1e0c7d9a3b4826".repeat(4)).unwrap();
    Keyring::new(master, Vec::new()).unwrap().job_key("acme", "job", b"identity")
}

fn record() -> JobRecord {
    JobRecord {
        identity: Vec::new(),
        run: 1,
        seq: 0,
        body: Vec::new(),
        copy: 0,
        park_written: 0,
        park_confirmed: 0,
        opened_at: At(1),
        requested_at: At(1),
        due_at: None,
        regulation: None,
        systems: vec!["easycms".to_owned()],
        subject_ref: String::new(),
        waiting: None,
        announced: Vec::new(),
        owed: None,
    }
}

fn revoke(item: u32) -> Step {
    Step::item(StepName::RevokeCode, item)
}

fn intent(item: u32) -> Entry {
    Entry::Intent { target: 0, step: revoke(item), at: At(2) }
}

fn answered(item: u32) -> Entry {
    Entry::Answered { target: 0, step: revoke(item), answer: Some(Answer::Done), at: At(3) }
}

/// A journal with one intent on the disk, an answer that found no room, and a later intent that did.
fn with_a_gap(store: &MemoryStore) -> Journal {
    let journal = Journal::new(key(), sealer(), record(), 1);
    journal.write(store, Vec::new(), Batch::new()).unwrap();
    journal.append(store, vec![intent(0)]).unwrap();
    store.fail_with(Some(StoreError::Full { path: String::new(), free: 0, needed: 1 }));
    journal.append(store, vec![answered(0)]).unwrap();
    store.fail_with(None);
    journal.append(store, vec![intent(1)]).unwrap();
    journal
}

#[tokio::test]
async fn a_write_that_found_no_room_is_told_although_a_later_one_succeeds() {
    let store = MemoryStore::new();
    let journal = with_a_gap(&store);
    assert!(matches!(journal.durable().await, Err(StoreError::Full { .. })));
}

#[tokio::test]
async fn what_came_after_a_gap_is_never_written_over() {
    let store = MemoryStore::new();
    drop(with_a_gap(&store));
    let journal = Journal::load(&store, key(), sealer(), record(), 1).unwrap();
    journal.append(&store, vec![Entry::Settled { target: 0, step: revoke(0), done: true, at: At(4) }]).unwrap();
    journal.durable().await.unwrap();
    let kept: Vec<Entry> =
        entries_of(&store, &key()).unwrap().into_iter().flat_map(|(_, appended)| appended.entries).collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
    let in_doubt = Journal::load(&store, key(), sealer(), record(), 1).unwrap();
    let doubts = |step| in_doubt.with(|state| state.targets[0].get(step).unwrap().doubted);
    assert!(doubts(revoke(1)), "a call that may have been made stays in doubt");
}

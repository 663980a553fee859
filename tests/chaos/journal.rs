//! A job's journal on a store that accepts some writes and refuses others, like a disk that is nearly full.

use erasure_worker::engine::journal::{Journal, entries_of};
use erasure_worker::job::{Answer, At, Entry, JobKey, JobRecord, Step, StepName};
use erasure_worker::seal::{self, Keyring, MasterKey};
use erasure_worker::store::{Batch, MemoryStore, StoreError, Table, Ticket};

fn key() -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(7) }
}

fn sealer() -> seal::JobSecret {
    let master = MasterKey::parse(&"5f1e0c7d9a3b4826".repeat(4)).unwrap();
    Keyring::new(master, Vec::new()).unwrap().job_secret("acme", "job", b"identity")
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
        lasting: Default::default(),
        seen: Default::default(),
        stands: Default::default(),
        waits_at: None,
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

/// Entries of one append: so many that the next entry begins a new row.
const MANY: u32 = 300;

/// A journal with intents on the disk, more intents without room, and a later intent on the disk.
fn with_a_gap(store: &MemoryStore) -> Journal {
    let journal = Journal::new(key(), sealer(), record(), 1);
    journal.write(store, Vec::new(), Batch::new()).unwrap();
    journal.append(store, (0..MANY).map(intent).collect()).unwrap();
    store.fail_with(Some(StoreError::Full { path: String::new(), free: 0, needed: 1 }));
    journal.append(store, (MANY..2 * MANY).map(intent).collect()).unwrap();
    store.fail_with(None);
    journal.append(store, vec![intent(2 * MANY)]).unwrap();
    journal
}

#[tokio::test]
async fn a_write_without_room_is_reported_although_a_later_write_succeeds() {
    let store = MemoryStore::new();
    let journal = with_a_gap(&store);
    assert!(matches!(journal.durable().await, Err(StoreError::Full { .. })));
}

#[tokio::test]
async fn an_answer_without_room_is_stored_by_the_next_write() {
    let store = MemoryStore::new();
    let journal = Journal::new(key(), sealer(), record(), 1);
    journal.write(&store, Vec::new(), Batch::new()).unwrap();
    journal.append(&store, vec![intent(0)]).unwrap();
    store.fail_with(Some(StoreError::Full { path: String::new(), free: 0, needed: 1 }));
    journal.append(&store, vec![answered(0)]).unwrap();
    journal.hand_over_all(&store);
    store.fail_with(None);
    journal.append(&store, vec![intent(1)]).unwrap();
    assert!(matches!(journal.durable().await, Err(StoreError::Full { .. })), "the refused write is not reported");
    let rows = entries_of(&store, &key()).unwrap();
    assert_eq!(rows.len(), 1, "the small row was not extended");
    assert_eq!(rows[0].1.entries, [intent(0), answered(0), intent(1)]);
    let loaded = Journal::load(&store, key(), sealer(), record(), 1).unwrap();
    let doubted = |step| loaded.with(|state| state.targets[0].get(step).unwrap().doubted);
    assert!(!doubted(revoke(0)) && doubted(revoke(1)));
}

#[tokio::test]
async fn entries_after_a_gap_are_never_overwritten() {
    let store = MemoryStore::new();
    drop(with_a_gap(&store));
    let journal = Journal::load(&store, key(), sealer(), record(), 1).unwrap();
    journal.append(&store, vec![Entry::Settled { target: 0, step: revoke(0), done: true, at: At(4) }]).unwrap();
    journal.durable().await.unwrap();
    let kept: Vec<Entry> =
        entries_of(&store, &key()).unwrap().into_iter().flat_map(|(_, appended)| appended.entries).collect();
    assert_eq!(kept.len(), MANY as usize + 2);
    let in_doubt = Journal::load(&store, key(), sealer(), record(), 1).unwrap();
    let doubts = |step| in_doubt.with(|state| state.targets[0].get(step).unwrap().doubted);
    assert!(doubts(revoke(2 * MANY)), "a call that may have been made stays in doubt");
}

#[tokio::test]
async fn an_end_that_is_written_twice_keeps_the_jobs_last_answers() {
    let store = MemoryStore::new();
    let journal = Journal::new(key(), sealer(), record(), 1);
    journal.write(&store, Vec::new(), Batch::new()).unwrap();
    journal.append(&store, vec![intent(0)]).unwrap();
    journal.append(&store, vec![answered(0)]).unwrap();
    let mut built_on_another = Batch::new();
    built_on_another.expect(Table::Meta, b"head", Some(b"of another".to_vec()));
    let outrun = Ticket::all(journal.end(&store, built_on_another, false)).await;
    assert!(matches!(outrun, Err(StoreError::Outrun)), "{outrun:?}");
    Ticket::all(journal.end(&store, Batch::new(), false)).await.unwrap();
    let kept: Vec<Entry> =
        entries_of(&store, &key()).unwrap().into_iter().flat_map(|(_, appended)| appended.entries).collect();
    assert_eq!(kept, [intent(0), answered(0)]);
}

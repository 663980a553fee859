//! The weight of crashes against a message, over many lives of a worker.

use super::*;
use crate::store::MemoryStore;

const NOW: At = At(1_000);

/// One life of a worker that is killed while the message runs; true: the message became a dead letter.
async fn killed(store: &MemoryStore, while_it_runs: impl AsyncFnOnce(&Starts, Turn)) -> bool {
    let starts = Starts::default();
    starts.begin(store, NOW).await.unwrap();
    let turn = starts.open(store, b"message", NOW).await.unwrap();
    let condemned = matches!(turn, Turn::Condemned);
    while_it_runs(&starts, turn).await;
    condemned
}

#[tokio::test]
async fn a_message_that_stops_the_worker_at_once_is_set_aside_after_three_deaths_alone() {
    let store = MemoryStore::default();
    let mut lives = Vec::new();
    for _ in 0..5 {
        lives.push(killed(&store, async |_, _| {}).await);
    }
    assert_eq!(lives, [false, false, false, false, true], "once beside others, three times alone");
}

#[tokio::test]
async fn a_message_that_showed_signs_of_life_is_set_aside_only_after_twelve_deaths_alone() {
    let store = MemoryStore::default();
    let mut lives = 0;
    while !killed(&store, async |starts, turn| {
        if matches!(turn, Turn::Alone(_)) {
            starts.lives(&store, b"message", NOW).await;
        }
    })
    .await
    {
        lives += 1;
    }
    assert_eq!(lives, 13);
}

#[tokio::test]
async fn a_message_that_gets_on_or_is_long_at_work_is_never_set_aside_for_restarts() {
    for got_on in [true, false] {
        let store = MemoryStore::default();
        for _ in 0..40 {
            let condemned = killed(&store, async |starts, turn| {
                drop(starts.survived(&store, b"message", turn, got_on, NOW).await);
            });
            assert!(!condemned.await);
        }
    }
}

#[tokio::test]
async fn a_message_that_ended_is_no_suspect() {
    let store = MemoryStore::default();
    for _ in 0..10 {
        let starts = Starts::default();
        starts.begin(&store, NOW).await.unwrap();
        assert!(matches!(starts.open(&store, b"message", NOW).await.unwrap(), Turn::Shared(_)));
        starts.close(&store, b"message").await.unwrap();
    }
}

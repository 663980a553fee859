//! A full disk at the start, at the stop and during the outbox's work; a broker that confirms nothing.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::{Destination, Properties, Publication};
use crate::engine::stage::{Stage, full};
use crate::job::record::Event;
use crate::store::{Batch, Store as _, Table};

const RUNNING: &[u8] = b"running";

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

impl Stage {
    fn run(&self) -> tokio::task::JoinHandle<Result<(), StoreError>> {
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move { engine.run().await })
    }

    fn remembered_keys(&self) -> usize {
        self.store.scan(Table::Meta, b"receipt-key/", None, 9).unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_finds_no_room_at_its_start_begins_once_there_is_some() {
    let stage = Stage::new();
    stage.store.fail_with(Some(full()));
    let run = stage.run();
    seconds(60).await;
    assert!(!run.is_finished(), "it waits");
    assert!(stage.engine.is_stalled(), "and says so");
    stage.store.fail_with(None);
    seconds(5).await;
    assert!(!stage.engine.is_stalled());
    assert!(stage.store.get(Table::Meta, RUNNING).unwrap().is_some());
    assert_eq!(stage.remembered_keys(), 1);
    stage.engine.drain();
    run.await.unwrap().unwrap();
    assert!(stage.store.get(Table::Meta, RUNNING).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_up_between_two_writes_of_the_start_is_waited_for() {
    let stage = Stage::new();
    stage.store.hold();
    let run = stage.run();
    seconds(1).await;
    assert_eq!(stage.store.settle(|_| Ok(())), 1);
    seconds(1).await;
    assert_eq!(stage.store.settle(|_| Err(full())), 1);
    seconds(5).await;
    assert!(!run.is_finished());
    stage.store.release();
    seconds(5).await;
    assert_eq!(stage.remembered_keys(), 1);
    stage.engine.drain();
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_start_waits_for_room_is_clean_and_forgets_no_suspect() {
    let stage = Stage::new();
    // The row of a killed worker.
    let mut batch = Batch::new();
    batch.put(Table::Meta, RUNNING, b"then");
    stage.store.submit(batch).await.unwrap();
    stage.store.note(b"message", Some(b"its start")).await.unwrap();
    stage.store.fail_with(Some(full()));
    let run = stage.run();
    seconds(3).await;
    stage.engine.drain();
    run.await.unwrap().unwrap();
    assert!(stage.store.get(Table::Meta, RUNNING).unwrap().is_some());
    assert_eq!(stage.store.notes().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_on_a_full_disk_ends_well() {
    let stage = Stage::new();
    let run = stage.run();
    seconds(1).await;
    stage.store.fail_with(Some(full()));
    stage.engine.drain();
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_finds_no_room_leaves_no_start_behind_that_counts_as_a_death() {
    let stage = Stage::new();
    let run = stage.run();
    seconds(1).await;
    // Its slow call was ended early.
    stage.store.note(b"message", Some(b"its start")).await.unwrap();
    stage.store.hold();
    stage.engine.drain();
    while !run.is_finished() {
        seconds(1).await;
        stage.store.settle(|_| Err(full()));
    }
    run.await.unwrap().unwrap();
    assert_eq!(stage.store.notes().unwrap(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_row_cannot_be_removed_is_published_once() {
    let stage = Stage::new();
    let key = stage.job(1).key;
    let mut batch = Batch::new();
    for number in 0..3_u8 {
        let (id, what) = (format!("event-{number}"), "cancel_refused".to_owned());
        stage.engine.owe(&mut batch, &key, &Event { id, what, body: b"{}".to_vec(), at: stage.engine.now() });
    }
    stage.store.submit(batch).await.unwrap();
    stage.store.fail_with(Some(full()));
    let published = || stage.post.published.lock().unwrap().len();
    let outbox = tokio::spawn(Arc::clone(&stage.engine).outbox_loop());
    seconds(600).await;
    assert_eq!(published(), 1, "the others wait for room as well");
    assert!(stage.engine.is_stalled() && stage.post.is_paused());
    stage.store.fail_with(None);
    seconds(5).await;
    assert_eq!(published(), 3);
    assert_eq!(stage.store.scan(Table::Outbox, b"", None, 9).unwrap(), vec![]);
    assert!(!stage.post.is_paused());
    stage.engine.drain();
    outbox.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_wait_for_room_to_remove_an_event() {
    let stage = Stage::new();
    let mut batch = Batch::new();
    let event = Event { id: "event".into(), what: "cancel_refused".into(), body: Vec::new(), at: stage.engine.now() };
    stage.engine.owe(&mut batch, &stage.job(1).key, &event);
    stage.store.submit(batch).await.unwrap();
    stage.store.fail_with(Some(full()));
    let outbox = tokio::spawn(Arc::clone(&stage.engine).outbox_loop());
    seconds(5).await;
    stage.engine.drain();
    outbox.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn intake_goes_on_only_when_neither_store_nor_broker_stops_it() {
    for store_recovers_first in [true, false] {
        let stage = Stage::new();
        let broker_takes = |takes: bool| stage.post.refuses.store(!takes, Ordering::SeqCst);
        broker_takes(false);
        stage.store.fail_with(Some(full()));
        let engine = Arc::clone(&stage.engine);
        let publish = tokio::spawn(async move {
            let (to, properties) = (Destination::DeadLetter, Properties::default());
            engine.publish(Publication { to, properties, body: Bytes::new() }, &CancellationToken::new()).await
        });
        seconds(2).await;
        assert!(stage.post.is_paused());
        let engine = Arc::clone(&stage.engine);
        let room = tokio::spawn(async move { engine.store_trouble(&Interrupted::Store(full())).await });
        seconds(2).await;
        if store_recovers_first {
            stage.store.fail_with(None);
            room.await.unwrap();
            assert!(stage.post.is_paused(), "a publish does not get through");
            broker_takes(true);
            publish.await.unwrap().unwrap();
        } else {
            broker_takes(true);
            publish.await.unwrap().unwrap();
            assert!(stage.post.is_paused(), "the store has no room");
            stage.store.fail_with(None);
            room.await.unwrap();
        }
        assert!(!stage.post.is_paused());
    }
}

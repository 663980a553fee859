//! A requeued message.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::{Lost, Properties, Settle, Via};
use crate::engine::stage::{Stage, full};
use crate::store::{Batch, MemoryStore, Store as _, Table};

/// Notes which starts are open at the requeue.
struct Back {
    store: Arc<MemoryStore>,
    open: Arc<Mutex<Option<usize>>>,
}

#[async_trait]
impl Settle for Back {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        Err(Lost)
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        *self.open.lock().unwrap() = Some(self.store.notes().unwrap().len());
        Ok(())
    }
}

impl Stage {
    /// A delivery that notes the open starts at its requeue.
    fn delivery(&self) -> (Delivery, Arc<Mutex<Option<usize>>>) {
        let open = Arc::new(Mutex::new(None));
        let properties = Properties { message_id: Some(self.job(1).key.job_id.to_string()), ..Properties::default() };
        let delivery = Delivery {
            message: Message {
                body: Stage::body(1).into(),
                properties,
                via: Via::Requests,
                redelivered: false,
                lost: CancellationToken::new(),
                epoch: 1,
            },
            settle: Box::new(Back { store: Arc::clone(&self.store), open: Arc::clone(&open) }),
        };
        (delivery, open)
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_set_aside_yet_is_still_condemned_when_it_comes_again() {
    let stage = Stage::new();
    let (store, starts) = (&*stage.store, &stage.engine.starts);
    let mut batch = Batch::new();
    batch.put(Table::Meta, b"running", b"then");
    store.submit(batch).await.unwrap();
    let digest = stage.engine.keyring.digest(BODY, &Stage::body(1));
    let note = [&stage.engine.now().0.to_be_bytes()[..], &[12, 0]].concat();
    store.note(&digest, Some(&note)).await.unwrap();
    assert_eq!(starts.begin(store, stage.engine.now()).await.unwrap(), 1);
    store.fail_with(Some(full()));
    let (delivery, open) = stage.delivery();
    let delivered = tokio::spawn(Arc::clone(&stage.engine).deliver(delivery));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*open.lock().unwrap(), Some(1), "it went back");
    store.fail_with(None);
    delivered.await.unwrap();
    assert!(matches!(starts.open(store, &digest, stage.engine.now()).await.unwrap(), Turn::Condemned));
    assert_eq!(store.notes().unwrap().len(), 1, "also after a restart");
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_message_that_goes_back_ends_before_it_can_be_here_again() {
    let stage = Stage::new();
    // The job's rows cannot be read.
    let mut batch = Batch::new();
    batch.put(Table::Ended, stage.job(1).key.to_bytes(), b"\xff".to_vec());
    stage.store.submit(batch).await.unwrap();
    let (delivery, open) = stage.delivery();
    Arc::clone(&stage.engine).deliver(delivery).await;
    assert_eq!(*open.lock().unwrap(), Some(0));
}

/// An ack that the broker does not take.
struct Stalled;

#[async_trait]
impl Settle for Stalled {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        std::future::pending().await
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        Err(Lost)
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_whose_ack_stalls_keeps_the_others_waiting_no_longer_than_its_time_alone() {
    let stage = Stage::new();
    let (store, starts) = (&*stage.store, &stage.engine.starts);
    let mut batch = Batch::new();
    batch.put(Table::Meta, b"running", b"then");
    store.submit(batch).await.unwrap();
    let digest = stage.engine.keyring.digest(BODY, b"no job");
    store.note(&digest, Some(&[&stage.engine.now().0.to_be_bytes()[..], &[4, 0]].concat())).await.unwrap();
    assert_eq!(starts.begin(store, stage.engine.now()).await.unwrap(), 1);
    let (mut delivery, _) = stage.delivery();
    (delivery.message.body, delivery.settle) = (b"no job".to_vec().into(), Box::new(Stalled));
    let delivered = tokio::spawn(Arc::clone(&stage.engine).deliver(delivery));
    tokio::task::yield_now().await;
    let other = starts.open(store, b"another", stage.engine.now());
    let turn = tokio::time::timeout(Duration::from_secs(11), other).await;
    assert!(matches!(turn, Ok(Ok(Turn::Shared(_)))));
    let weight = |value: &[u8]| value[8..].to_vec();
    let notes = store.notes().unwrap();
    let stalled = notes.iter().find(|(of, _)| of == &digest).map(|(_, value)| weight(value));
    assert_eq!(stalled, Some(vec![4, 0]), "a death from here on is not counted against it");
    delivered.abort();
}

//! A message that goes back to the broker.

use async_trait::async_trait;

use super::*;
use crate::broker::{Lost, Properties, Settle, Via};
use crate::engine::stage::Stage;
use crate::store::{Batch, MemoryStore, Store as _, Table};

/// Notes which starts are open when the message goes back.
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

#[tokio::test(start_paused = true)]
async fn the_start_of_a_message_that_goes_back_ends_before_it_can_be_here_again() {
    let stage = Stage::new();
    // What is remembered of its job cannot be read.
    let mut batch = Batch::new();
    batch.put(Table::Ended, stage.job(1).key.to_bytes(), b"\xff".to_vec());
    stage.store.submit(batch).await.unwrap();
    let open = Arc::new(Mutex::new(None));
    let delivery = Delivery {
        body: Stage::body(1).into(),
        properties: Properties::default(),
        via: Via::Requests,
        redelivered: false,
        lost: CancellationToken::new(),
        epoch: 1,
        settle: Box::new(Back { store: Arc::clone(&stage.store), open: Arc::clone(&open) }),
    };
    Arc::clone(&stage.engine).delivered(delivery).await;
    assert_eq!(*open.lock().unwrap(), Some(0));
}

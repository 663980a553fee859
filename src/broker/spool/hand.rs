//! The embedded queue's content in memory, and the right to settle its deliveries.
//!
//! The rule it keeps: every delivery is counted in hand until it is settled or dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Lost, Properties, Settle, Tier, Via};

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) closed: CancellationToken,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ready: VecDeque<Message>,
    pub(super) waiting: BTreeMap<(Instant, u64), (Tier, Message)>,
    pub(super) sequence: u64,
    pub(super) in_hand: usize,
    /// Dropped without a settlement: not delivered again by this run.
    pub(super) abandoned: usize,
    pub(super) for_input: usize,
    pub(super) controls: u64,
    pub(super) read_out: bool,
    pub(super) read_error: Option<String>,
    pub(super) paused: bool,
    pub(super) stopped: bool,
}

pub(super) struct Message {
    pub(super) body: Bytes,
    pub(super) properties: Properties,
    pub(super) via: Via,
    pub(super) redelivered: bool,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all waiting tasks.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.state());
        self.changed.notify_waiters();
        out
    }
}

/// A delivery in hand; dropped without a settlement it stays in the input.
pub(super) struct InHand {
    shared: Arc<Shared>,
    message: Option<Message>,
}

impl InHand {
    pub(super) fn new(shared: Arc<Shared>, message: Message) -> Self {
        Self { shared, message: Some(message) }
    }

    fn settle(&mut self, settled: impl FnOnce(&mut State, Message)) -> Result<(), Lost> {
        if self.shared.closed.is_cancelled() {
            return Err(Lost);
        }
        if let Some(message) = self.message.take() {
            self.shared.change(|state| {
                state.in_hand -= 1;
                settled(state, message);
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Settle for InHand {
    async fn ack(mut self: Box<Self>) -> Result<(), Lost> {
        self.settle(|_, _| {})
    }

    async fn requeue(mut self: Box<Self>) -> Result<(), Lost> {
        self.settle(|state, message| state.ready.push_back(Message { redelivered: true, ..message }))
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if self.message.take().is_some() {
            self.shared.change(|state| {
                state.in_hand -= 1;
                state.abandoned += 1;
            });
        }
    }
}

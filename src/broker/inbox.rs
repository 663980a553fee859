//! A queue between one task that fills it and the tasks that wait for the next item.
//!
//! The rule it keeps: after [`Inbox::close`] no task waits and no item is kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// An unbounded queue; the prefetch bounds its content.
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Inbox<T> {
    /// An empty, open queue.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { items: VecDeque::new(), closed: false }), wake: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item; a closed inbox drops it.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state();
        if !state.closed {
            state.items.push_back(item);
            self.wake.notify_one();
        }
    }

    /// Takes out all items, in order.
    pub(super) fn drain(&self) -> Vec<T> {
        self.state().items.drain(..).collect()
    }

    /// Waits for the next item; `None` after the close.
    pub(super) async fn pop(&self) -> Option<T> {
        loop {
            let mut woken = std::pin::pin!(self.wake.notified());
            // Registered before the check, so that a push between check and wait is noticed.
            woken.as_mut().enable();
            {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
            }
            woken.await;
        }
    }

    /// Ends every wait, now and later. Returns the remaining items.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.state();
        state.closed = true;
        self.wake.notify_waiters();
        state.items.drain(..).collect()
    }
}

//! The orders that wait for the writing thread, and the time for which they may wait.
//!
//! The rule it keeps: a batch with a waiting task is taken at once, with all batches before it; a batch without one
//! shares the next group, within [`LINGER`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::archive::Row;
use super::{Batch, StoreError, Ticket};

/// Longest wait of a batch without a waiting task: a sync of its own would only delay the next awaited batch.
const LINGER: Duration = Duration::from_millis(10);

pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// The work of the thread.
pub(super) enum Work {
    /// `must_sync` requires a commit even without a change.
    Commit { batch: Batch, must_sync: bool },
    /// These rows are durable in the archive, which now has this number.
    Archived { rows: Vec<Row>, number: u64 },
}

/// Work for the thread.
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) reply: Reply,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// The time of the oldest order.
    since: Option<Instant>,
    /// The number of the newest order ever, and of the newest awaited one.
    last: u64,
    wanted: u64,
    /// The thread waits for a signal.
    is_waiting: bool,
    /// The thread collects until this many orders wait.
    gathering: Option<usize>,
    is_stopping: bool,
    is_closed: bool,
}

impl State {
    /// The number of the newest order that was taken.
    fn taken(&self) -> u64 {
        self.last - self.orders.len() as u64
    }

    /// True if a task waits for an order in the queue, or for all of them.
    fn is_wanted(&self) -> bool {
        self.is_stopping || self.wanted > self.taken()
    }
}

/// The orders, in the order of arrival.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// A task's interest in an order.
#[derive(Debug)]
pub(super) struct Interest {
    queue: Arc<Queue>,
    number: u64,
}

impl Interest {
    /// Notes that a task waits now.
    pub(super) fn notify(self) {
        let mut state = self.queue.state();
        let is_news = state.gathering.is_none() && state.wanted <= state.taken() && state.taken() < self.number;
        state.wanted = state.wanted.max(self.number);
        self.queue.wake(state, is_news);
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, is_news: bool) {
        let must_wake = is_news && std::mem::take(&mut state.is_waiting);
        drop(state);
        if must_wake {
            self.changed.notify_one();
        }
    }

    /// Appends work. If the thread is gone, its ticket resolves to `Closed`.
    pub(super) fn push(self: &Arc<Self>, work: Work) -> Ticket {
        let mut state = self.state();
        let (reply, ticket) = Ticket::new();
        if state.is_closed {
            return ticket;
        }
        let was_empty = state.orders.is_empty();
        state.orders.push_back(Order { work, reply });
        state.last += 1;
        let number = state.last;
        if was_empty {
            state.since = Some(Instant::now());
        }
        let is_news = state.gathering.map_or(was_empty, |enough| state.orders.len() == enough);
        self.wake(state, is_news);
        ticket.of_interest(Interest { queue: Arc::clone(self), number })
    }

    /// Takes the oldest order.
    pub(super) fn pop(&self) -> Option<Order> {
        self.state().orders.pop_front()
    }

    /// Waits until something must be written; false if nothing more will arrive.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            let left = match state.since {
                _ if state.orders.is_empty() && state.is_stopping => return false,
                _ if state.orders.is_empty() => None,
                _ if state.is_wanted() => return true,
                since => match LINGER.saturating_sub(since.map_or(LINGER, |since| since.elapsed())) {
                    Duration::ZERO => return true,
                    left => Some(left),
                },
            };
            state.is_waiting = true;
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.is_waiting = false;
        }
    }

    /// Collects more orders before they are taken: until there are `enough`, or for `most`.
    pub(super) fn gather(&self, enough: usize, most: Duration) {
        let began = Instant::now();
        let mut state = self.state();
        state.gathering = Some(enough);
        while !state.is_stopping && state.orders.len() < enough {
            let left = most.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            state.is_waiting = true;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.is_waiting = false;
        }
        state.gathering = None;
    }

    /// Ends the thread after all earlier orders are written.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.is_stopping = true;
        self.wake(state, true);
    }

    /// The thread is gone: all orders are dropped, and their tickets show that.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let left = std::mem::take(&mut state.orders);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn batch() -> Work {
        Work::Commit { batch: Batch::new(), must_sync: false }
    }

    fn queue() -> Arc<Queue> {
        Arc::new(Queue::default())
    }

    #[test]
    fn a_batch_is_wanted_once_it_is_awaited_and_takes_along_what_came_before() {
        let queue = queue();
        let unheeded = queue.push(batch());
        let (awaited, after) = (queue.push(batch()), queue.push(batch()));
        assert!(!queue.state().is_wanted());
        assert!(awaited.now_or_never().is_none());
        assert!(queue.state().is_wanted() && queue.wait());
        for _ in 0..2 {
            drop(queue.pop());
        }
        assert!(!queue.state().is_wanted(), "what is wanted was taken");
        assert!(after.unhurried().now_or_never().is_none());
        assert!(!queue.state().is_wanted());
        assert!(unheeded.now_or_never().is_some());
        assert!(!queue.state().is_wanted(), "nobody waits for what was taken");
    }

    #[test]
    fn a_batch_that_nobody_awaits_is_taken_all_the_same() {
        let queue = queue();
        let before = Instant::now();
        drop(queue.push(batch()));
        assert!(queue.wait() && before.elapsed() >= LINGER);
    }

    #[test]
    fn as_many_are_gathered_as_are_asked_for_or_as_come_in_time() {
        let queue = queue();
        let tickets: Vec<_> = (0..3).map(|_| queue.push(batch())).collect();
        let before = Instant::now();
        queue.gather(3, Duration::from_secs(60));
        let gathering = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.gather(4, Duration::from_secs(60))
        });
        while queue.state().gathering.is_none() {
            std::thread::yield_now();
        }
        assert!(tickets.into_iter().all(|ticket| ticket.now_or_never().is_none()));
        assert!(!gathering.is_finished(), "an awaited one does not end the gathering");
        drop(queue.push(batch()));
        gathering.join().unwrap();
        assert!(before.elapsed() < Duration::from_secs(60), "nothing was waited out");
        let (before, most) = (Instant::now(), Duration::from_millis(20));
        queue.gather(5, most);
        assert!(before.elapsed() >= most);
        queue.stop();
        queue.gather(5, Duration::from_secs(60));
    }

    #[test]
    fn what_came_before_the_stop_is_taken_and_what_comes_after_the_end_is_told() {
        let queue = queue();
        drop(queue.push(batch()));
        queue.stop();
        assert!(queue.wait());
        drop(queue.pop());
        assert!(!queue.wait());
        let left = queue.push(batch());
        queue.close();
        let late = queue.push(batch());
        for ticket in [left, late] {
            assert!(matches!(ticket.now_or_never(), Some(Err(StoreError::Closed))));
        }
    }
}

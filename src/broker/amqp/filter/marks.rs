//! The marks of changed deliveries, from the filter to the readers of deliveries.
//!
//! The rule it keeps: a mark is set before the library gets the delivery's last byte. No publisher can set one,
//! because it is not in the message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::broker::Mended;

/// The marks of one connection.
#[derive(Debug, Default)]
pub(in crate::broker::amqp) struct Marks {
    count: AtomicUsize,
    set: Mutex<HashMap<(u16, u64), Mended>>,
}

impl Marks {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<(u16, u64), Mended>) -> T) -> T {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut set);
        self.count.store(set.len(), Ordering::Release);
        done
    }

    /// Adds a change of a delivery.
    pub(super) fn set(&self, channel: u16, tag: u64, change: impl FnOnce(&mut Mended)) {
        self.with(|set| change(set.entry((channel, tag)).or_default()));
    }

    /// Forgets a channel's marks: it was opened again, and its tags restart.
    pub(super) fn forget(&self, channel: u16) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.with(|set| set.retain(|(of, _), _| *of != channel));
        }
    }

    /// Takes the changes of a delivery, once.
    pub(in crate::broker::amqp) fn take(&self, channel: u16, tag: u64) -> Option<Mended> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with(|set| set.remove(&(channel, tag)))
    }
}

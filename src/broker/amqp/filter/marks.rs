//! Which deliveries were mended, from the filter to those who take them from the library.
//!
//! The rule it keeps: a mark is set before the library gets the delivery's last byte, and no publisher
//! can set one: nothing of it is in the message.

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

    /// Adds to what is known of a delivery.
    pub(super) fn set(&self, channel: u16, tag: u64, change: impl FnOnce(&mut Mended)) {
        self.with(|set| change(set.entry((channel, tag)).or_default()));
    }

    /// A channel begins anew, and its tags with it.
    pub(super) fn forget(&self, channel: u16) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.with(|set| set.retain(|(of, _), _| *of != channel));
        }
    }

    /// What was mended in a delivery, once.
    pub(in crate::broker::amqp) fn take(&self, channel: u16, tag: u64) -> Option<Mended> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with(|set| set.remove(&(channel, tag)))
    }
}

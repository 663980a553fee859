//! The clock at the start, and the time in the store.
//!
//! The rule it keeps: no worker begins while its machine's time is impossible: before this program was made, or
//! before the last time in its store.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::steady::{EARLIEST, Steady, TOLERANCE};
use crate::engine::rows;
use crate::service;
use crate::store::{Batch, DurableStore, Store, Table};

/// The last time that a worker on this store has seen, milliseconds since 1970, eight bytes, big-endian.
const LAST: &[u8] = rows::CLOCK.prefix;
/// The pause between notes of the time.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// The pause between checks of a wrong clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The number of checks between two log lines.
const LOOKS_A_LINE: u32 = 60;
/// After this many checks the machine's time counts, and the store's future time is ignored.
const LOOKS_MAX: u32 = 3600;

/// The reason why a time cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    BeforeRelease,
    BeforeStore,
}

fn wrong(now: Timestamp, last: Option<Timestamp>) -> Option<Wrong> {
    if now < EARLIEST {
        return Some(Wrong::BeforeRelease);
    }
    last.filter(|last| last.duration_since(now) > TOLERANCE).map(|_| Wrong::BeforeStore)
}

fn last(store: &dyn Store) -> Option<Timestamp> {
    let bytes = store.get(Table::Meta, LAST).ok().flatten()?;
    Timestamp::from_millisecond(i64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// Returns when the machine's time can be right.
pub(super) async fn wait_for_time(store: &dyn Store) {
    let last = last(store);
    let mut looks = 0;
    while let Some(why) = wrong(Timestamp::now(), last) {
        if why == Wrong::BeforeStore && looks >= LOOKS_MAX {
            tracing::error!(
                "the clock is still before the last stored time: one of the two is wrong. The worker \
                continues with the clock"
            );
            break;
        }
        if looks % LOOKS_A_LINE == 0 {
            let (now, last) = (Timestamp::now(), last.unwrap_or(EARLIEST).max(EARLIEST));
            tracing::error!(%now, not_before = %last, "the clock is wrong: no job is taken until it is set right");
            service::waits("waiting for the clock to be set right");
        }
        looks += 1;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if let Some(last) = last {
        Steady::of_process().resume(last);
    }
}

/// Notes the time repeatedly. Never returns.
pub(super) async fn note_time(store: Arc<dyn DurableStore>) {
    loop {
        let now = Steady::of_process().now().as_millisecond();
        let mut batch = Batch::new();
        batch.put(Table::Meta, LAST, now.to_be_bytes());
        drop(store.submit(batch));
        tokio::time::sleep(NOTED_EVERY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_clock_before_the_release_or_before_the_last_time_written_is_wrong() {
        let written = EARLIEST + SignedDuration::from_hours(24 * 400);
        let later = |hours| written + SignedDuration::from_hours(hours);
        for now in [Timestamp::UNIX_EPOCH, EARLIEST - SignedDuration::from_secs(1)] {
            assert_eq!(wrong(now, None), Some(Wrong::BeforeRelease));
            assert_eq!(wrong(now, Some(written)), Some(Wrong::BeforeRelease));
        }
        assert_eq!(wrong(EARLIEST, None), None);
        for (hours, expected) in
            [(-9000, Some(Wrong::BeforeStore)), (-1, Some(Wrong::BeforeStore)), (0, None), (9000, None)]
        {
            assert_eq!(wrong(later(hours), Some(written)), expected, "{hours}");
        }
    }
}

//! Time, as a parameter.
//!
//! The rule it keeps: code that needs the time, or waits, uses a [`Clock`]. So a test decides the time, and nothing
//! really waits.

pub mod steady;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// The time of day for everything that may end by it, see [`steady`].
pub fn now() -> Timestamp {
    steady::Steady::of_process().now()
}

/// Tells the time and waits.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The time of day, for records. It can jump.
    fn now(&self) -> Timestamp;
    /// For measurements: it never goes back.
    fn monotonic(&self) -> Instant;
    /// Returns once this much time has passed.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that moves only when a test moves it. Sleepers wake when their time is reached.
#[derive(Debug)]
pub struct ManualClock {
    start_at: Timestamp,
    start: Instant,
    passed: watch::Sender<Duration>,
    /// The difference of the time of day from the elapsed time.
    shift: Mutex<jiff::SignedDuration>,
    sleepers: watch::Sender<usize>,
}

impl ManualClock {
    /// A clock at `start_at`.
    pub fn new(start_at: Timestamp) -> Self {
        ManualClock {
            start_at,
            start: Instant::now(),
            passed: watch::Sender::new(Duration::ZERO),
            shift: Mutex::new(jiff::SignedDuration::ZERO),
            sleepers: watch::Sender::new(0),
        }
    }

    /// Moves the clock.
    pub fn advance(&self, duration: Duration) {
        self.passed.send_modify(|passed| *passed += duration);
    }

    /// Moves the time of day alone, like a change of the machine's clock.
    pub fn shift(&self, by: jiff::SignedDuration) {
        *self.shift.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// Returns when at least `count` callers are in [`Clock::sleep`]: then a test moves the clock.
    pub async fn sleepers(&self, count: usize) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.sleepers.subscribe().wait_for(|sleepers| *sleepers >= count).await;
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let shift = *self.shift.lock().unwrap_or_else(PoisonError::into_inner);
        self.start_at + *self.passed.borrow() + shift
    }

    fn monotonic(&self) -> Instant {
        self.start + *self.passed.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let until = *self.passed.borrow() + duration;
        let _sleeper = Sleeper::new(&self.sleepers);
        let _ = self.passed.subscribe().wait_for(|passed| *passed >= until).await;
    }
}

/// Counts a sleeper for as long as it sleeps, a cancelled one too.
struct Sleeper<'a>(&'a watch::Sender<usize>);

impl<'a> Sleeper<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Sleeper(count)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_has_passed_its_time_and_not_before() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let sleeping = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move {
                clock.sleep(Duration::from_secs(60)).await;
                clock.now()
            }
        });
        clock.sleepers(1).await;
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeping.is_finished());
        clock.advance(Duration::from_secs(1));
        assert_eq!(sleeping.await.unwrap().as_second(), 60);
    }

    #[test]
    fn setting_the_time_of_day_leaves_the_monotonic_clock_alone() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let before = clock.monotonic();
        clock.shift(jiff::SignedDuration::from_secs(-5));
        assert_eq!((clock.now().as_second(), clock.monotonic()), (-5, before));
        clock.advance(Duration::from_secs(7));
        assert_eq!((clock.now().as_second(), clock.monotonic()), (2, before + Duration::from_secs(7)));
    }
}

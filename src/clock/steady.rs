//! The time of day, compared with the elapsed time and with other clocks.
//!
//! The rule it keeps: a changed clock ends nothing for good. A jump counts only after another clock confirms it;
//! until then the time follows the elapsed time.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Every release of this program is newer: a machine with an earlier time has no valid time yet.
pub(crate) const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// The largest change from one reading to the next: a time server corrects more than seconds only by a jump.
pub(crate) const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// A jump that no clock has contradicted for this long counts.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// After a longer stop the time at the start is a jump like any other.
const LONG_STOP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A jump that does not count yet.
#[derive(Debug, Clone, Copy)]
struct Jump {
    by: SignedDuration,
    since: Instant,
    contradicted: bool,
}

#[derive(Debug, Default)]
struct State {
    /// A time that counted, and the moment of its reading.
    anchor: Option<(Timestamp, Instant)>,
    jump: Option<Jump>,
}

impl State {
    /// The time, from the machine's present clock.
    fn read(&mut self, wall: Timestamp, at: Instant) -> Timestamp {
        let (anchor, since) = *self.anchor.get_or_insert((wall, at));
        let passed = SignedDuration::try_from(at.saturating_duration_since(since)).unwrap_or(SignedDuration::MAX);
        let steady = anchor.saturating_add(passed).unwrap_or(wall);
        let by = wall.duration_since(steady);
        if by.abs() <= TOLERANCE {
            if self.jump.take().is_some() {
                tracing::info!("the clock's jump was undone; its time counts again");
            }
            self.anchor = Some((wall, at));
            return wall;
        }
        let jump = self.jump.get_or_insert_with(|| {
            tracing::error!(
                seconds = by.as_secs(),
                "the clock jumped: its new time does not count before a system's answer confirms it. Until then the \
                 elapsed time counts"
            );
            Jump { by, since: at, contradicted: false }
        });
        jump.by = by;
        if !jump.contradicted && at.saturating_duration_since(jump.since) >= BELIEVED_AFTER {
            tracing::warn!(seconds = by.as_secs(), "no answer contradicted the clock's jump for a day: it counts");
            self.believe(wall, at);
            return wall;
        }
        steady
    }

    fn believe(&mut self, wall: Timestamp, at: Instant) {
        (self.anchor, self.jump) = (Some((wall, at)), None);
    }

    /// Notes the time of another clock.
    fn witness(&mut self, date: Timestamp, wall: Timestamp, at: Instant) {
        self.read(wall, at);
        let Some(jump) = &mut self.jump else { return };
        if date.duration_since(wall).abs() <= TOLERANCE {
            tracing::warn!(seconds = jump.by.as_secs(), "the clock's jump is confirmed by a system's answer");
            self.believe(wall, at);
        } else if !std::mem::replace(&mut jump.contradicted, true) {
            tracing::error!("a system's answer contradicts the clock: correct the machine's clock");
        }
    }
}

/// The machine's clock, without unconfirmed jumps.
#[derive(Debug, Default)]
pub(crate) struct Steady(Mutex<State>);

impl Steady {
    /// The instance of this process.
    pub fn of_process() -> &'static Steady {
        static PROCESS: OnceLock<Steady> = OnceLock::new();
        PROCESS.get_or_init(Steady::default)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.state().read(Timestamp::now(), Instant::now())
    }

    /// Notes the `Date` of an answer.
    pub(crate) fn witness(&self, date: Timestamp) {
        self.state().witness(date, Timestamp::now(), Instant::now());
    }

    /// Notes the last time of an earlier process. A large difference to the machine's time is a jump.
    pub fn resume(&self, last: Timestamp) {
        let (wall, at) = (Timestamp::now(), Instant::now());
        if wall.duration_since(last) > LONG_STOP {
            self.state().anchor = Some((last, at));
            self.state().read(wall, at);
        }
    }

    /// The difference between the machine's clock and the time that counts, while there is one.
    pub fn jump(&self) -> Option<SignedDuration> {
        self.now();
        self.state().jump.map(|jump| jump.by)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

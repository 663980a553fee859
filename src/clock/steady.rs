//! The time of day, compared with the time that has passed and with what others say.
//!
//! The rule it keeps: nothing ends for good by a clock that was set. A jump is not believed before somebody
//! else's clock says the same; until then time goes on as it passes.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// No release of this program is older: a machine that says so has not been told the time yet.
pub const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// As far a clock may be off from one reading to the next: a time server corrects more than seconds only by a
/// jump.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// A jump that nobody has contradicted for so long is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// After a stop that was longer than this a start is a jump like any other.
const LONG_STOP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A jump that is not believed yet.
#[derive(Debug, Clone, Copy)]
struct Jump {
    by: SignedDuration,
    since: Instant,
    contradicted: bool,
}

#[derive(Debug, Default)]
struct State {
    /// A time that was believed, and when that was.
    anchor: Option<(Timestamp, Instant)>,
    jump: Option<Jump>,
}

impl State {
    /// The time, from what the machine's clock says now.
    fn read(&mut self, wall: Timestamp, at: Instant) -> Timestamp {
        let (anchor, since) = *self.anchor.get_or_insert((wall, at));
        let passed = SignedDuration::try_from(at.saturating_duration_since(since)).unwrap_or(SignedDuration::MAX);
        let steady = anchor.saturating_add(passed).unwrap_or(wall);
        let by = wall.duration_since(steady);
        if by.abs() <= TOLERANCE {
            if self.jump.take().is_some() {
                tracing::info!("the clock is as it was before it jumped");
            }
            self.anchor = Some((wall, at));
            return wall;
        }
        let jump = self.jump.get_or_insert_with(|| {
            tracing::error!(
                seconds = by.as_secs(),
                "the clock jumped: it is not believed before a system's answer has the same time. Until then \
                 time goes on as it passes"
            );
            Jump { by, since: at, contradicted: false }
        });
        jump.by = by;
        if !jump.contradicted && at.saturating_duration_since(jump.since) >= BELIEVED_AFTER {
            tracing::warn!(seconds = by.as_secs(), "nobody contradicts the clock: its jump is believed");
            self.believe(wall, at);
            return wall;
        }
        steady
    }

    fn believe(&mut self, wall: Timestamp, at: Instant) {
        (self.anchor, self.jump) = (Some((wall, at)), None);
    }

    /// Somebody else says what time it is.
    fn witness(&mut self, told: Timestamp, wall: Timestamp, at: Instant) {
        self.read(wall, at);
        let Some(jump) = &mut self.jump else { return };
        if told.duration_since(wall).abs() <= TOLERANCE {
            tracing::warn!(seconds = jump.by.as_secs(), "the clock's jump is confirmed by a system's answer");
            self.believe(wall, at);
        } else if !std::mem::replace(&mut jump.contradicted, true) {
            tracing::error!("a system's answer contradicts the clock: set the machine's clock right");
        }
    }
}

/// The machine's clock, not believed where it jumps.
#[derive(Debug, Default)]
pub struct Steady(Mutex<State>);

impl Steady {
    /// The one of this process.
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

    /// What the `Date` of an answer says.
    pub fn witness(&self, told: Timestamp) {
        self.state().witness(told, Timestamp::now(), Instant::now());
    }

    /// The last time that an earlier process noted. Where the machine has come far from it, that is a jump.
    pub fn resume(&self, last: Timestamp) {
        let (wall, at) = (Timestamp::now(), Instant::now());
        if wall.duration_since(last) > LONG_STOP {
            self.state().anchor = Some((last, at));
            self.state().read(wall, at);
        }
    }

    /// How far the machine's clock is from the time that is believed, while it is not.
    pub fn jump(&self) -> Option<SignedDuration> {
        self.now();
        self.state().jump.map(|jump| jump.by)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

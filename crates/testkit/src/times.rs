//! Times for jobs of a worker with the machine's clock: relative to now, so that no test depends on the day it runs.
//!
//! The rule it keeps: whole seconds, in UTC, never ahead of the clock.

use jiff::{SignedDuration, Timestamp, Unit};

/// The time of the persons' requests: long enough ago for an ordinary job, recent enough for every legal term.
pub fn a_week_ago() -> String {
    hours_ago(7 * 24)
}

/// This many hours ago.
pub fn hours_ago(hours: i64) -> String {
    (Timestamp::now() - SignedDuration::from_hours(hours)).round(Unit::Second).unwrap().to_string()
}

/// This many days from now; only due times may be in the future.
pub fn due_in_days(days: i64) -> String {
    hours_ago(-24 * days)
}

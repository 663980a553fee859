//! Times for jobs that a worker with the machine's clock takes: relative to now, so that no test hangs on
//! the day it runs.
//!
//! The rule it keeps: whole seconds, in UTC, never ahead of the clock.

use jiff::{SignedDuration, Timestamp, Unit};

/// When people asked for what the tests' jobs erase: long enough ago to be a job like any other, so recently
/// that no law's term has nearly passed.
pub fn a_week_ago() -> String {
    hours_ago(7 * 24)
}

/// So many hours ago.
pub fn hours_ago(hours: i64) -> String {
    (Timestamp::now() - SignedDuration::from_hours(hours)).round(Unit::Second).unwrap().to_string()
}

/// So many days from now: only what is due may be ahead.
pub fn due_in_days(days: i64) -> String {
    hours_ago(-24 * days)
}

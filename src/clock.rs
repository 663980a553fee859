//! The time of day.
//!
//! The rule it keeps: every end by the time of day uses this time, never the machine's clock.

pub(crate) mod steady;

use jiff::Timestamp;

/// The time of day for every end by it, see [`steady`].
pub fn now() -> Timestamp {
    steady::Steady::of_process().now()
}

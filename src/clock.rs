//! The time of day.
//!
//! The rule it keeps: whatever may end by the time of day asks here, never the machine's clock.

pub(crate) mod steady;

use jiff::Timestamp;

/// The time of day for everything that may end by it, see [`steady`].
pub fn now() -> Timestamp {
    steady::Steady::of_process().now()
}

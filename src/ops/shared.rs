//! What every route knows.
//!
//! The rule it keeps: what is costly to find is found once for all who ask.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Ops;
use super::rates::Rates;
use crate::engine::operators::Survey;

/// The worker as the routes see it.
pub struct Shared {
    /// The engine, the settings, the desks.
    pub ops: Ops,
    /// One look at the dead letters at a time: two would hide letters from each other.
    pub letters: tokio::sync::Mutex<()>,
    /// The latest counts for the metrics.
    pub survey: SurveyCache,
    /// When the server began.
    pub began_at: Timestamp,
    /// How fast work is done.
    pub rates: Rates,
}

/// The latest counts of open jobs, and when they were made.
#[derive(Debug, Default)]
pub struct SurveyCache(pub tokio::sync::Mutex<Option<Made>>);

/// Counts, and what they cost.
#[derive(Debug)]
pub struct Made {
    pub at: Instant,
    pub cost: Duration,
    pub survey: Survey,
}

//! The state that all routes share.
//!
//! The rule it keeps: a costly count is made once for all requests.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Ops;
use super::rates::Rates;
use crate::engine::operators::Survey;

pub(super) struct Shared {
    pub(super) ops: Ops,
    /// One read of the dead letters at a time: a letter that one read has is not delivered to another.
    pub(super) letters: tokio::sync::Mutex<()>,
    /// The latest counts of open jobs.
    pub(super) survey: tokio::sync::Mutex<Option<CachedSurvey>>,
    /// The start of the server.
    pub(super) began_at: Timestamp,
    pub(super) rates: Rates,
}

/// Counts of open jobs, with the time that they took.
#[derive(Debug)]
pub(super) struct CachedSurvey {
    pub(super) at: Instant,
    pub(super) cost: Duration,
    pub(super) survey: Survey,
}

//! The number of jobs that a scope let through, for each five minutes of the last day.
//!
//! The rule it keeps: no hour, whenever it begins, has more jobs than its ceiling.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Ceiling, Scope};
use crate::engine::mirror::Mirrored;
use crate::engine::rows;
use crate::job::At;

/// An hour with at most this many jobs is no spike, even after a quiet day.
pub const SPIKE_FLOOR: u32 = 20;
const BUCKET_MS: i64 = 5 * 60 * 1000;
/// Whole buckets in an hour. The bucket of the present time is added to them.
const HOUR: i64 = 12;
const DAY: i64 = 24 * HOUR;

/// Jobs let through, in buckets of five minutes, for the last 25 hours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    first: i64,
    newest: i64,
    buckets: VecDeque<u32>,
}

impl Counts {
    pub(super) fn bucket(now: At) -> i64 {
        now.0.div_euclid(BUCKET_MS)
    }

    fn forward(&mut self, now: At) {
        let bucket = Self::bucket(now);
        if self.buckets.is_empty() {
            (self.first, self.newest) = (bucket, bucket);
            self.buckets.push_back(0);
        }
        // After the clock was set back, the newest bucket counts on.
        let steps = bucket.saturating_sub(self.newest).clamp(0, DAY + HOUR + 1);
        self.newest = self.newest.max(bucket);
        for _ in 0..steps {
            self.buckets.push_back(0);
        }
        while self.buckets.len() as i64 > DAY + HOUR + 1 {
            self.buckets.pop_front();
        }
    }

    pub(super) fn add(&mut self, now: At) {
        self.forward(now);
        if let Some(last) = self.buckets.back_mut() {
            *last = last.saturating_add(1);
        }
    }

    /// Adds a job that another worker let through at that time.
    pub(super) fn add_then(&mut self, at: At, now: At) {
        self.forward(now);
        let back = usize::try_from(self.newest.saturating_sub(Self::bucket(at))).unwrap_or(0);
        if let Some(count) = self.buckets.iter_mut().rev().nth(back) {
            *count = count.saturating_add(1);
        }
    }

    /// Removes a job that was added at that time and was not let through.
    pub(super) fn take_back(&mut self, at: At) {
        let back = usize::try_from(self.newest.saturating_sub(Self::bucket(at))).unwrap_or(0);
        if let Some(count) = self.buckets.iter_mut().rev().nth(back) {
            *count = count.saturating_sub(1);
        }
    }

    /// The jobs of the hour up to now, and the hourly mean of the day before it.
    fn hour_and_mean(&self, now: At) -> (u32, f64) {
        let mut counts = self.clone();
        counts.forward(now);
        let split = counts.buckets.len().saturating_sub(HOUR as usize + 1);
        let sum = |buckets: &mut dyn Iterator<Item = &u32>| buckets.map(|count| u64::from(*count)).sum::<u64>();
        let hour = sum(&mut counts.buckets.iter().skip(split));
        let before = sum(&mut counts.buckets.iter().take(split));
        // With less than a day of history the mean is that of the hours that exist.
        #[allow(clippy::cast_precision_loss, reason = "a mean of counts below 2^52")]
        let hours = ((counts.newest - HOUR - counts.first) as f64 / HOUR as f64).clamp(1.0, 24.0);
        #[allow(clippy::cast_precision_loss, reason = "a mean of counts below 2^52")]
        let mean = before as f64 / hours;
        (u32::try_from(hour).unwrap_or(u32::MAX), mean)
    }

    pub(super) fn limit(&self, ceiling: &Ceiling, now: At) -> (u32, Option<u32>) {
        let (hour, mean) = self.hour_and_mean(now);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
        let spike = ceiling.spike_factor.map(|factor| ((mean * factor).floor() as u32).max(SPIKE_FLOOR));
        let limit = [ceiling.max_jobs_per_hour, spike].into_iter().flatten().min();
        (hour, limit)
    }
}

impl Mirrored for Counts {
    type Key = Scope;
    const PREFIX: &'static [u8] = rows::CEILING_COUNT.prefix;
}

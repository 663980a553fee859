//! The rates of the last minute: ended jobs and calls.
//!
//! The rule it keeps: a rate is the difference of two counts, divided by the time between them. Without two counts
//! there is no rate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;

/// The time between two counts.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time that a rate covers.
const SPAN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
struct Counts {
    finished: BTreeMap<String, u64>,
    calls: BTreeMap<String, u64>,
}

/// Rates per minute, over the last minute or, after a start, a shorter time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PerMinute {
    /// Ended jobs by outcome, and rejected messages.
    pub(super) finished: BTreeMap<String, f64>,
    /// Calls by system.
    pub(super) calls: BTreeMap<String, f64>,
}

/// The counts of the last minute.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<VecDeque<(Instant, Counts)>>);

impl Rates {
    /// Adds the present counts at intervals. Never returns.
    pub(super) async fn watch(&self, engine: &Arc<Engine>) {
        loop {
            self.add(Instant::now(), counts(engine));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn add(&self, now: Instant, counts: Counts) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((now, counts));
        while recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            recent.pop_front();
        }
    }

    pub(super) fn now(&self) -> PerMinute {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (recent.front(), recent.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                let minutes = to.duration_since(*from).as_secs_f64() / 60.0;
                let rate = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
                    let each = after.iter().map(|(name, count)| {
                        let added = count.saturating_sub(before.get(name).copied().unwrap_or_default());
                        (name.clone(), per_minute(added, minutes))
                    });
                    each.collect()
                };
                PerMinute {
                    finished: rate(&before.finished, &after.finished),
                    calls: rate(&before.calls, &after.calls),
                }
            }
            _ => PerMinute::default(),
        }
    }
}

/// Rounded to one decimal.
#[allow(clippy::cast_precision_loss, reason = "counts of a minute")]
fn per_minute(count: u64, minutes: f64) -> f64 {
    (count as f64 / minutes * 10.0).round() / 10.0
}

fn counts(engine: &Engine) -> Counts {
    let mut counts = Counts::default();
    for (family, _, word, count) in engine.figures().labelled() {
        if family == "jobs_finished" {
            *counts.finished.entry(word.to_owned()).or_default() += count;
        }
    }
    counts.calls = engine.gates().iter().map(|(name, gate)| (name.clone(), gate.view().calls)).collect();
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: u64) -> Counts {
        Counts { finished: [("completed".to_owned(), count)].into(), calls: BTreeMap::new() }
    }

    #[test]
    fn a_rate_is_the_increase_of_the_last_minute_and_needs_two_counts() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.now(), PerMinute::default());
        rates.add(start, counted(10));
        assert_eq!(rates.now(), PerMinute::default());
        rates.add(start + Duration::from_secs(30), counted(20));
        assert_eq!(rates.now().finished["completed"], 20.0);
        rates.add(start + Duration::from_secs(90), counted(20));
        assert_eq!(rates.now().finished["completed"], 0.0);
    }
}

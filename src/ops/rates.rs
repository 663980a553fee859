//! How fast work is done: jobs that ended and calls that were made in the last minute.
//!
//! The rule it keeps: a rate is the difference of two counts over the time between them, or, before
//! there are two, nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;

const EVERY: Duration = Duration::from_secs(5);
const SPAN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
struct Counts {
    finished: BTreeMap<String, u64>,
    calls: BTreeMap<String, u64>,
}

/// Figures a minute, over the last minute or as long as is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerMinute {
    /// Jobs that ended, by outcome, and rejected messages.
    pub finished: BTreeMap<String, f64>,
    /// Calls, by system.
    pub calls: BTreeMap<String, f64>,
}

/// Counts of the last minute.
#[derive(Debug, Default)]
pub struct Rates(Mutex<VecDeque<(Instant, Counts)>>);

impl Rates {
    /// Takes the counts now and then. Never returns.
    pub async fn watch(&self, engine: &Arc<Engine>) {
        loop {
            self.note(Instant::now(), counts(engine));
            tokio::time::sleep(EVERY).await;
        }
    }

    fn note(&self, now: Instant, counts: Counts) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((now, counts));
        while kept.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            kept.pop_front();
        }
    }

    /// The rates.
    pub fn now(&self) -> PerMinute {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (kept.front(), kept.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                let minutes = to.duration_since(*from).as_secs_f64() / 60.0;
                let rate = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
                    let each = after.iter().map(|(name, count)| {
                        let risen = count.saturating_sub(before.get(name).copied().unwrap_or_default());
                        (name.clone(), per(risen, minutes))
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

/// To one decimal.
#[allow(clippy::cast_precision_loss, reason = "counts of a minute")]
fn per(count: u64, minutes: f64) -> f64 {
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
    fn a_rate_is_the_rise_of_the_last_minute_and_nothing_before_two_counts() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.now(), PerMinute::default());
        rates.note(start, counted(10));
        assert_eq!(rates.now(), PerMinute::default());
        rates.note(start + Duration::from_secs(30), counted(20));
        assert_eq!(rates.now().finished["completed"], 20.0);
        rates.note(start + Duration::from_secs(90), counted(20));
        assert_eq!(rates.now().finished["completed"], 0.0);
    }
}

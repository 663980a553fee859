//! Heartbeats: they show whether the essential loops still run.
//!
//! The rule it keeps: a loop beats while it waits for work or for a broker that is down. Only a stuck loop stops
//! beating.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time between two beats of a waiting loop.
const BEAT: Duration = Duration::from_secs(5);

/// The last heartbeat of every loop that runs.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<BTreeMap<&'static str, Instant>>);

impl Pulse {
    /// Starts the heartbeat of a loop; it ends when the heart is dropped.
    pub fn of(&self, name: &'static str) -> Heart<'_> {
        let heart = Heart { pulse: self, name };
        heart.beat();
        heart
    }

    /// Every running loop, with the time since its last beat.
    pub fn ages(&self) -> Vec<(&'static str, Duration)> {
        let now = Instant::now();
        self.lock().iter().map(|(name, at)| (*name, now.saturating_duration_since(*at))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One loop's heart.
#[derive(Debug)]
pub struct Heart<'a> {
    pulse: &'a Pulse,
    name: &'static str,
}

impl Heart<'_> {
    /// Notes a beat.
    pub fn beat(&self) {
        self.pulse.lock().insert(self.name, Instant::now());
    }

    /// Beats during a wait that may take long.
    pub async fn during<F: Future>(&self, wait: F) -> F::Output {
        self.beating(BEAT, wait).await
    }

    async fn beating<F: Future>(&self, every: Duration, wait: F) -> F::Output {
        tokio::pin!(wait);
        loop {
            self.beat();
            if let Ok(output) = tokio::time::timeout(every, &mut wait).await {
                return output;
            }
        }
    }
}

impl Drop for Heart<'_> {
    fn drop(&mut self) {
        self.pulse.lock().remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_waits_beats_on_and_a_stuck_one_does_not() {
        let pulse = Pulse::default();
        let (waiting, _stuck) = (pulse.of("waiting"), pulse.of("stuck"));
        let beat = |name| pulse.lock()[name];
        let (first, stuck) = (beat("waiting"), beat("stuck"));
        // This wait ends only after two more beats.
        let two_more = async {
            let mut last = first;
            for _ in 0..2 {
                while beat("waiting") == last {
                    tokio::task::yield_now().await;
                }
                last = beat("waiting");
            }
        };
        waiting.beating(Duration::from_millis(1), two_more).await;
        assert_eq!(beat("stuck"), stuck);
        let ages: BTreeMap<_, _> = pulse.ages().into_iter().collect();
        assert!(ages["waiting"] < ages["stuck"], "{ages:?}");
    }

    #[tokio::test]
    async fn a_loop_that_ended_is_not_missed() {
        let pulse = Pulse::default();
        drop(pulse.of("done"));
        assert!(pulse.ages().is_empty());
    }
}

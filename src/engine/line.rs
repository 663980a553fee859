//! The line before a system: who waits for its rate or its slots, most urgent first.
//!
//! The rule it keeps: a place costs no more to find than there are days on which something is due.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{At, JobKey};

const DAY: i64 = 86_400_000;
/// A job that went to another worker never comes back to leave the line.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * 3600);

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    jobs: HashMap<JobKey, (Instant, i64)>,
    /// How many are due on each day; those without a due time are due last.
    days: BTreeMap<i64, u32>,
}

impl Line {
    /// Puts a job into the line, or finds it there: its place from 1. Those due on an earlier day
    /// are before it, and those of its own day that are already in line.
    pub fn join(&mut self, job: &JobKey, due: Option<At>, now: Instant) -> u32 {
        let day = due.map_or(i64::MAX, |due| due.0.div_euclid(DAY));
        if !self.jobs.contains_key(job) {
            // Now and then only: it looks at everybody.
            if self.jobs.len() > 1024 && self.jobs.len().is_power_of_two() {
                let gone: Vec<_> = self.jobs.iter().filter(|(_, (since, _))| now - *since >= FORGOTTEN_AFTER).collect();
                let gone: Vec<JobKey> = gone.into_iter().map(|(job, _)| job.clone()).collect();
                gone.iter().for_each(|job| self.leave(job));
            }
            self.jobs.insert(job.clone(), (now, day));
            *self.days.entry(day).or_default() += 1;
        }
        self.days.range(..=day).map(|(_, count)| count).sum()
    }

    /// Takes a job out of the line, where it stands in it.
    pub fn leave(&mut self, job: &JobKey) {
        let Some((_, day)) = self.jobs.remove(job) else { return };
        if let Some(count) = self.days.get_mut(&day) {
            *count -= 1;
            if *count == 0 {
                self.days.remove(&day);
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u128) -> JobKey {
        JobKey { tenant: "acme".to_owned(), job_id: uuid::Uuid::from_u128(number) }
    }

    fn day(number: i64) -> Option<At> {
        Some(At(number * DAY + 5))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_first_stands_first() {
        let (mut line, now) = (Line::default(), Instant::now());
        assert_eq!(line.join(&job(1), day(30), now), 1);
        assert_eq!(line.join(&job(2), None, now), 2, "without a due time: behind");
        assert_eq!(line.join(&job(3), day(30), now), 2, "on the same day: in the order of arrival");
        assert_eq!(line.join(&job(4), day(3), now), 1, "past the others");
        assert_eq!(line.join(&job(2), None, now), 4, "who is in line already is not counted twice");
        line.leave(&job(4));
        line.leave(&job(4));
        assert_eq!((line.join(&job(1), day(30), now), line.len()), (2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_comes_back_is_forgotten() {
        let (mut line, now) = (Line::default(), Instant::now());
        for number in 0..2048 {
            line.join(&job(number), day(1), now);
        }
        let place = line.join(&job(9999), day(2), now + FORGOTTEN_AFTER);
        assert_eq!((place, line.len()), (1, 1));
    }
}

//! The line before a system: the jobs that wait for its rate or slots, most urgent first.
//!
//! The rule it keeps: a redelivered job keeps its place, and a job that has begun is before those that have not. The
//! cost of finding a place grows only with the number of days on which jobs are due.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{At, JobKey};

const DAY: i64 = 86_400_000;
/// A job that went to another worker never leaves the line here; our own jobs are redelivered within an hour.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * 3600);
/// The pause between searches for such jobs: a search reads the whole line.
const SWEPT_EVERY: Duration = Duration::from_secs(600);

/// The order of the line: first the jobs that have begun, then by the day of the due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Calls were made for the job: it ends before others begin.
    Begun,
    /// The job is due on this day.
    Due(i64),
    /// The job has no due time.
    Undated,
}

impl Rank {
    /// A job's rank.
    pub fn of(has_begun: bool, due: Option<At>) -> Rank {
        match due {
            _ if has_begun => Rank::Begun,
            Some(due) => Rank::Due(due.0.div_euclid(DAY)),
            None => Rank::Undated,
        }
    }
}

#[derive(Debug)]
struct Place {
    since: Instant,
    rank: Rank,
    number: u32,
}

/// The jobs of one rank, in the order of arrival.
#[derive(Debug, Default)]
struct Row {
    came: u32,
    left: u32,
}

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    jobs: HashMap<JobKey, Place>,
    rows: BTreeMap<Rank, Row>,
    swept: Option<Instant>,
}

impl Line {
    /// Adds a job, or finds its place: from 1, after the jobs of an earlier rank and the earlier jobs of its own.
    /// Jobs that left early make the place too low. A job that is in the line with an earlier rank (of another
    /// target) keeps that rank.
    pub fn join(&mut self, job: &JobKey, rank: Rank, now: Instant) -> u32 {
        self.sweep(now);
        if self.jobs.get(job).is_none_or(|place| rank < place.rank) {
            self.leave(job);
            let row = self.rows.entry(rank).or_default();
            row.came += 1;
            self.jobs.insert(job.clone(), Place { since: now, rank, number: row.came });
        }
        let Some(place) = self.jobs.get_mut(job) else { return 1 };
        place.since = now;
        let before: u32 = self.rows.range(..place.rank).map(|(_, row)| row.came - row.left).sum();
        let left = self.rows.get(&place.rank).map_or(0, |row| row.left);
        before + place.number.saturating_sub(left).max(1)
    }

    /// At intervals, removes the jobs that were not redelivered.
    fn sweep(&mut self, now: Instant) {
        if now - *self.swept.get_or_insert(now) < SWEPT_EVERY {
            return;
        }
        self.swept = Some(now);
        let is_gone = |place: &Place| now - place.since >= FORGOTTEN_AFTER;
        let gone = self.jobs.iter().filter(|(_, place)| is_gone(place)).map(|(job, _)| job.clone());
        let gone: Vec<JobKey> = gone.collect();
        gone.iter().for_each(|job| self.leave(job));
    }

    /// Removes a job, if it is in the line.
    pub fn leave(&mut self, job: &JobKey) {
        let Some(Place { rank, .. }) = self.jobs.remove(job) else { return };
        if let Some(row) = self.rows.get_mut(&rank) {
            row.left += 1;
            if row.left == row.came {
                self.rows.remove(&rank);
            }
        }
    }

    /// The number of jobs in the line.
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

    fn due(day: i64) -> Rank {
        Rank::of(false, Some(At(day * DAY + 5)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_or_is_due_first_stands_first() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (begun, undated) = (Rank::of(true, None), Rank::of(false, None));
        assert_eq!(line.join(&job(1), due(30), now), 1);
        assert_eq!(line.join(&job(2), undated, now), 2, "without a due time: behind");
        assert_eq!(line.join(&job(3), due(30), now), 2, "on the same day: in the order of arrival");
        assert_eq!(line.join(&job(4), due(3), now), 1, "past the others");
        assert_eq!(line.join(&job(5), begun, now), 1, "past everybody");
        assert_eq!(line.join(&job(2), undated, now), 5, "who is in line already is not counted twice");
        assert_eq!(line.join(&job(3), begun, now), 2, "it has begun since");
        line.leave(&job(4));
        line.leave(&job(4));
        assert_eq!((line.join(&job(1), due(30), now), line.len()), (3, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_stands_where_it_stood_and_moves_up_as_others_leave() {
        let (mut line, now) = (Line::default(), Instant::now());
        for number in 1..=1000 {
            assert_eq!(u128::from(line.join(&job(number), due(1), now)), number);
        }
        for number in 1..=400 {
            line.leave(&job(number));
        }
        assert_eq!(line.join(&job(700), due(1), now), 300);
        assert_eq!(line.join(&job(1), due(1), now), 601, "who left comes back last");
        line.leave(&job(900));
        assert_eq!(line.join(&job(402), due(1), now), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_comes_back_is_forgotten() {
        let (mut line, now) = (Line::default(), Instant::now());
        for number in 0..1500 {
            line.join(&job(number), due(1), now);
        }
        let place = line.join(&job(9999), due(2), now + FORGOTTEN_AFTER);
        assert_eq!((place, line.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_of_two_targets_keeps_the_better_of_its_places_and_moves_nobody() {
        let (mut line, now) = (Line::default(), Instant::now());
        for number in 1..=100 {
            line.join(&job(number), due(1), now);
        }
        for _ in 0..50 {
            assert_eq!(line.join(&job(100), Rank::Begun, now), 1);
            assert_eq!(line.join(&job(100), due(1), now), 1);
        }
        assert_eq!(line.join(&job(50), due(1), now), 50, "one went before it, and left its row");
    }
}

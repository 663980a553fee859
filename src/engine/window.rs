//! A window of calls: at most so many begin in any minute.
//!
//! The rule it keeps: calls of about one moment are counted as if all had begun at its end, so that what a
//! window takes in memory does not grow with the rate, and a minute never has more calls than are allowed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// What is counted together.
const MOMENT: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Moment {
    first: Instant,
    last: Instant,
    calls: usize,
}

/// The calls that began within the last minute, or will soon.
#[derive(Debug, Default)]
pub struct Window {
    moments: VecDeque<Moment>,
    calls: usize,
}

impl Window {
    /// Takes the next free start, unless it is after `deadline`: then `Err` tells when it would be.
    pub fn reserve(&mut self, limit: usize, now: Instant, deadline: Instant) -> Result<Instant, Instant> {
        while let Some(moment) = self.moments.front().filter(|moment| moment.last + MINUTE <= now) {
            self.calls -= moment.calls;
            self.moments.pop_front();
        }
        let start = match self.moments.front() {
            Some(moment) if self.calls >= limit.max(1) => moment.last + MINUTE,
            _ => now,
        };
        if start > deadline {
            return Err(start);
        }
        if self.calls >= limit.max(1) {
            self.forget_oldest();
        }
        self.calls += 1;
        match self.moments.back_mut() {
            Some(moment) if start < moment.first + MOMENT => {
                moment.last = moment.last.max(start);
                moment.calls += 1;
            }
            _ => self.moments.push_back(Moment { first: start, last: start, calls: 1 }),
        }
        Ok(start)
    }

    /// Its place was given to the start just reserved.
    fn forget_oldest(&mut self) {
        if let Some(moment) = self.moments.front_mut() {
            moment.calls -= 1;
            self.calls -= 1;
            if moment.calls == 0 {
                self.moments.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// Lets callers come by, and returns when calls began.
    fn starts(limit: usize, callers: usize, longest_pause_ms: u64) -> Vec<Instant> {
        let mut random = StdRng::seed_from_u64(limit as u64);
        let (mut window, mut now, mut starts) = (Window::default(), Instant::now(), Vec::new());
        for _ in 0..callers {
            now += Duration::from_millis(random.random_range(0..=longest_pause_ms));
            starts.extend(window.reserve(limit, now, now + Duration::from_secs(2)));
        }
        starts
    }

    #[test]
    fn no_minute_has_more_calls_than_are_allowed() {
        for (limit, callers, pause) in [(1, 50, 20_000), (50, 3_000, 200), (600, 20_000, 20), (60_000, 200_000, 1)] {
            let starts = starts(limit, callers, pause);
            let mut sorted = starts.clone();
            sorted.sort();
            let too_near = sorted.windows(limit + 1).filter(|calls| calls[limit] - calls[0] < MINUTE).count();
            assert_eq!(too_near, 0, "{limit} a minute");
            assert!(sorted.len() > limit, "{limit} a minute: the limit was never met");
        }
    }

    #[test]
    fn a_full_window_is_used_to_its_last_call_and_tells_when_the_next_is_free() {
        let (mut window, begin) = (Window::default(), Instant::now());
        for number in 0..50 {
            let now = begin + Duration::from_secs(number);
            assert_eq!(window.reserve(50, now, now), Ok(now));
        }
        let now = begin + Duration::from_secs(59);
        assert_eq!(window.reserve(50, now, now), Err(begin + MINUTE));
        let later = now + Duration::from_secs(2);
        assert_eq!(window.reserve(50, now, later), Ok(begin + MINUTE));
        assert_eq!(window.reserve(50, now, later), Ok(begin + MINUTE + Duration::from_secs(1)));
        assert_eq!(window.reserve(50, now, later), Err(begin + MINUTE + Duration::from_secs(2)));
        let long_after = begin + 3 * MINUTE;
        assert_eq!(window.reserve(50, long_after, long_after), Ok(long_after));
    }

    #[test]
    fn its_size_does_not_grow_with_the_rate() {
        let (mut window, begin) = (Window::default(), Instant::now());
        for number in 0..500_000 {
            let now = begin + Duration::from_micros(number * 100);
            window.reserve(1_000_000, now, now).unwrap();
        }
        assert!(window.moments.len() <= 6_000, "{}", window.moments.len());
        assert_eq!(window.calls, 500_000);
    }
}

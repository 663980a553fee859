//! A window of calls: at most so many start in any minute.
//!
//! The rule it keeps: calls of about one moment are counted as if all started at its end. So the memory of a window
//! does not grow with the rate, and no minute has more calls than allowed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A minute, and the time between a call's start here and its arrival: a timer's delay, a new connection.
const SPAN: Duration = Duration::from_millis(60_250);
/// Calls within this time are counted together.
const MOMENT: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Moment {
    first: Instant,
    last: Instant,
    calls: usize,
}

/// The calls that started within the last minute, or will start soon.
#[derive(Debug, Default)]
pub struct Window {
    moments: VecDeque<Moment>,
    calls: usize,
}

impl Window {
    /// The time at which this many more calls may start together. If they alone are more than the limit, they may
    /// start when the window is empty.
    pub fn next(&mut self, limit: usize, now: Instant, calls: usize) -> Instant {
        while let Some(moment) = self.moments.front().filter(|moment| moment.last + SPAN <= now) {
            self.calls -= moment.calls;
            self.moments.pop_front();
        }
        let mut must_go = (self.calls + calls.min(limit)).saturating_sub(limit);
        for moment in &self.moments {
            if must_go == 0 {
                break;
            }
            must_go = must_go.saturating_sub(moment.calls);
            if must_go == 0 {
                return (moment.last + SPAN).max(now);
            }
        }
        now
    }

    /// Notes the start of a call; in a full window it replaces the oldest one.
    pub fn add(&mut self, limit: usize, start: Instant) {
        if self.calls >= limit
            && let Some(oldest) = self.moments.front_mut()
        {
            self.calls -= 1;
            oldest.calls -= 1;
            if oldest.calls == 0 {
                self.moments.pop_front();
            }
        }
        self.calls += 1;
        match self.moments.back_mut() {
            Some(moment) if start < moment.first + MOMENT => {
                moment.last = moment.last.max(start);
                moment.calls += 1;
            }
            _ => self.moments.push_back(Moment { first: start, last: start, calls: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Reserves this many starts if they are soon enough; `Err`: the time at which they would be.
    fn reserve(
        window: &mut Window,
        limit: usize,
        now: Instant,
        calls: usize,
        wait: Duration,
    ) -> Result<Instant, Instant> {
        let start = window.next(limit, now, calls);
        if start > now + wait {
            return Err(start);
        }
        (0..calls).for_each(|_| window.add(limit, start));
        Ok(start)
    }

    /// Simulates callers, and returns the starts of their calls.
    fn starts(limit: usize, callers: usize, longest_pause_ms: u64) -> Vec<Instant> {
        let mut random = StdRng::seed_from_u64(limit as u64);
        let (mut window, mut now, mut starts) = (Window::default(), Instant::now(), Vec::new());
        for _ in 0..callers {
            now += Duration::from_millis(random.random_range(0..=longest_pause_ms));
            let calls = random.random_range(1..=limit.min(3));
            let start = reserve(&mut window, limit, now, calls, 2 * SECOND);
            starts.extend(start.into_iter().flat_map(|start| std::iter::repeat_n(start, calls)));
        }
        starts
    }

    #[test]
    fn no_minute_has_more_calls_than_are_allowed() {
        for (limit, callers, pause) in [(1, 50, 20_000), (50, 3_000, 200), (600, 20_000, 20), (60_000, 200_000, 1)] {
            let mut starts = starts(limit, callers, pause);
            starts.sort();
            let too_near = starts.windows(limit + 1).filter(|calls| calls[limit] - calls[0] < SPAN).count();
            assert_eq!(too_near, 0, "{limit} a minute");
            assert!(starts.len() > limit, "{limit} a minute: the limit was never met");
        }
    }

    #[test]
    fn a_full_window_is_used_to_its_last_call_and_tells_when_the_next_is_free() {
        let (mut window, begin) = (Window::default(), Instant::now());
        for number in 0..50 {
            let now = begin + number * SECOND;
            assert_eq!(reserve(&mut window, 50, now, 1, Duration::ZERO), Ok(now));
        }
        let now = begin + 59 * SECOND;
        assert_eq!(reserve(&mut window, 50, now, 1, SECOND), Err(begin + SPAN));
        assert_eq!(reserve(&mut window, 50, now, 1, 3 * SECOND), Ok(begin + SPAN));
        assert_eq!(reserve(&mut window, 50, now, 2, 3 * SECOND), Err(begin + SPAN + 2 * SECOND));
        assert_eq!(reserve(&mut window, 50, now, 1, 3 * SECOND), Ok(begin + SPAN + SECOND));
        let long_after = begin + 200 * SECOND;
        assert_eq!(reserve(&mut window, 50, long_after, 50, Duration::ZERO), Ok(long_after));
        assert_eq!(reserve(&mut window, 50, long_after, 1, Duration::ZERO), Err(long_after + SPAN));
    }

    #[test]
    fn more_at_once_than_the_limit_wait_for_an_empty_window() {
        let (mut window, begin) = (Window::default(), Instant::now());
        assert_eq!(reserve(&mut window, 1, begin, 2, Duration::ZERO), Ok(begin));
        assert_eq!(reserve(&mut window, 1, begin, 1, Duration::ZERO), Err(begin + SPAN));
    }

    #[test]
    fn its_size_does_not_grow_with_the_rate() {
        let (mut window, begin) = (Window::default(), Instant::now());
        for number in 0..500_000 {
            let now = begin + Duration::from_micros(number * 100);
            assert_eq!(reserve(&mut window, 1_000_000, now, 1, Duration::ZERO), Ok(now));
        }
        assert!(window.moments.len() <= 6_000, "{}", window.moments.len());
        assert_eq!(window.calls, 500_000);
    }
}

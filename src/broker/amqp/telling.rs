//! A trouble in the log: at once, at each new reason, and at growing intervals while it lasts.
//!
//! The rule it keeps: a lasting trouble is logged at least once an hour, and never fills the log.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause between two log lines about one trouble; it doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// The log state of a trouble.
#[derive(Debug, Default)]
pub(super) struct Telling(Option<Told>);

#[derive(Debug)]
struct Told {
    why: String,
    since: Instant,
    next: Instant,
    every: Duration,
}

impl Telling {
    /// Notes that the trouble is there, with this reason. If a log line is due: its duration.
    pub(super) fn lasts(&mut self, why: &str, now: Instant) -> Option<Duration> {
        let told = self.0.get_or_insert_with(|| Told { why: String::new(), since: now, next: now, every: AGAIN });
        if told.why != why {
            why.clone_into(&mut told.why);
            (told.next, told.every) = (now, AGAIN);
        }
        if told.next > now {
            return None;
        }
        told.next = now + told.every;
        told.every = (told.every * 2).min(LONGEST);
        Some(now - told.since)
    }

    /// Notes the end of the trouble. If it was there: its duration.
    pub(super) fn over(&mut self, now: Instant) -> Option<Duration> {
        self.0.take().map(|told| now - told.since)
    }

    /// The trouble's reason, while it is there.
    pub(super) fn why(&self) -> Option<&str> {
        self.0.as_ref().map(|told| told.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_at_once_at_each_new_reason_and_ever_more_seldom_but_each_hour() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        let mut told = Vec::new();
        // An attempt each half minute, for a day.
        for half_minute in 0..2880 {
            let now = begin + Duration::from_secs(30 * half_minute);
            let why = if half_minute < 7 { "refused" } else { "no such name" };
            if let Some(lasts) = telling.lasts(why, now) {
                assert_eq!(lasts, now - begin);
                told.push(30 * half_minute);
            }
        }
        assert_eq!(told[..8], [0, 60, 180, 210, 270, 390, 630, 1110]);
        assert!(told.windows(2).all(|two| two[1] - two[0] <= 3600), "{told:?}");
        assert!(told.len() < 40, "{}", told.len());
        assert_eq!(telling.why(), Some("no such name"));
        assert_eq!(telling.over(begin + Duration::from_secs(9)), Some(Duration::from_secs(9)));
        assert_eq!(telling.over(begin), None);
        assert_eq!(telling.why(), None);
        assert_eq!(telling.lasts("refused", begin), Some(Duration::ZERO));
    }
}

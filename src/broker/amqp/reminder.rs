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
pub(super) struct Reminder(Option<Trouble>);

#[derive(Debug)]
struct Trouble {
    why: String,
    since: Instant,
    next: Instant,
    every: Duration,
}

impl Reminder {
    /// Notes that the trouble is there, with this reason. If a log line is due: its duration.
    pub(super) fn lasts(&mut self, why: &str, now: Instant) -> Option<Duration> {
        let trouble = self.0.get_or_insert_with(|| Trouble { why: String::new(), since: now, next: now, every: AGAIN });
        if trouble.why != why {
            why.clone_into(&mut trouble.why);
            (trouble.next, trouble.every) = (now, AGAIN);
        }
        if trouble.next > now {
            return None;
        }
        trouble.next = now + trouble.every;
        trouble.every = (trouble.every * 2).min(LONGEST);
        Some(now - trouble.since)
    }

    /// Notes the end of the trouble. If it was there: its duration.
    pub(super) fn over(&mut self, now: Instant) -> Option<Duration> {
        self.0.take().map(|trouble| now - trouble.since)
    }

    /// The trouble's reason, while it is there.
    pub(super) fn why(&self) -> Option<&str> {
        self.0.as_ref().map(|trouble| trouble.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_at_once_at_each_new_reason_and_ever_more_seldom_but_each_hour() {
        let (mut reminder, begin) = (Reminder::default(), Instant::now());
        let mut trouble = Vec::new();
        // An attempt each half minute, for a day.
        for half_minute in 0..2880 {
            let now = begin + Duration::from_secs(30 * half_minute);
            let why = if half_minute < 7 { "refused" } else { "no such name" };
            if let Some(lasts) = reminder.lasts(why, now) {
                assert_eq!(lasts, now - begin);
                trouble.push(30 * half_minute);
            }
        }
        assert_eq!(trouble[..8], [0, 60, 180, 210, 270, 390, 630, 1110]);
        assert!(trouble.windows(2).all(|two| two[1] - two[0] <= 3600), "{trouble:?}");
        assert!(trouble.len() < 40, "{}", trouble.len());
        assert_eq!(reminder.why(), Some("no such name"));
        assert_eq!(reminder.over(begin + Duration::from_secs(9)), Some(Duration::from_secs(9)));
        assert_eq!(reminder.over(begin), None);
        assert_eq!(reminder.why(), None);
        assert_eq!(reminder.lasts("refused", begin), Some(Duration::ZERO));
    }
}

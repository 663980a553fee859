//! The due time of an erasure under a law, by the law's own calendar.
//!
//! The rule it keeps: the day is that of the request's own offset, and the time of day stays. So the due time is
//! never later than the end of the last day.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// The state of an open job with regard to its due time.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// Little time is left.
    AtRisk,
    /// No time is left.
    Overdue,
}

impl Deadline {
    /// Both.
    pub const ALL: [Deadline; 2] = [Deadline::AtRisk, Deadline::Overdue];

    /// The word in events and for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Deadline::AtRisk => "at_risk",
            Deadline::Overdue => "overdue",
        }
    }
}

/// The length of a law's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Until the same date of a later month; if that month has no such date, until its last day.
    Months(u32),
    /// Calendar days.
    Days(u32),
}

/// A law's term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The length.
    pub length: Length,
    /// True if a last day that is no working day moves to the next one.
    pub working_day: bool,
    /// Days off besides Saturdays and Sundays.
    pub holidays: BTreeSet<Date>,
}

impl Term {
    /// The term of a law without configuration: one month that ends on a working day (GDPR Art. 12(3) with Regulation
    /// 1182/71 Art. 3, and the UK's), or 45 calendar days (CCPA).
    pub fn built_in(regulation: &str) -> Option<Term> {
        let (length, working_day) = match regulation {
            "gdpr" | "uk_gdpr" => (Length::Months(1), true),
            "ccpa" => (Length::Days(45), false),
            _ => return None,
        };
        Some(Term { length, working_day, holidays: BTreeSet::new() })
    }

    /// A term of this many calendar days.
    pub const fn days(days: u32) -> Term {
        Term { length: Length::Days(days), working_day: false, holidays: BTreeSet::new() }
    }

    /// The due time of a request at that time, with that offset. `None` beyond the calendar's end.
    pub fn due(&self, requested_at: Timestamp, offset: Offset) -> Option<Timestamp> {
        let local = offset.to_datetime(requested_at);
        let span = match self.length {
            Length::Months(months) => Span::new().try_months(months).ok()?,
            Length::Days(days) => Span::new().try_days(days).ok()?,
        };
        let mut day = local.date().checked_add(span).ok()?;
        while self.working_day && self.is_day_off(day) {
            day = day.tomorrow().ok()?;
        }
        offset.to_timestamp(day.to_datetime(local.time())).ok()
    }

    fn is_day_off(&self, day: Date) -> bool {
        matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) || self.holidays.contains(&day)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The due time of a request at this time, at this offset in hours.
    fn due(regulation: &str, requested: &str, hours: i8, holidays: &[&str]) -> String {
        let mut term = Term::built_in(regulation).unwrap();
        term.holidays = holidays.iter().map(|day| day.parse().unwrap()).collect();
        term.due(requested.parse().unwrap(), jiff::tz::offset(hours)).unwrap().to_string()
    }

    #[test]
    fn a_month_ends_on_the_same_date_of_the_next_one() {
        assert_eq!(due("gdpr", "2026-09-03T10:00:00Z", 0, &[]), "2026-10-05T10:00:00Z", "the third is a Saturday");
        assert_eq!(due("gdpr", "2026-10-05T10:00:00Z", 0, &[]), "2026-11-05T10:00:00Z");
        assert_eq!(due("uk_gdpr", "2026-12-07T10:00:00Z", 0, &[]), "2027-01-07T10:00:00Z");
    }

    #[test]
    fn a_month_without_that_date_ends_the_term_on_its_last_day() {
        assert_eq!(due("gdpr", "2025-12-31T10:00:00Z", 0, &[]), "2026-02-02T10:00:00Z", "31 January is a Saturday");
        assert_eq!(due("gdpr", "2024-01-31T10:00:00Z", 0, &[]), "2024-02-29T10:00:00Z", "a leap year");
        assert_eq!(due("gdpr", "2027-08-31T23:59:59Z", 0, &[]), "2027-09-30T23:59:59Z");
    }

    #[test]
    fn a_last_day_nobody_works_on_moves_to_the_next_working_day() {
        // 25 December 2026 is a Friday, the 28th a Monday.
        let christmas = ["2026-12-25", "2026-12-28"];
        assert_eq!(due("gdpr", "2026-11-25T08:00:00Z", 0, &[]), "2026-12-25T08:00:00Z");
        assert_eq!(due("gdpr", "2026-11-25T08:00:00Z", 0, &christmas), "2026-12-29T08:00:00Z");
    }

    #[test]
    fn forty_five_days_are_calendar_days() {
        assert_eq!(due("ccpa", "2026-11-11T10:00:00Z", 0, &["2026-12-26"]), "2026-12-26T10:00:00Z", "a Saturday");
    }

    #[test]
    fn the_day_is_that_of_the_requests_own_offset() {
        // Still 31 January in New York, and already February in Greenwich.
        assert_eq!(due("gdpr", "2027-02-01T03:00:00Z", -5, &[]), "2027-03-02T03:00:00Z", "28 February is a Sunday");
        assert_eq!(due("gdpr", "2027-02-01T03:00:00Z", 0, &[]), "2027-03-01T03:00:00Z");
    }

    #[test]
    fn beyond_the_calendar_there_is_no_due_time() {
        let term = Term::built_in("gdpr").unwrap();
        assert_eq!(term.due(Timestamp::MAX, Offset::UTC), None);
    }
}

//! The times that a message may have, by the clock of the worker that takes it.
//!
//! The rule it keeps: a past event is not in the future, and a due time is not so far away that no warning would ever
//! come. This is checked once, when the message is accepted: the clock may be set back later.

use jiff::{SignedDuration, Timestamp};

use super::cursor::Invalid;
use super::kinds::Spec;
use super::model::{Confirmation, Job};

/// The most by which a sender's clock, or its time zone, may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);
/// The most by which a due time may be ahead: ten years.
const TERM: SignedDuration = SignedDuration::from_hours(24 * 3653);
/// The beginning of the year 2000, in seconds since 1970. No request is older: an earlier time is a default or a
/// fault.
const FIRST: i64 = 946_684_800;

/// The fault in the time of a past event.
pub fn past(at: Timestamp, now: Timestamp) -> Result<(), &'static str> {
    within(at, now, AHEAD, "is more than 24 hours ahead of this worker's clock; expected a time that has passed")
}

fn within(at: Timestamp, now: Timestamp, most: SignedDuration, beyond: &'static str) -> Result<(), &'static str> {
    if at.as_second() < FIRST {
        return Err("is before the year 2000; expected the time itself");
    }
    if at.duration_since(now) > most { Err(beyond) } else { Ok(()) }
}

impl Job {
    /// Refuses a job whose times cannot be true.
    ///
    /// # Errors
    /// The first such time, and what was expected there.
    pub fn check_times(&self, now: Timestamp) -> Result<(), Invalid> {
        let past = |path: String, at| past(at, now).map_err(|expected| Invalid::at(path, expected));
        let confirmed = |before: &str, confirmation: &Option<Confirmation>| {
            let at = confirmation.as_ref().map(|confirmation| confirmation.confirmed_at);
            at.map_or(Ok(()), |at| past(format!("{before}confirmation.confirmed_at"), at))
        };
        past("requested_at".to_owned(), self.requested_at)?;
        if let Some(due_at) = self.due_at {
            within(due_at, now, TERM, "is more than ten years ahead; expected the day by which it must be done")
                .map_err(|expected| Invalid::at("due_at", expected))?;
        }
        confirmed("", &self.confirmation)?;
        for (index, target) in self.targets.iter().enumerate() {
            confirmed(&format!("targets[{index}]."), &target.confirmation)?;
            let Spec::VitalSource { codes, .. } = &target.spec else { continue };
            for (code, redeemed_at) in codes.iter().enumerate().filter_map(|(code, it)| Some((code, it.redeemed_at?))) {
                past(format!("targets[{index}].codes[{code}].redeemed_at"), redeemed_at)?;
            }
        }
        Ok(())
    }
}

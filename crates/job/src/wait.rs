//! A job's standstill, and the reports about it.
//!
//! The rule it keeps: a long wait is reported at growing intervals, each report once, whichever worker has the job
//! and however often it is delivered. A clock that is put back repeats no report.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flow::Limits;
use super::journal::At;
use super::outcome::{InputKind, Reason};
use super::state::TargetState;

/// The reason why a job waits.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// A failed attempt's pause.
    Retry,
    /// A deletion is still visible.
    Pending,
    /// An input of a person.
    Input,
    /// A system's rate limit or slots.
    RateLimit,
    /// A system is held or its breaker is open.
    Held,
    /// It was in hand for long: its delivery is renewed.
    Renewal,
    /// An operator paused the system or the tenant.
    Paused,
    /// The job is above a ceiling: an operator releases or discards it.
    Guard,
}

impl Waiting {
    /// Every reason.
    pub const ALL: [Waiting; 8] = [
        Waiting::Retry,
        Waiting::Pending,
        Waiting::Input,
        Waiting::RateLimit,
        Waiting::Held,
        Waiting::Renewal,
        Waiting::Paused,
        Waiting::Guard,
    ];

    /// The word in events, metrics and for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Waiting::Retry => "retry",
            Waiting::Pending => "pending",
            Waiting::Input => "input",
            Waiting::RateLimit => "rate_limit",
            Waiting::Held => "held",
            Waiting::Renewal => "renewal",
            Waiting::Paused => "paused",
            Waiting::Guard => "guard",
        }
    }

    /// The end of the wait: `attempt`, `read_back`, `turn`, `probe` and `go_on` happen by themselves; `input`,
    /// `resume` and `release` need a person.
    pub const fn then(self) -> &'static str {
        match self {
            Waiting::Retry => "attempt",
            Waiting::Pending => "read_back",
            Waiting::Input => "input",
            Waiting::RateLimit => "turn",
            Waiting::Held => "probe",
            Waiting::Renewal => "go_on",
            Waiting::Paused => "resume",
            Waiting::Guard => "release",
        }
    }
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The lengths of a standstill at which it is reported: so at most this many reports.
pub const REPORT_AFTER: [Duration; 7] = [
    Duration::from_secs(HOUR / 4),
    Duration::from_secs(4 * HOUR),
    Duration::from_secs(DAY),
    Duration::from_secs(3 * DAY),
    Duration::from_secs(7 * DAY),
    Duration::from_secs(14 * DAY),
    Duration::from_secs(28 * DAY),
];

/// The number of first entries of [`REPORT_AFTER`] without a report: these waits were reported by an event of their own
/// at their beginning.
const fn passed_over(why: Waiting) -> u8 {
    if matches!(why, Waiting::Input | Waiting::Guard) { 2 } else { 0 }
}

/// A waiting job without progress: it may wait for several reasons one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standstill {
    /// The run.
    pub run: u32,
    /// Its number, from 1. It rises with each standstill.
    pub turn: u32,
    /// The job's progress, see [`score`].
    pub score: u32,
    /// The time of its beginning.
    pub since: At,
    /// The number of entries of [`REPORT_AFTER`] that were reported or are over.
    #[serde(rename = "told")]
    pub reported: u8,
}

impl Standstill {
    /// Adopts another worker's newer knowledge.
    pub fn adopt(&mut self, other: &Standstill) {
        match (other.run, other.turn).cmp(&(self.run, self.turn)) {
            Ordering::Less => {}
            Ordering::Greater => *self = *other,
            Ordering::Equal => {
                self.score = self.score.max(other.score);
                self.since = self.since.min(other.since);
                self.reported = self.reported.max(other.reported);
            }
        }
    }

    /// The time since which nothing has changed, if it is known.
    pub fn shown(&self) -> Option<At> {
        (self.turn > 0).then_some(self.since)
    }

    /// Ends the standstill: a later wait is another one.
    pub fn end(&mut self, now: At) {
        self.turn = self.turn.saturating_add(1);
        (self.since, self.reported) = (now, 0);
    }

    /// The job is about to wait. If it has progressed since its last wait, this is another standstill.
    pub fn begin(&mut self, run: u32, score: u32, now: At) {
        if self.run < run || (self.run == run && self.score < score) {
            self.end(now);
            (self.run, self.score) = (run, score);
        }
        // The clock was put back: the wait counts from now, and past reports stay reported.
        self.since = self.since.min(now);
    }

    /// True if the wait must be reported now; it then counts as reported.
    pub fn report_due(&mut self, why: Waiting, now: At) -> bool {
        let waited = now.since(self.since);
        let due = REPORT_AFTER.iter().filter(|after| waited >= **after).count();
        let due = u8::try_from(due).unwrap_or(u8::MAX);
        let is_due = due > self.reported.max(passed_over(why));
        if is_due {
            self.reported = due;
        }
        is_due
    }
}

/// A job's progress: steps done for good, inputs asked for, approvals and releases. A lost store knows less; learning
/// it again is no progress.
pub fn score(targets: &[TargetState]) -> u32 {
    let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
    let of = |target: &TargetState| {
        let acts = target.names().filter(|name| name.needs_intent());
        let done: usize = acts.map(|name| target.all(name).iter().filter(|step| step.is_done()).count()).sum();
        // An approval ends its request, and counts more.
        let approved = 2 * usize::from(target.approving.approved.is_some());
        let rest = usize::from(target.end.is_some()) + usize::from(target.let_through.is_some());
        count(done + approved + rest + target.asked.len())
    };
    targets.iter().map(of).fold(0, u32::saturating_add)
}

/// The time at which the first open target fails if nothing changes, and the reason; `None` if such a wait has no end
/// of its own. A failing step fails at its next failed attempt after that.
pub fn gives_up(
    why: Waiting,
    announced: &[(u16, InputKind)],
    targets: &[TargetState],
    limits: &Limits,
) -> Option<(At, Reason)> {
    let open = (0_u16..).zip(targets).filter(|(_, target)| target.end.is_none());
    let of = |(index, target): (u16, &TargetState)| match why {
        Waiting::Input => {
            let kinds = announced.iter().filter(|(target, _)| *target == index).map(|(_, kind)| kind);
            let asked = kinds.filter_map(|kind| target.asked.get(kind)).min()?;
            Some((asked.plus(limits.input_max), Reason::InputNeverCame))
        }
        Waiting::Pending => {
            let acts = target.names().filter(|name| name.needs_intent()).flat_map(|name| target.all(name));
            let acted = acts.map(|step| step.answered_at.max(step.intent_at).max(step.last_failed_at)).max()?;
            Some((acted.max(target.run_began_at).plus(limits.pending_max), Reason::NotGone))
        }
        Waiting::Retry => {
            let failing = target.names().flat_map(|name| target.all(name));
            let ends = failing.filter(|step| step.first_failed_at != At::default()).filter_map(|step| {
                let (_, reason) = step.failure?;
                Some((step.first_failed_at.plus(limits.max_elapsed), reason))
            });
            ends.min_by_key(|(at, _)| *at)
        }
        Waiting::RateLimit | Waiting::Held | Waiting::Renewal | Waiting::Paused | Waiting::Guard => None,
    };
    open.filter_map(of).min_by_key(|(at, _)| *at)
}

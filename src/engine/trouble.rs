//! A system's state, from the results of its calls: its hold, its breaker, the pause that it asked for, and the steps
//! that fail for all jobs.
//!
//! The rule it keeps: one job's failures alone never close a system for other jobs. A failed harmless read closes it;
//! a working one opens it again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{Failure, FailureKind, JobKey, Note, Reason, StepName};

/// Failures in a row that open the breaker.
const BREAKER_FAILURES: u32 = 5;
const BREAKER_LONGEST: Duration = Duration::from_secs(30);
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);
/// A step that failed for this many jobs in a row, without a success in between, fails for all jobs.
const JOBS_IN_A_ROW: usize = 3;
/// A pause above this is reported.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// A doubt is dropped after this if no read settles it.
const DOUBT_LONGEST: Duration = Duration::from_secs(1);
/// The first pause between two log lines about one trouble; it doubles up to the longest.
const LOG_AGAIN: Duration = Duration::from_secs(60);
const TOLD_LONGEST: Duration = Duration::from_secs(3600);

/// The kind of a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImpairmentKind {
    /// Our credential or address is refused: an operator must act.
    Held,
    /// It does not answer, or its answers are unreadable.
    Failing,
    /// It asked for a long pause.
    Paused,
    /// It answers, but one step fails for all jobs.
    StepFailing,
}

impl ImpairmentKind {
    /// The word in `/readyz`, `/v1/systems` and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            ImpairmentKind::Held => "system_held",
            ImpairmentKind::Failing => "system_failing",
            ImpairmentKind::Paused => "system_paused",
            ImpairmentKind::StepFailing => "step_failing",
        }
    }
}

/// A trouble as operators see it.
#[derive(Debug, Clone)]
pub struct Impairment {
    /// The kind.
    pub what: ImpairmentKind,
    /// The description.
    pub detail: Note,
    /// Its duration.
    pub lasts: Duration,
}

/// A hold: no call goes to the system.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub since: Instant,
    /// The refusal.
    pub note: Note,
}

/// The pause that the system asked for.
#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    until: Instant,
}

/// A step that has failed, without a success since.
#[derive(Debug)]
struct Row {
    since: Instant,
    jobs: Vec<JobKey>,
    note: Note,
}

/// The log line of a trouble, and the time of its next repetition.
#[derive(Debug)]
struct Line {
    what: ImpairmentKind,
    next: Instant,
    every: Duration,
}

/// The known state of a system.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pause: Option<Pause>,
    hold: Option<Hold>,
    /// A refusal that may concern one job only: no call until a harmless read has decided.
    is_doubted: bool,
    failures: u32,
    /// The time of the first failure in the row.
    failing_since: Option<Instant>,
    open_until: Option<Instant>,
    /// The number of openings in a row.
    openings: u32,
    /// True if a harmless read has failed since the breaker opened.
    is_confirmed: bool,
    note: Note,
    /// The beginning of the latest answered call.
    worked_at: Option<Instant>,
    /// The latest harmless read: its beginning, and whether it worked.
    probed: Option<(Instant, bool)>,
    probe_at: Option<Instant>,
    steps: BTreeMap<StepName, Row>,
    /// Jobs whose last call is made once more because the system works.
    last_calls: HashMap<(JobKey, usize), StepName>,
    line: Option<Line>,
}

/// True for a failure that says nothing about the person: it may concern all jobs.
pub(super) fn may_be_everybodys(failure: &Failure) -> bool {
    use FailureKind as K;
    match failure.kind {
        K::Unavailable | K::Ambiguous | K::Unreadable | K::UnauthorisedOurs => true,
        K::Rejected => failure.reason == Reason::RequestRejected,
        K::RateLimited | K::UnauthorisedTheirs(_) | K::Refused => false,
    }
}

impl Trouble {
    /// The time until which no call is allowed, if it is known; `Err`: the hold.
    pub fn closed_until(&self, now: Instant) -> Result<Option<Instant>, &Hold> {
        if let Some(hold) = &self.hold {
            return Err(hold);
        }
        let paused = self.pause.map(|pause| pause.until);
        let doubted = self.is_doubted.then(|| now + DOUBT_LONGEST);
        Ok(self.open_until.max(paused).max(doubted).filter(|until| *until > now))
    }

    /// The time for which the breaker has been open.
    pub fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.open_until.and(self.failing_since).map(|since| now - since)
    }

    /// The time since the system asked for its present pause.
    pub fn paused_for(&self, now: Instant) -> Option<Duration> {
        self.pause.filter(|pause| pause.until > now).map(|pause| now - pause.since)
    }

    /// The end of the pause that the system asked for.
    pub fn paused_until(&self) -> Option<Instant> {
        self.pause.map(|pause| pause.until)
    }

    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// True while the breaker is open.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// True if a failure certainly concerns all jobs.
    pub fn is_certain(&self) -> bool {
        self.hold.is_some() || (self.open_until.is_some() && self.is_confirmed)
    }

    /// One call goes through as a trial: the others wait for its result.
    pub fn tries(&mut self, now: Instant, first_pause: Duration) {
        if self.open_until.is_some() {
            self.open_until = Some(now + first_pause.min(BREAKER_LONGEST));
        }
    }

    /// Notes the end of a call that began then. True if a look at the system is needed.
    pub fn ended(&mut self, began: Instant, failure: Option<&Failure>, first_pause: Duration, now: Instant) -> bool {
        use FailureKind as K;
        let Some(failure) = failure else {
            self.works(began);
            return false;
        };
        match failure.kind {
            K::Unavailable | K::Ambiguous | K::Unreadable => self.failed(failure, first_pause, now),
            K::RateLimited => self.limited(failure, now),
            K::UnauthorisedOurs => {
                if self.hold.is_none() {
                    self.is_doubted = true;
                    self.probe_at = Some(now + DOUBT_LONGEST);
                }
            }
            // These failures say nothing about the system.
            K::UnauthorisedTheirs(_) | K::Refused | K::Rejected => return false,
        }
        true
    }

    fn works(&mut self, began: Instant) {
        self.worked_at = self.worked_at.max(Some(began));
        (self.failures, self.failing_since, self.open_until, self.is_confirmed) = (0, None, None, false);
        self.openings = 0;
        if self.hold.is_none() && !self.is_doubted {
            self.probe_at = None;
        }
    }

    fn limited(&mut self, failure: &Failure, now: Instant) {
        let until = now + failure.retry_after.unwrap_or(UNKNOWN_WAIT);
        let pause = self.pause.filter(|pause| pause.until > now).unwrap_or(Pause { since: now, until });
        self.pause = Some(Pause { until: pause.until.max(until), ..pause });
        self.open_until = None;
    }

    fn failed(&mut self, failure: &Failure, first_pause: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.note = failure.summary();
        // Calls that were under way when the breaker opened do not count.
        if self.failures >= BREAKER_FAILURES && self.open_until.is_none_or(|until| until <= now) {
            let is_new = self.open_until.is_none();
            let until = self.open(first_pause, now);
            // A harmless read at once shows whether all jobs are concerned.
            self.probe_at = Some(if is_new { now } else { until });
        }
    }

    /// Opens the breaker, each time for longer.
    fn open(&mut self, first_pause: Duration, now: Instant) -> Instant {
        let until = now + first_pause.saturating_mul(1 << self.openings.min(16)).min(BREAKER_LONGEST);
        self.openings += 1;
        self.open_until = Some(until);
        until
    }

    /// Notes the result of a harmless read that began then.
    pub fn probed(
        &mut self,
        began: Instant,
        result: &Result<(), Failure>,
        (first_pause, every): (Duration, Duration),
        now: Instant,
    ) {
        self.probed = Some((began, result.is_ok()));
        self.is_doubted = false;
        match result {
            Ok(()) => {
                self.hold = None;
                self.works(began);
            }
            Err(failure) if failure.kind == FailureKind::RateLimited => {
                self.limited(failure, now);
                self.probe_at = self.hold.as_ref().and(self.paused_until());
            }
            Err(failure) if failure.kind == FailureKind::UnauthorisedOurs || self.hold.is_some() => {
                let since = self.hold.as_ref().map_or(now, |hold| hold.since);
                self.hold = Some(Hold { since, note: failure.summary() });
                self.probe_at = Some(now + every);
            }
            Err(failure) => {
                self.failures = self.failures.max(BREAKER_FAILURES);
                self.failing_since.get_or_insert(now);
                self.note = failure.summary();
                self.probe_at = Some(self.open(first_pause, now));
                self.is_confirmed = true;
            }
        }
    }

    /// Whether the system has worked since then; `None` if only a harmless read can show it.
    pub fn works_since(&self, since: Instant, now: Instant) -> Option<bool> {
        if self.hold.is_some() || self.paused_for(now).is_some() {
            return Some(false);
        }
        if self.worked_at.is_some_and(|at| at >= since) {
            return Some(true);
        }
        self.probed.filter(|(began, _)| *began >= since).map(|(_, worked)| worked)
    }

    /// The time of the next action: a harmless read or a log line.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        let line = match (&self.line, self.impairments(now).is_empty()) {
            (Some(line), false) => Some(line.next),
            (None, true) => None,
            _ => Some(now),
        };
        // The end of a pause is logged too.
        let pause = self.line.as_ref().and(self.paused_until()).filter(|until| *until > now);
        [self.probe_at, line, pause].into_iter().flatten().min()
    }

    /// True if a harmless read is due.
    pub fn is_probe_due(&self, now: Instant) -> bool {
        self.probe_at.is_some_and(|at| at <= now)
    }

    /// Notes that a step of a job was answered.
    pub fn step_works(&mut self, step: StepName) {
        self.steps.remove(&step);
    }

    /// Notes that a step of a job failed in a way that says nothing about the person.
    pub fn step_failed(&mut self, step: StepName, job: &JobKey, failure: &Failure, now: Instant) {
        let row = self.steps.entry(step).or_insert_with(|| Row { since: now, jobs: Vec::new(), note: Note::default() });
        row.note = failure.summary();
        if row.jobs.len() < JOBS_IN_A_ROW && !row.jobs.contains(job) {
            row.jobs.push(job.clone());
        }
    }

    /// True if a step fails for all jobs.
    pub fn fails_for_all(&self, step: StepName) -> bool {
        self.steps.get(&step).is_some_and(|row| row.jobs.len() >= JOBS_IN_A_ROW)
    }

    /// True the first time: the job's call is made once more before the job fails.
    pub fn is_to_be_repeated(&mut self, job: &JobKey, target: usize, step: StepName) -> bool {
        let key = (job.clone(), target);
        if self.last_calls.get(&key) == Some(&step) {
            self.last_calls.remove(&key);
            return false;
        }
        self.last_calls.insert(key, step);
        true
    }

    /// Removes an ended job.
    pub fn forget(&mut self, job: &JobKey) {
        self.last_calls.retain(|(other, _), _| other != job);
    }

    /// Removes all troubles, for an operator.
    pub fn release(&mut self) {
        (self.pause, self.hold, self.is_doubted, self.probe_at) = (None, None, false, None);
        (self.failures, self.failing_since, self.open_until, self.is_confirmed) = (0, None, None, false);
        self.openings = 0;
        self.steps.clear();
    }

    /// All present troubles, the most serious first.
    pub fn impairments(&self, now: Instant) -> Vec<Impairment> {
        let mut all = Vec::new();
        if let Some(hold) = &self.hold {
            all.push(Impairment { what: ImpairmentKind::Held, detail: hold.note.clone(), lasts: now - hold.since });
        } else if self.open_until.is_some() && self.is_confirmed {
            let detail = self.note.clone().and("; it is tried now and then with a harmless read");
            all.push(Impairment {
                what: ImpairmentKind::Failing,
                detail,
                lasts: now - self.failing_since.unwrap_or(now),
            });
        }
        if let Some(pause) = self.pause.filter(|pause| pause.until > now && pause.until - pause.since > LONG_PAUSE) {
            let left = i64::try_from((pause.until - now).as_secs()).unwrap_or(i64::MAX);
            let detail = Note::from("it asked not to be called for another ").number(left).and(" s");
            all.push(Impairment { what: ImpairmentKind::Paused, detail, lasts: now - pause.since });
        }
        for (step, row) in self.steps.iter().filter(|(_, row)| row.jobs.len() >= JOBS_IN_A_ROW) {
            let detail = Note::from(step.as_str()).and(" fails for one job after another: ").join(&row.note);
            all.push(Impairment { what: ImpairmentKind::StepFailing, detail, lasts: now - row.since });
        }
        all
    }

    /// The log line to write now: a new trouble, one that lasts, or (`Some(None)`) the end of all troubles.
    pub fn line(&mut self, now: Instant) -> Option<Option<Impairment>> {
        let first = self.impairments(now).into_iter().next();
        let Some(first) = first else { return self.line.take().map(|_| None) };
        match &mut self.line {
            Some(line) if line.what == first.what && now < line.next => return None,
            Some(line) if line.what == first.what => {
                line.every = (line.every * 2).min(TOLD_LONGEST);
                line.next = now + line.every;
            }
            _ => self.line = Some(Line { what: first.what, next: now + LOG_AGAIN, every: LOG_AGAIN }),
        }
        Some(Some(first))
    }
}

#[cfg(test)]
#[path = "trouble/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

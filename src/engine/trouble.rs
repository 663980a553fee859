//! Whether a system is well, by what came of its calls: its hold, its breaker, the pause that it asked for,
//! and the steps that fail for everybody.
//!
//! The rule it keeps: one job's failures alone never close a system for the others. ImpairmentKind closes it is a
//! harmless read that fails as well; what opens it again is one that works.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{Failure, FailureKind, JobKey, Note, Reason, StepName};

/// Failures in a row that open the breaker.
const BREAKER_FAILURES: u32 = 5;
const BREAKER_LONGEST: Duration = Duration::from_secs(30);
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);
/// A step that failed for so many jobs in a row, and for nobody went well between, fails for everybody.
const JOBS_IN_A_ROW: usize = 3;
/// A pause is told where the system is silent for longer than this.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// A doubt that nobody settles is settled after this.
const DOUBT_LONGEST: Duration = Duration::from_secs(1);
/// Between two lines that tell of one trouble: first so long, then twice as long, up to the longest.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const TOLD_LONGEST: Duration = Duration::from_secs(3600);

/// ImpairmentKind kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImpairmentKind {
    /// Our credential or address is refused: an operator must mend it.
    Held,
    /// It does not answer, or not in a way that can be understood.
    Failing,
    /// It asked to be left alone, for long.
    Paused,
    /// It answers, but one step fails for everybody.
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

/// A trouble as it is told to operators.
#[derive(Debug, Clone)]
pub struct Impairment {
    /// ImpairmentKind it is.
    pub what: ImpairmentKind,
    /// In words.
    pub detail: Note,
    /// For how long it has lasted.
    pub lasts: Duration,
}

/// A hold: the system is not called for now.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub since: Instant,
    /// ImpairmentKind the refusal was.
    pub note: Note,
}

/// The time for which the system asked to be left alone.
#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    until: Instant,
}

/// A step that has failed and has not gone well since.
#[derive(Debug)]
struct Row {
    since: Instant,
    jobs: Vec<JobKey>,
    note: Note,
}

/// A line of the log that is due again.
#[derive(Debug)]
struct Line {
    what: ImpairmentKind,
    next: Instant,
    every: Duration,
}

/// ImpairmentKind is known of a system's state of health.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pause: Option<Pause>,
    hold: Option<Hold>,
    /// A refusal that may be one job's: until a harmless read has told, nobody calls.
    is_doubted: bool,
    failures: u32,
    /// When the first of the failures in a row was.
    failing_since: Option<Instant>,
    open_until: Option<Instant>,
    /// How often it was opened in a row.
    openings: u32,
    /// A harmless read has failed since the breaker opened.
    is_confirmed: bool,
    note: Note,
    /// When the latest call began that was answered.
    worked_at: Option<Instant>,
    /// The latest harmless read: when it began, and whether it worked.
    probed: Option<(Instant, bool)>,
    probe_at: Option<Instant>,
    steps: BTreeMap<StepName, Row>,
    /// Jobs whose last call is made once more, since the system works.
    last_calls: HashMap<(JobKey, usize), StepName>,
    line: Option<Line>,
}

/// True for a failure that says nothing of the person: it may be everybody's.
pub(super) fn may_be_everybodys(failure: &Failure) -> bool {
    use FailureKind as K;
    match failure.kind {
        K::Unavailable | K::Ambiguous | K::Unreadable | K::UnauthorisedOurs => true,
        K::Rejected => failure.reason == Reason::RequestRejected,
        K::RateLimited | K::UnauthorisedTheirs(_) | K::Refused => false,
    }
}

impl Trouble {
    /// Until when nobody may call, where that is known; `Err` with the hold.
    pub fn closed_until(&self, now: Instant) -> Result<Option<Instant>, &Hold> {
        if let Some(hold) = &self.hold {
            return Err(hold);
        }
        let paused = self.pause.map(|pause| pause.until);
        let doubted = self.is_doubted.then(|| now + DOUBT_LONGEST);
        Ok(self.open_until.max(paused).max(doubted).filter(|until| *until > now))
    }

    /// For how long the breaker has been open.
    pub fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.open_until.and(self.failing_since).map(|since| now - since)
    }

    /// For how long the system has been silent by its own word.
    pub fn paused_for(&self, now: Instant) -> Option<Duration> {
        self.pause.filter(|pause| pause.until > now).map(|pause| now - pause.since)
    }

    /// Until when the system asked to be left alone.
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

    /// True where a failure is certainly everybody's.
    pub fn is_certain(&self) -> bool {
        self.hold.is_some() || (self.open_until.is_some() && self.is_confirmed)
    }

    /// One goes through to try: the others wait for what becomes of it.
    pub fn tries(&mut self, now: Instant, first_pause: Duration) {
        if self.open_until.is_some() {
            self.open_until = Some(now + first_pause.min(BREAKER_LONGEST));
        }
    }

    /// A job's call that began then has ended. True where somebody should look at the system.
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
            // They say nothing of the system.
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
        self.note = failure.told();
        // ImpairmentKind was under way when it opened says nothing more.
        if self.failures >= BREAKER_FAILURES && self.open_until.is_none_or(|until| until <= now) {
            let is_new = self.open_until.is_none();
            let until = self.open(first_pause, now);
            // Whether it is everybody's is looked at without delay.
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

    /// ImpairmentKind a harmless read that began then came to.
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
                self.hold = Some(Hold { since, note: failure.told() });
                self.probe_at = Some(now + every);
            }
            Err(failure) => {
                self.failures = self.failures.max(BREAKER_FAILURES);
                self.failing_since.get_or_insert(now);
                self.note = failure.told();
                self.probe_at = Some(self.open(first_pause, now));
                self.is_confirmed = true;
            }
        }
    }

    /// ImpairmentKind is known of whether the system works since then; `None` where it is to be looked at.
    pub fn works_since(&self, since: Instant, now: Instant) -> Option<bool> {
        if self.hold.is_some() || self.paused_for(now).is_some() {
            return Some(false);
        }
        if self.worked_at.is_some_and(|at| at >= since) {
            return Some(true);
        }
        self.probed.filter(|(began, _)| *began >= since).map(|(_, worked)| worked)
    }

    /// When something is to be done: a harmless read, or a line for the log.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        let line = match (&self.line, self.told(now).is_empty()) {
            (Some(line), false) => Some(line.next),
            (None, true) => None,
            _ => Some(now),
        };
        // A pause that ends is told as well.
        let pause = self.line.as_ref().and(self.paused_until()).filter(|until| *until > now);
        [self.probe_at, line, pause].into_iter().flatten().min()
    }

    /// True where a harmless read is due.
    pub fn is_probe_due(&self, now: Instant) -> bool {
        self.probe_at.is_some_and(|at| at <= now)
    }

    /// A step of a job was answered.
    pub fn step_works(&mut self, step: StepName) {
        self.steps.remove(&step);
    }

    /// A step of a job failed in a way that says nothing of the person.
    pub fn step_failed(&mut self, step: StepName, job: &JobKey, failure: &Failure, now: Instant) {
        let row = self.steps.entry(step).or_insert_with(|| Row { since: now, jobs: Vec::new(), note: Note::default() });
        row.note = failure.told();
        if row.jobs.len() < JOBS_IN_A_ROW && !row.jobs.contains(job) {
            row.jobs.push(job.clone());
        }
    }

    /// True where a step fails for everybody.
    pub fn fails_for_all(&self, step: StepName) -> bool {
        self.steps.get(&step).is_some_and(|row| row.jobs.len() >= JOBS_IN_A_ROW)
    }

    /// True the first time: the job's call is to be made once more before the job fails by it.
    pub fn is_to_be_repeated(&mut self, job: &JobKey, target: usize, step: StepName) -> bool {
        let key = (job.clone(), target);
        if self.last_calls.get(&key) == Some(&step) {
            self.last_calls.remove(&key);
            return false;
        }
        self.last_calls.insert(key, step);
        true
    }

    /// The job has ended.
    pub fn forget(&mut self, job: &JobKey) {
        self.last_calls.retain(|(other, _), _| other != job);
    }

    /// An operator knows better.
    pub fn release(&mut self) {
        (self.pause, self.hold, self.is_doubted, self.probe_at) = (None, None, false, None);
        (self.failures, self.failing_since, self.open_until, self.is_confirmed) = (0, None, None, false);
        self.openings = 0;
        self.steps.clear();
    }

    /// Ends a hold alone.
    pub fn end_hold(&mut self) {
        if self.hold.take().is_some() {
            self.probe_at = self.open_until;
        }
    }

    /// Every trouble there is, the gravest first.
    pub fn told(&self, now: Instant) -> Vec<Impairment> {
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

    /// ImpairmentKind is to be written to the log now: a trouble that is new or has lasted, or (`Some(None)`) that
    /// there is none any more.
    pub fn line(&mut self, now: Instant) -> Option<Option<Impairment>> {
        let told = self.told(now).into_iter().next();
        let Some(told) = told else { return self.line.take().map(|_| None) };
        match &mut self.line {
            Some(line) if line.what == told.what && now < line.next => return None,
            Some(line) if line.what == told.what => {
                line.every = (line.every * 2).min(TOLD_LONGEST);
                line.next = now + line.every;
            }
            _ => self.line = Some(Line { what: told.what, next: now + TOLD_AGAIN, every: TOLD_AGAIN }),
        }
        Some(Some(told))
    }
}

#[cfg(test)]
#[path = "trouble/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

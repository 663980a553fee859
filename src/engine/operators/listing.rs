//! Jobs in pages, and the counts of waiting jobs.
//!
//! The rule it keeps: a page costs a bounded number of rows and a bounded amount of memory, however many jobs the
//! store holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::forecast::{Forecast, Waits, forecast};
use crate::engine::Engine;
use crate::job::event::Wait;
use crate::job::record::Undecodable;
use crate::job::wait::Waiting;
use crate::job::{At, Ended, JobKey, JobOutcome, JobRecord, StepName};
use crate::store::{Pair, Store, StoreError, Table};

/// Rows in one read.
const ROWS: usize = 256;
/// Most rows for one page; with a rare filter a page may be shorter than requested.
const LOOKED_AT: usize = 10_000;
/// The number of urgent jobs that a survey names.
const URGENT: usize = 10;

/// A job's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Accepted: in hand, or next in the queue.
    Open,
    /// Parked: see the reason.
    Waiting,
    /// Parked until a person gives an input.
    NeedsInput,
    /// Ended: every target is erased, anonymised or absent.
    Completed,
    /// Ended: at least one target is not.
    Failed,
    /// Ended before anything irreversible.
    Cancelled,
    /// Ended: only read, as requested.
    Previewed,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [JobStatus; 7] = [
        JobStatus::Open,
        JobStatus::Waiting,
        JobStatus::NeedsInput,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::Previewed,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Open => "open",
            JobStatus::Waiting => "waiting",
            JobStatus::NeedsInput => "needs_input",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Previewed => "previewed",
        }
    }

    /// True if the job has ended.
    pub const fn is_end(self) -> bool {
        matches!(self, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled | JobStatus::Previewed)
    }

    fn of(record: Option<&JobRecord>, ended: Option<&Ended>, in_hand: bool) -> JobStatus {
        if let Some(ended) = ended {
            return match ended.outcome {
                JobOutcome::Completed => JobStatus::Completed,
                JobOutcome::Failed => JobStatus::Failed,
                JobOutcome::Cancelled => JobStatus::Cancelled,
                JobOutcome::Previewed => JobStatus::Previewed,
            };
        }
        match record.and_then(|record| record.waiting) {
            // The record keeps its last wait while the job is in hand again.
            Some(_) | None if in_hand => JobStatus::Open,
            Some((Waiting::Input, _)) => JobStatus::NeedsInput,
            Some(_) => JobStatus::Waiting,
            None => JobStatus::Open,
        }
    }
}

/// A selection of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only those with this status.
    pub status: Option<JobStatus>,
    /// Only those with a target in this system.
    pub system: Option<String>,
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only those with one of these references, as in events; empty for all.
    pub subject_refs: Vec<String>,
    /// Or those that wait or have failed and name the person by one of these.
    pub identifiers: Vec<[u8; 16]>,
}

impl JobFilter {
    fn is_about_anybody(&self) -> bool {
        self.subject_refs.is_empty() && self.identifiers.is_empty()
    }

    fn names(&self, record: Option<&JobRecord>, ended: Option<&Ended>) -> bool {
        let in_event = |name: &String| {
            if let Some(certified) = ended.and_then(|ended| ended.certified.as_ref()) {
                return certified.subject_ref == *name;
            }
            let member = format!("\"subject_ref\":\"{name}\"");
            let body = ended.map_or(&[][..], |ended| &ended.event.body);
            body.windows(member.len()).any(|part| part == member.as_bytes())
        };
        let in_record = |name: &String| record.is_some_and(|record| record.subject_ref == *name);
        self.subject_refs.iter().any(|name| in_record(name) || in_event(name))
    }
}

/// The wait of a parked job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitView {
    /// `retry`, `pending`, `input`, `rate_limit`, `held`, `renewal`, `paused` or `guard`.
    pub reason: &'static str,
    /// The time since which nothing has changed; unknown if an earlier release parked the job.
    pub since: Option<String>,
    /// The time at which the job continues; for an input, the time of the next check.
    pub until: String,
    /// The end of the wait, as a word of [`Waiting::then`].
    pub then: &'static str,
    /// More about the wait, in the view of one job.
    #[serde(flatten)]
    pub shown: Option<WaitShown>,
}

/// The wait's details in the view of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitShown {
    /// The time at which a target fails if nothing changes.
    pub gives_up_at: Option<String>,
    /// The reason of that failure.
    pub gives_up_as: Option<&'static str>,
    /// The target that waits, if it is one.
    pub target: Option<u16>,
    /// Its system.
    pub system: Option<String>,
    /// The step that was begun last there.
    pub step: Option<&'static str>,
}

impl From<Wait> for WaitView {
    fn from(wait: Wait) -> WaitView {
        let Wait { reason, since, next_at, then, gives_up, target, system, step } = wait;
        let shown = WaitShown {
            gives_up_at: gives_up.map(|(at, _)| at.to_rfc3339()),
            gives_up_as: gives_up.map(|(_, reason)| reason.as_str()),
            target,
            system,
            step: step.map(StepName::as_str),
        };
        let (since, until) = (since.map(At::to_rfc3339), next_at.to_rfc3339());
        WaitView { reason, since, until, then, shown: Some(shown) }
    }
}

/// One line of a list of jobs.
#[derive(Debug, Clone, Serialize)]
pub struct JobSummary {
    /// The tenant.
    pub tenant: String,
    /// The publisher's job id.
    pub job_id: String,
    /// The status.
    pub state: JobStatus,
    /// The run.
    pub run: u32,
    /// The targets' systems, in order.
    pub systems: Vec<String>,
    /// True while a copy of it is in hand here.
    pub in_hand: bool,
    /// Its wait.
    pub waiting: Option<WaitView>,
    /// The law.
    pub regulation: Option<String>,
    /// The time of acceptance; unknown after the job's checkpoints are forgotten.
    pub opened_at: Option<String>,
    /// The time of the person's request; unknown as above.
    pub requested_at: Option<String>,
    /// The due time, if the publisher gave one.
    pub due_at: Option<String>,
    /// The time of the end.
    pub ended_at: Option<String>,
    /// For an ended job: true if its final event was confirmed.
    pub event_published: Option<bool>,
}

impl JobSummary {
    pub(super) fn new(key: &JobKey, record: Option<&JobRecord>, ended: Option<&Ended>, in_hand: bool) -> JobSummary {
        let state = JobStatus::of(record, ended, in_hand);
        let parked = matches!(state, JobStatus::Waiting | JobStatus::NeedsInput);
        let waiting = record.and_then(|record| record.waiting).filter(|_| parked);
        let systems = ended.map(|ended| &ended.systems).or(record.map(|record| &record.systems));
        JobSummary {
            tenant: key.tenant.clone(),
            job_id: key.job_id.to_string(),
            state,
            run: ended.map(|ended| ended.run).or(record.map(|record| record.run)).unwrap_or_default(),
            systems: systems.cloned().unwrap_or_default(),
            in_hand,
            waiting: waiting.map(|(why, until)| WaitView {
                reason: why.as_str(),
                since: record.and_then(|record| record.stands.shown()).map(At::to_rfc3339),
                until: until.to_rfc3339(),
                then: why.then(),
                shown: None,
            }),
            regulation: record.and_then(|record| record.regulation.clone()),
            opened_at: record.map(|record| record.opened_at.to_rfc3339()),
            requested_at: record.map(|record| record.requested_at.to_rfc3339()),
            due_at: record.and_then(|record| record.due_at).map(At::to_rfc3339),
            ended_at: ended.map(|ended| ended.at.to_rfc3339()),
            event_published: ended.map(|ended| ended.is_published(record.is_some())),
        }
    }
}

/// A page of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobPage {
    /// The jobs, by tenant and id.
    pub jobs: Vec<JobSummary>,
    /// The last job viewed, if there may be more.
    pub next: Option<JobKey>,
    /// Undecodable records, which are left out.
    pub unreadable: usize,
}

/// The counts of jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Not ended.
    pub open: u64,
    /// Parked, by reason.
    pub waiting: BTreeMap<&'static str, u64>,
    /// Of the parked jobs, by reason: the earliest time since which nothing has changed.
    pub oldest_wait: BTreeMap<&'static str, At>,
    /// The earliest due time of a job that has not ended.
    pub oldest_due_at: Option<At>,
    /// The open job that was accepted first.
    pub oldest: Option<(At, JobKey)>,
    /// The jobs with the earliest due times, most urgent first.
    pub due_first: BTreeSet<(At, JobKey)>,
    /// Jobs after their due time.
    pub overdue: u64,
    /// Jobs that are at risk, and not overdue.
    pub at_risk: u64,
    /// The jobs that will be late at the present rate.
    pub forecast: Forecast,
}

impl Engine {
    /// Up to `limit` jobs after the given one, in the order of tenant and id.
    ///
    /// # Errors
    /// The store fails.
    pub fn jobs(&self, filter: &JobFilter, after: Option<&JobKey>, limit: usize) -> Result<JobPage, StoreError> {
        let prefix = filter.tenant.as_ref().map_or_else(Vec::new, |tenant| [tenant.as_bytes(), &[0]].concat());
        let after = after.map(JobKey::to_bytes);
        // An ended job keeps its record only if it failed or its event is not confirmed. So each status needs one of
        // the two tables.
        let tables = match filter.status {
            Some(status) if status.is_end() => (false, true),
            Some(_) => (true, false),
            None => (true, true),
        };
        let rows = |used: bool, table| used.then(|| Rows::new(&*self.store, table, &prefix, after.clone()));
        let mut rows = Both { open: rows(tables.0, Table::Job), ended: rows(tables.1, Table::Ended) };
        let mut page = JobPage::default();
        let mut looked_at = 0;
        while let Some((row, record, ended)) = rows.next()? {
            let Some(key) = JobKey::from_bytes(&row) else { continue };
            looked_at += 1;
            match self.listed(&key, record, ended, filter) {
                Ok(Some(summary)) => page.jobs.push(summary),
                Ok(None) => {}
                Err(Unlisted::Store(error)) => return Err(error),
                Err(Unlisted::Undecodable) => page.unreadable += 1,
            }
            if page.jobs.len() == limit || looked_at == LOOKED_AT {
                page.next = rows.next()?.map(|_| key);
                break;
            }
        }
        Ok(page)
    }

    fn listed(
        &self,
        key: &JobKey,
        record: Option<Vec<u8>>,
        ended: Option<Vec<u8>>,
        filter: &JobFilter,
    ) -> Result<Option<JobSummary>, Unlisted> {
        // If only one table is read, the other row is looked up.
        let other = |bytes: Option<Vec<u8>>, table| match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => self.store.get(table, &key.to_bytes()),
        };
        let ended = other(ended, Table::Ended)?.map(|bytes| Ended::from_bytes(&bytes)).transpose()?;
        let wrong_end = |ended: &Ended| {
            filter.status.is_some_and(|status| status != JobStatus::of(None, Some(ended), false))
                || filter.system.as_ref().is_some_and(|system| !ended.systems.contains(system))
        };
        if ended.as_ref().is_some_and(wrong_end) {
            return Ok(None);
        }
        let record = other(record, Table::Job)?.map(|bytes| JobRecord::from_bytes(&bytes)).transpose()?;
        let summary = JobSummary::new(key, record.as_ref(), ended.as_ref(), self.job_locks.holds(key));
        let wanted = (filter.is_about_anybody()
            || filter.names(record.as_ref(), ended.as_ref())
            || self.is_named_by(key, &filter.identifiers)?)
            && filter.status.is_none_or(|status| status == summary.state)
            && filter.system.as_ref().is_none_or(|system| summary.systems.contains(system));
        Ok(wanted.then_some(summary))
    }

    /// Counts the jobs that have not ended.
    ///
    /// # Errors
    /// The store fails.
    pub fn survey(&self) -> Result<Survey, StoreError> {
        let mut survey = Survey::default();
        let now = self.now();
        let systems: Vec<_> = self.gates.iter().map(|(name, gate)| (name.clone(), gate.targets_per_minute())).collect();
        let index = |name: &String| systems.binary_search_by(|(known, _)| known.cmp(name)).ok();
        let mut waits = Vec::new();
        let mut rows = Rows::new(&*self.store, Table::Job, b"", None);
        while let Some((row, value)) = rows.next()? {
            let (Some(key), Ok(record)) = (JobKey::from_bytes(&row), JobRecord::from_bytes(&value)) else { continue };
            if self.store.get(Table::Ended, &row)?.is_some() {
                continue;
            }
            survey.open += 1;
            if survey.oldest.as_ref().is_none_or(|(at, _)| record.opened_at < *at) {
                survey.oldest = Some((record.opened_at, key.clone()));
            }
            if let Some(due) = record.due_at {
                survey.overdue += u64::from(due <= now);
                survey.at_risk += u64::from(due > now && due.minus(self.settings.at_risk_before) <= now);
                survey.due_first.insert((due, key.clone()));
                if survey.due_first.len() > URGENT {
                    survey.due_first.pop_last();
                }
            }
            // Jobs that wait for a person are left out: a higher rate does not end them sooner.
            if !matches!(record.waiting, Some((Waiting::Input | Waiting::Guard, _))) {
                let systems = record.systems.iter().filter_map(index).filter_map(|index| u16::try_from(index).ok());
                waits.push(Waits { due: record.due_at, systems: systems.collect() });
            }
            if let (Some((why, _)), false) = (record.waiting, self.job_locks.holds(&key)) {
                *survey.waiting.entry(why.as_str()).or_default() += 1;
                if let Some(since) = record.stands.shown() {
                    let oldest = survey.oldest_wait.entry(why.as_str()).or_insert(since);
                    *oldest = since.min(*oldest);
                }
            }
        }
        survey.forecast = forecast(waits, &systems, now);
        survey.oldest_due_at = survey.due_first.first().map(|(due, _)| *due);
        Ok(survey)
    }
}

/// The reason why a job is not listed.
enum Unlisted {
    Store(StoreError),
    Undecodable,
}

impl From<StoreError> for Unlisted {
    fn from(error: StoreError) -> Self {
        Unlisted::Store(error)
    }
}

impl From<Undecodable> for Unlisted {
    fn from(_: Undecodable) -> Self {
        Unlisted::Undecodable
    }
}

/// The rows of a table, read in pages.
struct Rows<'a> {
    store: &'a dyn Store,
    table: Table,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    read: VecDeque<Pair>,
    exhausted: bool,
}

impl<'a> Rows<'a> {
    fn new(store: &'a dyn Store, table: Table, prefix: &[u8], after: Option<Vec<u8>>) -> Rows<'a> {
        Rows { store, table, prefix: prefix.to_vec(), after, read: VecDeque::new(), exhausted: false }
    }

    /// The next row's key; reads the next page if needed.
    fn peek(&mut self) -> Result<Option<&[u8]>, StoreError> {
        if self.read.is_empty() && !self.exhausted {
            let page = self.store.scan(self.table, &self.prefix, self.after.as_deref(), ROWS)?;
            self.exhausted = page.len() < ROWS;
            self.after = page.last().map(|(key, _)| key.clone()).or(self.after.take());
            self.read = page.into();
        }
        Ok(self.read.front().map(|(key, _)| key.as_slice()))
    }

    fn next(&mut self) -> Result<Option<Pair>, StoreError> {
        self.peek()?;
        Ok(self.read.pop_front())
    }
}

/// Open and ended jobs side by side, in the order of their keys.
struct Both<'a> {
    open: Option<Rows<'a>>,
    ended: Option<Rows<'a>>,
}

type Row = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Both<'_> {
    fn next(&mut self) -> Result<Option<Row>, StoreError> {
        fn peek(rows: &mut Option<Rows<'_>>) -> Result<Option<Vec<u8>>, StoreError> {
            rows.as_mut().map_or(Ok(None), |rows| Ok(rows.peek()?.map(<[u8]>::to_vec)))
        }
        fn take(rows: &mut Option<Rows<'_>>, key: &[u8], at: Option<&Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
            match rows {
                Some(rows) if at.is_some_and(|at| at == key) => Ok(rows.next()?.map(|(_, value)| value)),
                _ => Ok(None),
            }
        }
        let (open, ended) = (peek(&mut self.open)?, peek(&mut self.ended)?);
        let Some(key) = [&open, &ended].into_iter().flatten().min().cloned() else { return Ok(None) };
        let record = take(&mut self.open, &key, open.as_ref())?;
        let end = take(&mut self.ended, &key, ended.as_ref())?;
        Ok(Some((key, record, end)))
    }
}

//! Dead letters: looked at by their headers, replayed as new runs, or given up.
//!
//! The rule it keeps: a letter leaves the queue only after its replay was confirmed, or after
//! somebody gave it up by name; no body is ever shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::{DeadLetter, Destination, Publication, PublishError, Verdict};
use crate::engine::dead_letter_head::{LetterHead, Vouched};
use crate::engine::decisions::{MOST_JOBS, What};
use crate::engine::journal::{JournalError, ended_of, forget_checkpoints};
use crate::engine::{Engine, envelope, header, retention, rows};
use crate::job::{At, JobKey, JobOutcome, Reason};
use crate::seal::{Keyring, SealError, looks_sealed};
use crate::store::{Batch, StoreError, Table};

/// The most letters that one request looks at.
pub const MAX_LETTERS: usize = 10_000;
/// A job is not in hand when it is given up; were it to come in this very moment, it goes on.
const HAND_WAIT: Duration = Duration::from_secs(1);
const LONGEST_TEXT: usize = 500;

/// Which dead letters; all of them where nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only those with this code.
    pub code: Option<String>,
    /// Only those that failed at this system.
    pub system: Option<String>,
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only this job's.
    pub job_id: Option<Uuid>,
    /// Only those from this time on.
    pub from: Option<At>,
    /// Only those before this time.
    pub to: Option<At>,
}

impl LetterFilter {
    /// True where nothing is named.
    pub fn is_empty(&self) -> bool {
        *self == LetterFilter::default()
    }

    fn takes(&self, letter: &LetterView) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        same(&self.code, &letter.code)
            && same(&self.system, &letter.system)
            && same(&self.tenant, &letter.tenant)
            && self.job_id.is_none_or(|id| letter.job_id == Some(id))
            && self.takes_time(letter)
    }
}

impl LetterFilter {
    /// A letter that tells no time is neither older nor younger than anything.
    fn takes_time(&self, letter: &LetterView) -> bool {
        if self.from.is_none() && self.to.is_none() {
            return true;
        }
        let at = letter.at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(At::from);
        at.is_some_and(|at| self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to))
    }
}

/// A dead letter by its headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterView {
    /// The tenant, where the message told one.
    pub tenant: Option<String>,
    /// The job's id, where the message told one.
    pub job_id: Option<Uuid>,
    /// The stable code.
    pub code: Option<String>,
    /// The word of the code.
    pub reason: Option<&'static str>,
    /// One sentence.
    pub sentence: Option<String>,
    /// Who can make it go on: `new_input`, `operator` or `never`.
    pub retry: Option<&'static str>,
    /// Where the runbook says what to do.
    pub runbook: Option<String>,
    /// The system to blame.
    pub system: Option<String>,
    /// The step to blame.
    pub step: Option<String>,
    /// Failed attempts at that step.
    pub attempts: i64,
    /// The run that failed; 0 where the message never became a job.
    pub run: i64,
    /// When.
    pub at: Option<String>,
    /// True where a MAC of the worker's covers all of these; otherwise anybody may have written them.
    pub vouched: bool,
    /// The job, where it is vouched for.
    #[serde(skip)]
    key: Option<JobKey>,
    /// True where the body is sealed.
    pub sealed: bool,
    /// The body's length.
    pub bytes: usize,
}

impl LetterView {
    fn of(keyring: &Keyring, letter: &DeadLetter) -> LetterView {
        let head = LetterHead::read(keyring, &letter.properties, &letter.body);
        let text = |claimed: Option<&str>| claimed.map(shown);
        let code = text(head.claimed(header::CODE));
        let reason = Reason::ALL.iter().find(|reason| code.as_deref() == Some(reason.code()));
        LetterView {
            tenant: text(head.claimed(header::TENANT)),
            job_id: text(head.claimed(header::JOB_ID)).and_then(|id| Uuid::try_parse(&id).ok()),
            reason: reason.map(|reason| reason.as_str()),
            retry: reason.map(|reason| reason.retry().as_str()),
            runbook: reason.map(|reason| reason.runbook()),
            code,
            sentence: text(head.claimed(header::REASON)),
            system: text(head.claimed(header::SYSTEM)),
            step: text(head.claimed(header::STEP)),
            attempts: head.claimed_number(header::ATTEMPTS),
            run: head.claimed_number(header::RUN),
            at: text(head.claimed(header::AT)),
            vouched: head.vouched == Vouched::Wholly,
            key: head.key(),
            sealed: looks_sealed(&letter.body),
            bytes: letter.body.len(),
        }
    }

    fn key(&self) -> Option<JobKey> {
        self.key.clone()
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

/// Dead letters in queue order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LetterPage {
    /// Those that match.
    pub dead_letters: Vec<LetterView>,
    /// How many match in all, as far as was looked.
    pub matching: usize,
    /// True where more match, or not all were looked at.
    pub more: bool,
}

/// What came of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Letters looked at.
    pub looked_at: usize,
    /// Letters that left the queue.
    pub done: usize,
    /// True where more match, or not all were looked at.
    pub more: bool,
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The sweep.
    pub swept: Swept,
    /// Letters that cannot be opened with the keys at hand; they stay.
    pub unopenable: usize,
}

/// Why jobs are given up, and who says so.
#[derive(Debug, Clone)]
pub struct Discard {
    /// Why; without personal data.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// When.
    pub at: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why dead letters could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The broker failed; what was done before stays done.
    #[error("{error} ({done} dead letters were dealt with before)")]
    Broker {
        /// How many had left the queue, at most.
        done: usize,
        /// What it said.
        error: PublishError,
    },
    /// The store failed; the letters have left the queue.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<StoreError> for LetterError {
    fn from(error: StoreError) -> Self {
        LetterError::Journal(error.into())
    }
}

/// What a sweep does with a letter that matches.
enum Choice {
    Leave,
    Take(Verdict),
}

impl Engine {
    /// Dead letters by their headers, `limit` of them after the first `skip`; looking changes nothing.
    ///
    /// # Errors
    /// Where the broker fails.
    pub async fn dead_letters(
        &self,
        filter: &LetterFilter,
        skip: usize,
        limit: usize,
    ) -> Result<LetterPage, LetterError> {
        let mut page = LetterPage::default();
        let mut look = |_: &DeadLetter, view: LetterView| {
            page.matching += 1;
            if page.matching > skip && page.dead_letters.len() < limit {
                page.dead_letters.push(view);
            }
            Choice::Take(Verdict::Keep)
        };
        let all = self.sweep(filter, MAX_LETTERS, &mut look).await?;
        page.more = all.more || page.matching > skip + page.dead_letters.len();
        Ok(page)
    }

    /// Sends matching jobs back to the queue: those that were accepted as their next run, which goes
    /// on from its checkpoints; those that never were as they came from their publisher.
    ///
    /// # Errors
    /// Where the broker fails; those confirmed before are on their way.
    pub async fn replay(&self, filter: &LetterFilter, limit: usize) -> Result<Replayed, LetterError> {
        let mut unopenable = 0;
        let mut replay = |letter: &DeadLetter, view: LetterView| match self.replay_of(letter) {
            _ if envelope::is_beginning(&letter.properties) => {
                tracing::warn!(job_id = ?view.job_id, "a dead letter holds only the beginning of its message; it stays");
                unopenable += 1;
                Choice::Leave
            }
            Ok(publication) => {
                tracing::info!(tenant = view.tenant, job_id = ?view.job_id, code = view.code, "dead letter replayed");
                Choice::Take(Verdict::Replace(Box::new(publication)))
            }
            Err(error) => {
                tracing::warn!(%error, job_id = ?view.job_id, "a dead letter cannot be opened; it stays");
                unopenable += 1;
                Choice::Leave
            }
        };
        let swept = self.sweep(filter, limit, &mut replay).await?;
        Ok(Replayed { swept, unopenable })
    }

    fn replay_of(&self, letter: &DeadLetter) -> Result<Publication, SealError> {
        if let Some((properties, body)) = envelope::replayed(&self.keyring, &letter.properties, &letter.body)? {
            return Ok(Publication { to: Destination::Resume, properties, body });
        }
        let body = envelope::open_dead_letter(&self.keyring, &letter.body)?;
        let mut properties = letter.properties.clone();
        properties.user_id = None;
        properties.headers.retain(|name, _| !name.starts_with("x-erasure-"));
        Ok(Publication { to: Destination::Requests, properties, body: body.to_vec().into() })
    }

    /// Gives matching jobs up: removes their letters and forgets their checkpoints, unless a later
    /// run of the job is going on.
    ///
    /// # Errors
    /// Where broker or store fail.
    pub async fn discard(&self, filter: &LetterFilter, limit: usize, why: &Discard) -> Result<Swept, LetterError> {
        let mut given_up = Vec::new();
        let mut discard = |_: &DeadLetter, view: LetterView| {
            tracing::warn!(tenant = view.tenant, job_id = ?view.job_id, code = view.code, run = view.run,
                reason = %why.reason, by = %why.by, "dead letter discarded");
            if let (Some(key), Ok(run)) = (view.key(), u32::try_from(view.run)) {
                given_up.push((key, run));
            }
            Choice::Take(Verdict::Remove)
        };
        let swept = self.sweep(filter, limit, &mut discard).await;
        let mut batch = Batch::new();
        for portion in given_up.chunks(MOST_JOBS) {
            let (jobs, runs) = portion.iter().cloned().unzip();
            self.keep_decision(&self.decided(&why.by, &why.reason, What::Discard { jobs, runs }), &mut batch);
        }
        if !given_up.is_empty() {
            self.store.submit(batch).await?;
            for (key, run) in &given_up {
                self.give_up(key, *run, why, self.now()).await?;
            }
            self.tell_everywhere().await;
        }
        swept
    }

    /// Looks through the queue until `limit` matching letters were taken.
    async fn sweep(
        &self,
        filter: &LetterFilter,
        limit: usize,
        choose: &mut (dyn FnMut(&DeadLetter, LetterView) -> Choice + Send),
    ) -> Result<Swept, LetterError> {
        let (mut done, mut more) = (0, false);
        let mut decide = |letter: &DeadLetter| {
            let view = LetterView::of(&self.keyring, letter);
            if !filter.takes(&view) {
                return Verdict::Keep;
            }
            if done == limit {
                more = true;
                return Verdict::Keep;
            }
            match choose(letter, view) {
                Choice::Leave => Verdict::Keep,
                Choice::Take(verdict) => {
                    done += 1;
                    verdict
                }
            }
        };
        let looked_at = self.broker.dead_letters(MAX_LETTERS, &mut decide).await;
        match looked_at {
            Ok(looked_at) => Ok(Swept { looked_at, done, more: more || looked_at == MAX_LETTERS }),
            Err(error) => Err(LetterError::Broker { done: done.saturating_sub(1), error }),
        }
    }

    /// Forgets the checkpoints of a failed run and notes who decided so.
    pub(in crate::engine) async fn give_up(
        &self,
        key: &JobKey,
        run: u32,
        why: &Discard,
        at: At,
    ) -> Result<(), JournalError> {
        // In hand: a later run goes on, and its checkpoints are needed.
        let Ok(_hand) = tokio::time::timeout(HAND_WAIT, self.hands.take(key)).await else { return Ok(()) };
        let failed = |outcome| outcome == JobOutcome::Failed;
        if !ended_of(&*self.store, key)?.is_some_and(|ended| failed(ended.outcome) && ended.run == run) {
            return Ok(());
        }
        let mut batch = Batch::new();
        forget_checkpoints(&*self.store, key, &mut batch)?;
        let note = Discarded { at: at.to_rfc3339(), by: why.by.clone(), reason: why.reason.clone() };
        let row = discarded_row(key);
        retention::expire_fact(&mut batch, self.now().plus(self.settings.retain_finished), &row);
        batch.put(Table::Meta, row, serde_json::to_vec(&note).unwrap_or_default());
        Ok(self.store.submit(batch).await?)
    }

    /// Who gave the job up.
    pub(super) fn discarded(&self, key: &JobKey) -> Result<Option<Discarded>, StoreError> {
        let note = self.store.get(Table::Meta, &discarded_row(key))?;
        Ok(note.and_then(|note| serde_json::from_slice(&note).ok()))
    }
}

fn discarded_row(key: &JobKey) -> Vec<u8> {
    [rows::DISCARDED.prefix, &key.to_bytes()].concat()
}

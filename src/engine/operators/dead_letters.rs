//! Dead letters: viewed by their headers, replayed as new runs, or discarded.
//!
//! The rule it keeps: a letter leaves the queue only after its replay was confirmed, or after an operator discarded
//! it; no body is ever shown.

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

/// Most letters in one request.
pub const MAX_LETTERS: usize = 10_000;
/// A discarded job is not in hand. If it is delivered in this moment, it continues.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LONGEST_TEXT: usize = 500;

/// A selection of dead letters; all of them if nothing is set.
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
    /// True if nothing is set.
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
    /// A letter without a time matches no time limit.
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
    /// The tenant, if the message named one.
    pub tenant: Option<String>,
    /// The job's id, if the message named one.
    pub job_id: Option<Uuid>,
    /// The stable code.
    pub code: Option<String>,
    /// The code's word.
    pub reason: Option<&'static str>,
    /// One sentence.
    pub sentence: Option<String>,
    /// Who can let it continue: `new_input`, `operator` or `never`.
    pub retry: Option<&'static str>,
    /// The place in the runbook.
    pub runbook: Option<String>,
    /// The system of the failure.
    pub system: Option<String>,
    /// The step of the failure.
    pub step: Option<String>,
    /// Failed attempts at that step.
    pub attempts: i64,
    /// The run that failed; 0 if the message never became a job.
    pub run: i64,
    /// The time.
    pub at: Option<String>,
    /// True if a MAC of the worker covers all of these; otherwise anybody may have written them.
    pub vouched: bool,
    /// The job, if a valid MAC covers it.
    #[serde(skip)]
    key: Option<JobKey>,
    /// True if the body is sealed.
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
    /// The matching letters.
    pub dead_letters: Vec<LetterView>,
    /// The number of matching letters among those viewed.
    pub matching: usize,
    /// True if more letters match, or if not all were viewed.
    pub more: bool,
}

/// The result of a walk over the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Letters viewed.
    pub looked_at: usize,
    /// Letters that left the queue.
    pub done: usize,
    /// True if more letters match, or if not all were viewed.
    pub more: bool,
}

/// The result of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The walk.
    pub swept: Swept,
    /// Letters that cannot be opened with the present keys; they stay.
    pub unopenable: usize,
}

/// The reason of a discard, and the operator.
#[derive(Debug, Clone)]
pub struct Discard {
    /// The reason; without personal data.
    pub reason: String,
    /// The operator.
    pub by: String,
}

/// A discarded job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// The time.
    pub at: String,
    /// The operator.
    pub by: String,
    /// The reason.
    pub reason: String,
}

/// The reason why dead letters could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The broker failed; earlier letters stay handled.
    #[error("{error} ({done} dead letters were handled before)")]
    Broker {
        /// The most letters that had left the queue.
        done: usize,
        /// The broker's error.
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

/// The action for a matching letter.
enum Choice {
    Leave,
    Take(Verdict),
}

impl Engine {
    /// Views `limit` dead letters after the first `skip`, by their headers; nothing changes.
    ///
    /// # Errors
    /// The broker fails.
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

    /// Publishes the matching jobs again: an accepted job as its next run, which continues from its checkpoints;
    /// every other message as its publisher sent it.
    ///
    /// # Errors
    /// The broker fails; confirmed replays stay.
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

    /// Discards the matching jobs: removes their letters, and forgets their checkpoints unless a later run is open.
    ///
    /// # Errors
    /// Broker or store fail.
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
            self.publish_decisions().await;
        }
        swept
    }

    /// Walks over the queue until `limit` matching letters were handled.
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

    /// Forgets the checkpoints of a failed run and notes the operator.
    pub(in crate::engine) async fn give_up(
        &self,
        key: &JobKey,
        run: u32,
        why: &Discard,
        at: At,
    ) -> Result<(), JournalError> {
        // In hand: a later run is open and needs its checkpoints.
        let Ok(_lock) = tokio::time::timeout(LOCK_WAIT, self.job_locks.take(key)).await else { return Ok(()) };
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

    /// The operator who discarded the job, with time and reason.
    pub(super) fn discarded(&self, key: &JobKey) -> Result<Option<Discarded>, StoreError> {
        let note = self.store.get(Table::Meta, &discarded_row(key))?;
        Ok(note.and_then(|note| serde_json::from_slice(&note).ok()))
    }
}

fn discarded_row(key: &JobKey) -> Vec<u8> {
    [rows::DISCARDED.prefix, &key.to_bytes()].concat()
}

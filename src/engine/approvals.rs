//! Erasures that wait for another operator's approval of the findings.
//!
//! The rule it keeps: a decision is about the findings that were shown, and about no others. It takes effect in the
//! run that compares them, and is removed together with them.
//!
//! The message stays on the broker, and the findings stay sealed in the job's journal. The rows here hold what may be
//! shown (the losses, as counts and offers), a keyed digest of the findings, and the decision.

use std::sync::MutexGuard;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decisions::{DecisionError, MOST_JOBS, Taken, What};
use super::in_hand::Run;
use super::interrupted::Interrupted;
use super::journal::{JournalError, folded, record_of};
use super::mirror::{Locked, Mirror, Mirrored, of_versioned, versioned};
use super::rests::{Rests, twin_before};
use super::{Engine, retention, rows};
use crate::job::flow::Ask;
use crate::job::wait::Waiting;
use crate::job::{At, Entry, Found, InputKind, JobKey, Mode, TargetState};
use crate::store::{Batch, Store, StoreError, Table, Ticket};

/// A decision takes effect when the job is redelivered after its wait. This is the longest wait.
const LOOK_AGAIN: Duration = Duration::from_secs(910);
/// The purpose word of the findings' digest.
const FINDINGS: &str = "approval";
const LOSSES: &[u8] = rows::APPROVAL_LOSSES.prefix;
/// Decisions about findings that another worker has shown.
const DECIDED: &[u8] = rows::APPROVAL_DECIDED.prefix;
/// As long as the control stream keeps a decision.
const DECIDED_KEPT: Duration = Duration::from_secs(91 * 86_400);

/// An operator's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// False: nothing is to be erased.
    pub is_approved: bool,
    /// The operator.
    pub by: String,
    /// The time.
    pub at: At,
}

/// A preview that waits for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The requesters: none of them may approve.
    pub requested_by: Vec<String>,
    /// The time of the request.
    pub at: At,
    /// True after an earlier approval, if more was found since or the approval expired.
    pub is_again: bool,
    /// The decision, until the redelivered job applies it.
    pub decision: Option<Decision>,
    findings: Vec<u8>,
}

impl Asked {
    /// A name of exactly these findings.
    pub fn preview(&self) -> String {
        hex::encode(self.findings.get(4..20).unwrap_or_default())
    }

    /// True if this is one of the requesters; case and outer spaces do not count.
    fn is_asked_by(&self, name: &str) -> bool {
        self.requested_by.iter().any(|one| one.trim().to_lowercase() == name.trim().to_lowercase())
    }
}

/// A decision about findings that another worker has shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Elsewhere {
    findings: Vec<u8>,
    decision: Decision,
}

/// The reason why no decision was made.
#[derive(Debug, thiserror::Error)]
pub enum UndecidedError {
    /// The job waits for no approval.
    #[error("the job waits for no approval")]
    Unknown,
    /// A requester cannot approve.
    #[error("{0} asked for it, and another operator must approve")]
    SameOperator(String),
    /// The findings have changed.
    #[error("the findings have changed: read the preview again")]
    Changed,
    /// Another operator decided first.
    #[error("{} decided first", .0.by)]
    Decided(Decision),
    /// The approval was requested again after the first destructive step: it is too late for a rejection.
    #[error("the job has begun what cannot be taken back")]
    TooLate,
    /// The decision did not take effect.
    #[error(transparent)]
    Decision(#[from] DecisionError),
}

impl From<JournalError> for UndecidedError {
    fn from(error: JournalError) -> Self {
        UndecidedError::Decision(error.into())
    }
}

impl From<StoreError> for UndecidedError {
    fn from(error: StoreError) -> Self {
        UndecidedError::Decision(error.into())
    }
}

/// All jobs that wait for an approval.
#[derive(Debug, Default)]
pub(crate) struct Approvals(Locked<Mirror<Asked>>);

fn row(table: &[u8], key: &JobKey) -> Vec<u8> {
    [table, &key.to_bytes()].concat()
}

impl Approvals {
    /// Locks the rows; the first use reads them from the store.
    pub(crate) fn lock(&self, store: &dyn Store) -> Result<MutexGuard<'_, Mirror<Asked>>, StoreError> {
        self.0.lock(|| Mirror::read(store))
    }
}

impl Mirrored for Asked {
    type Key = JobKey;
    const PREFIX: &'static [u8] = rows::APPROVAL_ASKED.prefix;

    fn decode(key: &JobKey, value: &[u8]) -> Result<Option<Asked>, StoreError> {
        let asked = of_versioned(value).ok();
        if asked.is_none() {
            // The job asks again when it is redelivered.
            tracing::warn!(job = %key, "an approval's row cannot be decoded; the approval is requested again");
        }
        Ok(asked)
    }
}

impl Mirror<Asked> {
    /// Removes the job's request: it no longer waits for an approval.
    pub(crate) fn forget(&mut self, key: &JobKey, batch: &mut Batch) {
        if self.remove(key, batch) {
            batch.remove(Table::Meta, row(LOSSES, key));
        }
    }
}

/// The findings of the open targets' reads, as one value.
fn findings(targets: &[TargetState]) -> Vec<u8> {
    let open = targets.iter().enumerate().filter(|(_, state)| state.end.is_none());
    open.flat_map(|(index, state)| {
        let found = Found::of(state).to_bytes();
        [index.to_be_bytes().to_vec(), found.len().to_be_bytes().to_vec(), found].concat()
    })
    .collect()
}

impl Engine {
    /// Before a run: notes that an approval is needed, and applies a decision about exactly the findings of this job.
    pub(crate) fn heed_approval(&self, run: &Run<'_>) -> Result<(), Interrupted> {
        let at = self.now();
        let key = &run.job.key;
        let mut entries = Vec::new();
        let approving = run.journal.with(|state| state.targets.first().map(|target| target.approving.clone()));
        let approving = approving.unwrap_or_default();
        let asks = run.job.approval.as_ref().map(|approval| &approval.requested_by);
        // Without a request in the job, but with the configuration's rule, the tenant counts as the requester.
        let is_wanted = || approving.requested_by.is_empty() && self.wants_approval(run);
        if let Some(by) = asks.or_else(|| is_wanted().then_some(&key.tenant))
            && !approving.requested_by.contains(by)
        {
            entries.push(Entry::ApprovalNeeded { by: by.clone(), at });
        }
        let mut all = self.approvals.lock(&*self.store)?;
        let mut batch = Batch::new();
        let decided = all.get(key).and_then(|asked| Some((asked.findings.clone(), asked.decision.clone()?)));
        if let Some((shown, decision)) = decided {
            let found = zeroize::Zeroizing::new(run.journal.with(|state| findings(&state.targets)));
            // A decision about other findings does not count.
            if self.keyring.matches_digest(FINDINGS, &found, &shown) == Some(true) {
                let Decision { is_approved, by, at } = decision;
                entries.push(if is_approved { Entry::Approved { by, at } } else { Entry::Rejected { by, at } });
                tracing::info!(is_approved, "an operator's decision takes effect");
            }
            run.journal.change_record(|record| record.announced.retain(|(_, kind)| *kind != InputKind::Approval));
            all.forget(key, &mut batch);
        }
        if !entries.is_empty() || !batch.is_empty() {
            run.journal.write(&*self.store, entries, batch)?;
        }
        let is_rejected =
            run.journal.with(|state| state.targets.iter().any(|target| target.approving.rejected.is_some()));
        if is_rejected && self.can_cancel(run) {
            run.cancelled.cancel();
        }
        Ok(())
    }

    /// True if the configuration requires an approval of this erasure. An erasure that has begun continues.
    fn wants_approval(&self, run: &Run<'_>) -> bool {
        run.job.mode == Mode::Erase
            && self.policy.needs_approval(&run.job.key.tenant)
            && !run.journal.with(|state| state.targets.iter().any(|target| target.touched))
    }

    /// Asks only after all targets were read: an approval covers the whole preview.
    pub(crate) fn ask_when_complete(&self, run: &Run<'_>, rests: Rests) -> Rests {
        let Rests::Waits(mut waits) = rests else { return rests };
        let asks = &mut waits.asks;
        let is_asked = |index: usize, asks: &[(u16, Ask)]| {
            asks.iter().any(|(target, ask)| usize::from(*target) == index && ask.kind == InputKind::Approval)
        };
        let open = run.journal.with(|state| {
            let open = state.targets.iter().enumerate().filter(|(_, target)| target.end.is_none());
            open.map(|(index, _)| index).collect::<Vec<_>>()
        });
        if open.iter().any(|index| is_asked(*index, asks)) {
            // The second target with the same identity waits for the first one, not for a person.
            let is_twin = |index: usize| twin_before(run.job, index).is_some_and(|twin| open.contains(&twin));
            if !open.iter().all(|index| is_asked(*index, asks) || is_twin(*index)) {
                asks.retain(|(_, ask)| ask.kind != InputKind::Approval);
            } else if waits.why == Waiting::Input {
                waits.until = waits.until.min(self.now().plus(LOOK_AGAIN));
            }
        }
        Rests::Waits(waits)
    }

    /// Stores the request for operators, in the write that parks the job. A request about the same findings stays,
    /// with its decision.
    pub(crate) fn put_approval(
        &self,
        run: &Run<'_>,
        losses: &serde_json::Value,
        all: &mut Mirror<Asked>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let key = &run.job.key;
        let found = zeroize::Zeroizing::new(run.journal.with(|state| findings(&state.targets)));
        let (requested_by, is_again) = run.journal.with(|state| {
            let needed = state.targets.iter().map(|target| &target.approving);
            let is_again = needed.clone().any(|approving| approving.approved.is_some());
            (needed.map(|approving| approving.requested_by.clone()).next().unwrap_or_default(), is_again)
        });
        let stands = |asked: &Asked| {
            let is_same = self.keyring.matches_digest(FINDINGS, &found, &asked.findings) == Some(true);
            is_same && asked.requested_by == requested_by
        };
        // The decision is written to the request's row alone, so the losses must be there too: a full disk may have
        // refused them.
        if all.get(key).is_some_and(stands) && self.store.get(Table::Meta, &row(LOSSES, key))?.is_some() {
            return Ok(());
        }
        let findings = self.keyring.digest(FINDINGS, &found).to_vec();
        let mut asked = Asked { requested_by, at: self.now(), is_again, decision: None, findings };
        if let Some(before) = self.decided_elsewhere(key)? {
            let is_same = self.keyring.matches_digest(FINDINGS, &found, &before.findings) == Some(true);
            if is_same && self.may_decide(key, &asked, &before.decision).is_ok() {
                asked.decision = Some(before.decision);
            }
            batch.remove(Table::Meta, row(DECIDED, key));
        }
        all.put(key.clone(), asked, batch);
        batch.put(Table::Meta, row(LOSSES, key), losses.to_string().into_bytes());
        Ok(())
    }

    /// The jobs that wait for a decision, in order, after the given job.
    ///
    /// # Errors
    /// The store fails.
    pub fn approvals(&self, after: Option<&JobKey>) -> Result<Vec<(JobKey, Asked)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let all = self.approvals.lock(&*self.store)?;
        let from = after.map_or(Unbounded, Excluded);
        Ok(all.range::<JobKey, _>((from, Unbounded)).map(|(key, asked)| (key.clone(), asked.clone())).collect())
    }

    /// The number of jobs that wait for a decision, and the time of the oldest request.
    ///
    /// # Errors
    /// The store fails.
    pub fn undecided(&self) -> Result<(usize, Option<At>), StoreError> {
        let all = self.approvals.lock(&*self.store)?;
        let asked_at = all.values().filter(|asked| asked.decision.is_none()).map(|asked| asked.at);
        Ok((asked_at.clone().count(), asked_at.min()))
    }

    /// The losses of each target of such a job, as its event shows them.
    ///
    /// # Errors
    /// The store fails.
    pub fn losses(&self, key: &JobKey) -> Result<serde_json::Value, StoreError> {
        let bytes = self.store.get(Table::Meta, &row(LOSSES, key))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Decides about exactly the findings named `preview`. The decision takes effect when the job is redelivered
    /// after its wait, within a quarter of an hour.
    ///
    /// # Errors
    /// This decision is not allowed; nothing is decided.
    pub async fn decide_approval(
        &self,
        key: &JobKey,
        preview: &str,
        is_approved: bool,
        by: &str,
    ) -> Result<Decision, UndecidedError> {
        let decision = Decision { is_approved, by: by.to_owned(), at: self.now() };
        let asked = self.approvals.lock(&*self.store)?.get(key).cloned().ok_or(UndecidedError::Unknown)?;
        if asked.preview() != preview {
            return Err(UndecidedError::Changed);
        }
        self.may_decide(key, &asked, &decision)?;
        let (at, taken) = self.publish_approval(&[(key.clone(), asked)], &decision).await?;
        if let Some(before) = taken.before {
            return Err(UndecidedError::Decided(before));
        }
        Ok(Decision { at, ..decision })
    }

    /// Publishes a decision about these jobs and carries it out.
    async fn publish_approval(
        &self,
        shown: &[(JobKey, Asked)],
        decision: &Decision,
    ) -> Result<(At, Taken), DecisionError> {
        let jobs = shown.iter().map(|(key, _)| key.clone()).collect();
        let findings = shown.iter().map(|(_, asked)| hex::encode(&asked.findings)).collect();
        let what = What::Approval { is_approved: decision.is_approved, jobs, findings };
        let decided = self.decided(&decision.by, "", what);
        Ok((decided.at, self.carry_out(&decided).await?))
    }

    /// Decides about every preview that `is_meant`, in its current state. Returns the number of decisions, and the
    /// number of previews that this operator may not decide about.
    ///
    /// # Errors
    /// The store fails; earlier decisions stay.
    pub async fn decide_approvals(
        &self,
        is_meant: impl Fn(&JobKey, &Asked) -> bool,
        is_approved: bool,
        by: &str,
    ) -> Result<(usize, usize), UndecidedError> {
        let decision = Decision { is_approved, by: by.to_owned(), at: self.now() };
        let meant: Vec<_> = self.approvals(None)?.into_iter().filter(|(key, asked)| is_meant(key, asked)).collect();
        let (mut done, mut left) = (0, 0);
        for portion in meant.chunks(MOST_JOBS) {
            let mut shown = Vec::new();
            for (key, seen) in portion {
                // A preview that changed since the operator saw it is not meant.
                let is_same = self.approvals.lock(&*self.store)?.get(key) == Some(seen);
                match self.may_decide(key, seen, &decision) {
                    _ if !is_same => {}
                    Ok(()) => shown.push((key.clone(), seen.clone())),
                    Err(UndecidedError::Decision(error)) => return Err(error.into()),
                    Err(_) => left += 1,
                }
            }
            if !shown.is_empty() {
                let (_, taken) = self.publish_approval(&shown, &decision).await?;
                (done, left) = (done + taken.done, left + taken.left);
            }
        }
        tracing::warn!(done, left, is_approved, by, "an operator decided about previews");
        Ok((done, left))
    }

    /// Checks that this decision is allowed.
    fn may_decide(&self, key: &JobKey, asked: &Asked, decision: &Decision) -> Result<(), UndecidedError> {
        if let Some(decision) = &asked.decision {
            return Err(UndecidedError::Decided(decision.clone()));
        }
        if decision.is_approved && asked.is_asked_by(&decision.by) {
            return Err(UndecidedError::SameOperator(decision.by.clone()));
        }
        if !decision.is_approved && asked.is_again {
            let targets = record_of(&*self.store, key)?.map_or(0, |record| record.systems.len());
            if folded(&*self.store, key, targets)?.iter().any(|target| target.touched) {
                return Err(UndecidedError::TooLate);
            }
        }
        Ok(())
    }

    /// The decision about the job's findings as another worker has shown them.
    fn decided_elsewhere(&self, key: &JobKey) -> Result<Option<Elsewhere>, StoreError> {
        let value = self.store.get(Table::Meta, &row(DECIDED, key))?;
        Ok(value.and_then(|value| of_versioned(&value).ok()))
    }

    /// Takes a decision that was read from the stream. It takes effect if exactly these findings were shown here. If
    /// the job has shown none yet, the decision is stored until it has.
    pub(crate) async fn take_approval(
        &self,
        decision: &Decision,
        jobs: &[JobKey],
        findings: &[String],
        mut batch: Batch,
    ) -> Result<Taken, JournalError> {
        let mut taken = Taken::default();
        let mut decided = Vec::new();
        let noted = {
            let mut all = self.approvals.lock(&*self.store)?;
            for (key, findings) in jobs.iter().zip(findings) {
                let findings = hex::decode(findings).unwrap_or_default();
                let shown = all.get(key).filter(|asked| asked.findings == findings).cloned();
                let Some(mut asked) = shown else {
                    let elsewhere = Elsewhere { findings, decision: decision.clone() };
                    let name = row(DECIDED, key);
                    retention::expire_fact(&mut batch, self.now().plus(DECIDED_KEPT), &name);
                    batch.put(Table::Meta, name, versioned(&elsewhere));
                    continue;
                };
                match self.may_decide(key, &asked, decision) {
                    Ok(()) => {
                        asked.decision = Some(decision.clone());
                        all.put(key.clone(), asked.clone(), &mut batch);
                        decided.push((key.clone(), asked));
                    }
                    Err(UndecidedError::Decision(DecisionError::Journal(error))) => return Err(error),
                    Err(error) => {
                        taken.left += 1;
                        if let UndecidedError::Decided(before) = error {
                            taken.before.get_or_insert(before);
                        }
                    }
                }
            }
            self.store.submit(batch)
        };
        taken.done = decided.len();
        self.are_decided(decided, noted).await?;
        Ok(taken)
    }

    /// Waits until decisions are durable. A refused decision is undone in memory. A durable one is put back if a job
    /// in hand has read the disk too early.
    async fn are_decided(&self, decided: Vec<(JobKey, Asked)>, noted: Ticket) -> Result<(), StoreError> {
        let noted = noted.await;
        let mut all = self.approvals.lock(&*self.store)?;
        for (key, decided) in decided {
            let undecided = Asked { decision: None, ..decided.clone() };
            let (from, to) = if noted.is_ok() { (undecided, decided) } else { (decided, undecided) };
            if let Some(asked) = all.get_mut(&key).filter(|asked| **asked == from) {
                *asked = to;
            }
        }
        noted
    }
}

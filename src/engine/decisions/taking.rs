//! Carries out a decision that was read from the stream, as if it were made here.
//!
//! The rule it keeps: each decision is carried out once, in the write that moves the place in the stream; a second
//! copy of it changes nothing.

use std::time::Duration;

use super::{Authenticity, Decided, TOO_OLD, What, kept_row, seen_row};
use crate::broker::Control;
use crate::engine::approvals::Decision;
use crate::engine::ceilings::Guarded;
use crate::engine::journal::JournalError;
use crate::engine::operators::Discard;
use crate::engine::{Engine, retention};
use crate::store::{Batch, StoreError, Table};

/// A release is about a hold at its own time. A release that is read later than this is ignored.
const RELEASE_HEEDED: Duration = Duration::from_secs(900);

/// The effect of a decision here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The jobs that it changed, or 1 for the system or tenant that it names.
    pub done: usize,
    /// Jobs that it could not change.
    pub left: usize,
    /// The earlier decision about the first of those jobs.
    pub before: Option<Decision>,
}

impl Taken {
    pub(crate) fn one(done: bool) -> Taken {
        Taken { done: usize::from(done), ..Taken::default() }
    }
}

impl Engine {
    /// Carries out a message that is a decision. If the message is no decision, the batch is returned. A decision
    /// without a valid MAC changes nothing.
    pub(crate) async fn take_if_decision(
        &self,
        control: &Control,
        batch: Batch,
    ) -> Result<Option<Batch>, JournalError> {
        match Decided::read(&control.body, &self.keyring) {
            Authenticity::Other => return Ok(Some(batch)),
            Authenticity::Ours(decided) => drop(self.take_decision(&decided, batch).await?),
            Authenticity::Forged => {
                self.figures.label("unauthorised", "", "decision");
                self.figures.count(&self.figures.unauthorised);
                tracing::warn!(
                    offset = control.offset,
                    "a message of the control stream claims to be an operator's decision, but has no valid MAC; it \
                     is ignored"
                );
                self.store.submit(batch).await?;
            }
            Authenticity::Unknown => {
                tracing::warn!(offset = control.offset, "a decision of a newer release is unknown here; it is ignored");
                self.store.submit(batch).await?;
            }
        }
        Ok(None)
    }

    /// Notes that a decision was carried out.
    pub(super) fn note_seen(&self, decided: &Decided, batch: &mut Batch) {
        let row = seen_row(decided.id);
        retention::expire_fact(batch, self.now().plus(TOO_OLD), &row);
        batch.put(Table::Meta, row, Vec::new());
    }

    fn is_seen(&self, decided: &Decided) -> Result<bool, StoreError> {
        Ok(self.store.get(Table::Meta, &seen_row(decided.id))?.is_some())
    }

    /// Carries a decision out, in this batch.
    pub(crate) async fn take_decision(&self, decided: &Decided, mut batch: Batch) -> Result<Taken, JournalError> {
        let word = decided.what.word();
        if self.store.get(Table::Meta, &kept_row(decided))?.is_some() {
            batch.remove(Table::Meta, kept_row(decided));
        }
        let is_foreign = decided.environment != self.accepts.environment;
        let is_old = self.now().since(decided.at) > TOO_OLD;
        let is_nothing = decided.what == What::Mark || is_foreign || is_old;
        if is_nothing || self.is_seen(decided)? {
            if is_foreign {
                tracing::warn!(decision = word, "a decision of another environment is ignored");
            }
            if !batch.is_empty() {
                self.store.submit(batch).await?;
            }
            self.decisions.answer(decided.id, Taken::default());
            return Ok(Taken::default());
        }
        if let What::Ended { jobs, run, park } = &decided.what {
            for key in jobs {
                self.take_ended(key, *run, *park, &mut batch)?;
            }
            self.store.submit(batch).await?;
            return Ok(Taken::one(true));
        }
        if let What::SetAside { print } = &decided.what {
            self.is_set_aside(print, &mut batch);
            self.store.submit(batch).await?;
            return Ok(Taken::one(true));
        }
        self.note_seen(decided, &mut batch);
        let taken = match &decided.what {
            What::Mark | What::Ended { .. } | What::SetAside { .. } => Taken::default(),
            What::Pause { subject, since, again } => {
                self.take_pause(decided, subject, *since, *again, batch).await?;
                Taken::one(true)
            }
            What::Resume { subject } => Taken::one(self.take_resume(decided, subject, batch).await?),
            What::Cancel { jobs } => {
                let open = self.take_cancels(jobs, batch).await?;
                let done = open.iter().filter(|open| **open).count();
                Taken { done, left: open.len() - done, before: None }
            }
            What::ReleaseSystem { system } => {
                let age = self.now().since(decided.at);
                let gate = self.gates.get(system).filter(|_| age <= RELEASE_HEEDED);
                self.store.submit(batch).await?;
                Taken::one(gate.is_some_and(|gate| gate.release_held_for(age)))
            }
            What::Discard { jobs, runs } => {
                let why = Discard { reason: decided.reason.clone(), by: decided.by.clone() };
                for (key, run) in jobs.iter().zip(runs) {
                    self.give_up(key, *run, &why, decided.at).await?;
                }
                self.store.submit(batch).await?;
                Taken { done: jobs.len(), ..Taken::default() }
            }
            What::ReleaseGuard { scope, until, jobs } => {
                let about = Guarded { decided, scope, until: *until, named: jobs };
                let done = self.take_guard_release(&about, batch).await?;
                Taken { done, ..Taken::default() }
            }
            What::DiscardGuarded { scope, until, jobs } => {
                let about = Guarded { decided, scope, until: *until, named: jobs };
                let done = self.take_guard_discard(&about, batch).await?;
                Taken { done, ..Taken::default() }
            }
            What::Approval { is_approved, jobs, findings } => {
                let decision = Decision { is_approved: *is_approved, by: decided.by.clone(), at: decided.at };
                self.take_approval(&decision, jobs, findings, batch).await?
            }
        };
        self.figures.label("decisions", "", word);
        tracing::warn!(decision = word, by = %decided.by, reason = %decided.reason, at_worker = %decided.worker,
            done = taken.done, left = taken.left, "an operator's decision takes effect");
        self.decisions.answer(decided.id, taken.clone());
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "taking_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

//! Forgetting after the retention times, the watch over systems, and the memory of proven credentials.
//!
//! The rule it keeps: an ended job is remembered without personal data for `retain_finished`. A failed job keeps its
//! sealed checkpoints for `retain_failed`, and no longer.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::gate::Client;
use super::in_hand::JobLock;
use super::interrupted::Interrupted;
use super::journal::{JournalError, forget_checkpoints};
use super::{Engine, Gate, Settings, rows};
use crate::job::{At, Ended, Failure, JobKey, JobOutcome};
use crate::store::{Batch, Store, StoreError, Table};

/// Forget the checkpoints of a failed job.
const CHECKPOINTS: u8 = 1;
/// Forget the whole job. Only for store version 1, whose receipts do not name their jobs, and for jobs that were
/// unreadable when their receipt was forgotten.
const JOB: u8 = 2;
/// Forget a fact, for example the time of a first refusal, or the operator of a discard.
const FACT: u8 = 3;
/// Forget a cancellation whose job never arrived.
const CANCEL: u8 = 4;
/// Check a job's due time.
const DUE: u8 = 5;
/// As long as the control stream keeps it.
const CANCEL_KEPT: Duration = Duration::from_secs(90 * 86_400);
const PAGE: usize = 256;
/// The pause between looks for due rows.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A job in hand is not waited for, but checked again after this.
pub(crate) const IN_HAND_PAUSE: Duration = Duration::from_secs(60);
/// An unreadable row stays and is checked again after this: another release may read it.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(86_400);

/// Notes when an ended job's checkpoints may be forgotten. The job itself is forgotten with its receipt.
pub(crate) fn expire(batch: &mut Batch, key: &JobKey, now: At, settings: &Settings, outcome: JobOutcome) {
    if outcome == JobOutcome::Failed {
        put(batch, now.plus(settings.retain_failed), CHECKPOINTS, &key.to_bytes());
    }
}

/// Notes when a cancellation may be forgotten.
pub(crate) fn expire_cancel(batch: &mut Batch, key: &JobKey, now: At) {
    put(batch, now.plus(CANCEL_KEPT), CANCEL, &key.to_bytes());
}

/// Notes when a fact's row may be forgotten.
pub(crate) fn expire_fact(batch: &mut Batch, at: At, row: &[u8]) {
    put(batch, at, FACT, row);
}

/// Notes when a job's due time must be checked.
pub(crate) fn look_at_due(batch: &mut Batch, key: &JobKey, at: At) {
    put(batch, at, DUE, &key.to_bytes());
}

/// Forgets a job, and its checkpoints even if their time is not over.
pub(crate) fn forget_job(store: &dyn Store, key: &JobKey, batch: &mut Batch) -> Result<(), StoreError> {
    batch.remove(Table::Ended, key.to_bytes());
    if store.get(Table::Job, &key.to_bytes())?.is_some() {
        forget_checkpoints(store, key, batch)?;
    }
    Ok(())
}

/// Notes that an ended job's row could not be read when it was due to be forgotten.
pub(crate) fn look_at_unreadable(batch: &mut Batch, key: &JobKey, now: At) {
    put(batch, now.plus(UNREADABLE_PAUSE), JOB, &key.to_bytes());
}

/// Removes the row that `look_at_due` wrote.
pub(crate) fn forget_due_time(batch: &mut Batch, key: &JobKey, at: At) {
    batch.remove(Table::Expiry, row(at, DUE, &key.to_bytes()));
}

fn put(batch: &mut Batch, at: At, what: u8, key: &[u8]) {
    batch.put(Table::Expiry, row(at, what, key), Vec::new());
}

fn row(at: At, what: u8, key: &[u8]) -> Vec<u8> {
    [&at.0.to_be_bytes(), &[what][..], key].concat()
}

fn refused_key(key: &JobKey, body: &[u8]) -> Vec<u8> {
    let mut row = rows::REFUSED.prefix.to_vec();
    row.extend_from_slice(&Sha256::digest([key.to_bytes().as_slice(), body].concat()));
    row
}

impl Engine {
    /// The time of a message's first refusal: its event keeps this time on every repeat.
    pub(crate) async fn first_refused_at(&self, key: &JobKey, body: &[u8]) -> Result<At, Interrupted> {
        let digest = self.keyring.digest("refused", &refused_key(key, body));
        let mut row = rows::REFUSED.prefix.to_vec();
        row.extend_from_slice(&digest);
        if let Some(at) = self.store.get(Table::Meta, &row)?.and_then(|bytes| bytes.try_into().ok()) {
            return Ok(At(i64::from_be_bytes(at)));
        }
        let now = self.now();
        let mut batch = Batch::new();
        batch.put(Table::Meta, row.clone(), now.0.to_be_bytes());
        put(&mut batch, now.plus(self.settings.retain_failed), FACT, &row);
        self.store.submit(batch).await?;
        Ok(now)
    }

    /// Forgets due rows in pages; after the last page, or after a failure, it pauses for a minute.
    pub(crate) async fn retention_loop(self: Arc<Self>) {
        while !self.draining.is_cancelled() {
            match self.forget_due().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::debug!(count, "forgotten");
                    continue;
                }
                Err(error) => self.store_trouble(&error.into()).await,
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }

    /// Forgets one page of due rows; returns their number.
    pub(crate) async fn forget_due(&self) -> Result<usize, JournalError> {
        let now = self.now();
        let mut batch = Batch::new();
        let mut count = self.forget_receipts().await?;
        // These locks keep other tasks from changing the jobs until the batch is stored.
        let mut locks = Vec::new();
        for (row, _) in self.store.scan(Table::Expiry, b"", None, PAGE)? {
            let Some((at, what, key)) = read(&row) else {
                batch.remove(Table::Expiry, row);
                continue;
            };
            if at > now {
                break;
            }
            count += 1;
            batch.remove(Table::Expiry, row.clone());
            let mut changes = Batch::new();
            match self.look_at(what, key, now, &mut changes) {
                Ok(lock) => locks.extend(lock),
                Err(error) if is_unreadable(&error) => {
                    tracing::error!(%error, "a row that is due cannot be read; it stays, and is read again in a day");
                    changes = Batch::new();
                    put(&mut changes, now.plus(UNREADABLE_PAUSE), what, key);
                }
                Err(error) => return Err(error),
            }
            batch.writes.append(&mut changes.writes);
            batch.expected.append(&mut changes.expected);
        }
        if !batch.is_empty() {
            match self.store.submit(batch).await {
                // A job has continued meanwhile; the next look sees that.
                Err(StoreError::Outrun) => {}
                settled => settled?,
            }
        }
        drop(locks);
        Ok(count)
    }

    /// Handles one due row and adds the changes to the batch. The returned lock is held until the batch is in the
    /// store.
    fn look_at(&self, what: u8, key: &[u8], now: At, batch: &mut Batch) -> Result<Option<JobLock<'_>>, JournalError> {
        match (what, JobKey::from_bytes(key)) {
            (FACT, _) => batch.remove(Table::Meta, key),
            (CANCEL, _) => batch.remove(Table::Cancel, key),
            (DUE, Some(job)) => return self.report_deadline(batch, &job, now),
            (CHECKPOINTS | JOB, Some(job)) => {
                let Some(lock) = self.job_locks.try_take(&job) else {
                    put(batch, now.plus(IN_HAND_PAUSE), what, key);
                    return Ok(None);
                };
                let Some(stored) = self.store.get(Table::Ended, key)? else { return Ok(None) };
                let kept = if what == JOB { self.settings.retain_finished } else { self.settings.retain_failed };
                // A replay may have opened the job again, or ended it later.
                if now < Ended::from_bytes(&stored)?.at.plus(kept) {
                    return Ok(None);
                }
                // A run that lost its delivery may have opened it in a write that is still on its way.
                batch.expect(Table::Ended, key, Some(stored));
                if what == JOB {
                    forget_job(&*self.store, &job, batch)?;
                } else {
                    forget_checkpoints(&*self.store, &job, batch)?;
                }
                return Ok(Some(lock));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Watches a system while the worker runs, see [`Gate::watch`]. A system that an operator has paused is not
    /// called: harmless reads are calls too.
    pub(crate) async fn probe_loop(self: Arc<Self>, gate: Arc<Gate>) {
        let system = gate.name();
        let watches = async {
            loop {
                self.pauses.until_system(system, false).await;
                tokio::select! {
                    biased;
                    () = self.pauses.until_system(system, true) => {}
                    () = gate.watch() => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => {}
            () = watches => {}
        }
    }

    /// Another name than in the earlier release, which counted any accepted call as a proof.
    fn proven_key(gate: &Gate) -> Vec<u8> {
        let mut row = rows::SHOWN.prefix.to_vec();
        row.extend_from_slice(gate.name().as_bytes());
        row
    }

    /// Stores the proof that this address and credential can find a person, for later processes.
    pub(crate) fn remember_proven_credential(&self, gate: &Gate, client: &Client) {
        // The credential was renewed during the call: the proof is of the former one.
        if !std::ptr::eq(&*gate.client(), client) {
            return;
        }
        let mut batch = Batch::new();
        let digest = self.keyring.digest("credential", fingerprint(client));
        batch.put(Table::Meta, Self::proven_key(gate), digest.to_vec());
        drop(self.store.submit(batch));
    }

    pub(crate) fn recall_proven_credentials(&self) -> Result<(), StoreError> {
        for gate in self.gates.values() {
            let client = gate.client();
            if let Some(stored) = self.store.get(Table::Meta, &Self::proven_key(gate))?
                && self.keyring.matches_digest("credential", fingerprint(&client), &stored) == Some(true)
            {
                client.system.credential().prove();
            }
        }
        Ok(())
    }

    /// Uses a renewed credential without a restart, after a harmless read with it has worked.
    ///
    /// # Errors
    /// The failure of that read: the former credential stays in use.
    pub async fn renew_credential(&self, system: &str, client: Client) -> Result<(), Failure> {
        let Some(gate) = self.gates.get(system) else { return Ok(()) };
        gate.renew(client).await?;
        let client = gate.client();
        if client.system.credential().is_proven() {
            self.remember_proven_credential(gate, &client);
        }
        Ok(())
    }
}

fn fingerprint(client: &Client) -> &[u8] {
    secrecy::ExposeSecret::expose_secret(&client.fingerprint).as_bytes()
}

fn is_unreadable(error: &JournalError) -> bool {
    matches!(error, JournalError::Undecodable(_) | JournalError::Store(StoreError::Unreadable(_)))
}

fn read(row: &[u8]) -> Option<(At, u8, &[u8])> {
    let at = i64::from_be_bytes(row.get(..8)?.try_into().ok()?);
    Some((At(at), *row.get(8)?, row.get(9..)?))
}

#[cfg(test)]
#[path = "retention/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

//! What is forgotten when, the probes of held systems, and which credentials are proven.
//!
//! The rule it keeps: an ended job is remembered without personal data for `retain_finished`; a
//! failed one keeps its sealed checkpoints for `retain_failed` and no longer.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::gate::Client;
use super::in_hand::Hand;
use super::interrupted::Interrupted;
use super::journal::{JournalError, forget_checkpoints};
use super::{Engine, Gate, Settings, rows};
use crate::job::{At, Ended, Failure, JobKey, JobOutcome};
use crate::store::{Batch, Store, StoreError, Table};

/// Forget the checkpoints of a failed job.
const CHECKPOINTS: u8 = 1;
/// Forget that the job was: in a store of version 1, where receipts do not name their jobs, and where the
/// job could not be read as its receipt was forgotten.
const JOB: u8 = 2;
/// Forget a fact: when a refused message was first seen, who discarded a job.
const REFUSED: u8 = 3;
/// Forget a cancellation whose job never came.
const CANCEL: u8 = 4;
/// Look at a job's due time.
const DUE: u8 = 5;
/// As long as the control stream keeps it.
const CANCEL_KEPT: Duration = Duration::from_secs(90 * 86_400);
const PAGE: usize = 256;
/// How often it is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A job in hand is not waited for, but looked at again after this.
pub(crate) const IN_HAND_PAUSE: Duration = Duration::from_secs(60);
/// What cannot be read stays, and is looked at again after this: another release may read it.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(86_400);

/// Notes when an ended job's checkpoints may be forgotten. That it was is forgotten with its receipt.
pub(crate) fn expire(batch: &mut Batch, key: &JobKey, now: At, settings: &Settings, outcome: JobOutcome) {
    if outcome == JobOutcome::Failed {
        put(batch, now.plus(settings.retain_failed), CHECKPOINTS, &key.to_bytes());
    }
}

/// Notes when a cancellation may be forgotten.
pub(crate) fn expire_cancel(batch: &mut Batch, key: &JobKey, now: At) {
    put(batch, now.plus(CANCEL_KEPT), CANCEL, &key.to_bytes());
}

/// Notes when a row of the store's facts may be forgotten.
pub(crate) fn expire_fact(batch: &mut Batch, at: At, row: &[u8]) {
    put(batch, at, REFUSED, row);
}

/// Notes when a job's due time is to be looked at.
pub(crate) fn look_at_due(batch: &mut Batch, key: &JobKey, at: At) {
    put(batch, at, DUE, &key.to_bytes());
}

/// Forgets that a job was, and its checkpoints where they were to be kept for longer.
pub(crate) fn forget_job(store: &dyn Store, key: &JobKey, batch: &mut Batch) -> Result<(), StoreError> {
    batch.remove(Table::Ended, key.to_bytes());
    if store.get(Table::Job, &key.to_bytes())?.is_some() {
        forget_checkpoints(store, key, batch)?;
    }
    Ok(())
}

/// Notes that what is remembered of a job could not be read when it was to be forgotten.
pub(crate) fn look_at_unreadable(batch: &mut Batch, key: &JobKey, now: At) {
    put(batch, now.plus(UNREADABLE_PAUSE), JOB, &key.to_bytes());
}

/// Takes back [`look_at_due`].
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
    /// When a refused message was first refused: its event keeps that time on every repeat.
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
        put(&mut batch, now.plus(self.settings.retain_failed), REFUSED, &row);
        self.store.submit(batch).await?;
        Ok(now)
    }

    /// Forgets what is due, a page at a time; after the last page, or a failure, a minute later.
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

    /// Forgets one page of what is due; how many rows it was.
    pub(crate) async fn forget_due(&self) -> Result<usize, JournalError> {
        let now = self.now();
        let mut batch = Batch::new();
        let mut count = self.forget_receipts().await?;
        // Nobody else changes these jobs until the batch is kept.
        let mut hands = Vec::new();
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
                Ok(hand) => hands.extend(hand),
                Err(error) if is_unreadable(&error) => {
                    tracing::error!(%error, "what is due cannot be read; it stays, and is looked at again in a day");
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
                // A job has gone on meanwhile, as the next look sees.
                Err(StoreError::Outrun) => {}
                settled => settled?,
            }
        }
        drop(hands);
        Ok(count)
    }

    /// Looks at what is due of a row and notes what changes by it. The hand, where there is one, is kept
    /// until that is in the store.
    fn look_at(&self, what: u8, key: &[u8], now: At, batch: &mut Batch) -> Result<Option<Hand<'_>>, JournalError> {
        match (what, JobKey::from_bytes(key)) {
            (REFUSED, _) => batch.remove(Table::Meta, key),
            (CANCEL, _) => batch.remove(Table::Cancel, key),
            (DUE, Some(job)) => return self.tell_deadline(batch, &job, now),
            (CHECKPOINTS | JOB, Some(job)) => {
                let Some(hand) = self.hands.try_take(&job) else {
                    put(batch, now.plus(IN_HAND_PAUSE), what, key);
                    return Ok(None);
                };
                let Some(stored) = self.store.get(Table::Ended, key)? else { return Ok(None) };
                let kept = if what == JOB { self.settings.retain_finished } else { self.settings.retain_failed };
                // A replay may have opened the job again, or ended it later.
                if now < Ended::from_bytes(&stored)?.at.plus(kept) {
                    return Ok(None);
                }
                // One that lost its delivery may have opened it in a write that is still on its way.
                batch.expect(Table::Ended, key, Some(stored));
                if what == JOB {
                    forget_job(&*self.store, &job, batch)?;
                } else {
                    forget_checkpoints(&*self.store, &job, batch)?;
                }
                return Ok(Some(hand));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Watches over a system while the worker works, see [`Gate::watch`]. One that an operator has paused is
    /// left alone: the harmless reads are calls as well.
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

    /// Not the name of the earlier release, which took any accepted call for a proof.
    fn proven_key(gate: &Gate) -> Vec<u8> {
        let mut row = rows::SHOWN.prefix.to_vec();
        row.extend_from_slice(gate.name().as_bytes());
        row
    }

    /// That this very address and credential have shown somebody is remembered over restarts.
    pub(crate) fn remember_proven_credential(&self, gate: &Gate, client: &Client) {
        // One that was renewed while its call was on the wire is the former one.
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

    /// Uses a system's renewed credential from now on, without a restart, once a harmless read with it has worked.
    ///
    /// # Errors
    /// How that read failed: then the former credential is used.
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

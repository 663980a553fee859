//! The chain of receipts in the store: one receipt for each outcome; a checkpoint replaces forgotten ones; audit
//! packs.
//!
//! The rule it keeps: outcome, event, receipt and the chain's new head are one batch. The store gets these batches in
//! the order of their numbers. Each batch expects the head before it. So a failed batch makes all later ones fail,
//! and no receipt refers to one that was never durable.

pub(super) mod row;

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use uuid::Uuid;

use self::row::Row;
use super::in_hand::{JobLock, Run};
use super::interrupted::Interrupted;
use super::journal::JournalError;
use super::{Engine, retention, rows};
use crate::job::event::{Final, with_receipt};
use crate::job::record::{Certified, Event, Undecodable};
use crate::job::{At, Ended, JobKey, JobOutcome};
use crate::receipt::claims::{self, Head, Link, Origin};
use crate::receipt::pack::{Content, Pack};
use crate::receipt::{CHECKPOINT, RECEIPT, digest};
use crate::seal::{Keyring, Signer};
use crate::store::{Batch, Store, StoreError, Table, Ticket};

const HEAD: &[u8] = rows::RECEIPT_HEAD.prefix;
const CHECKPOINT_ROW: &[u8] = rows::RECEIPT_CHECKPOINT.prefix;
const KEY: &[u8] = rows::RECEIPT_KEY.prefix;
const REFUSAL: &[u8] = rows::REFUSAL.prefix;
/// The purpose of the MAC over a remembered public key.
const VOUCHED: &str = "receipt-key";
const PAGE: usize = 256;
/// The most bytes of receipts in one pack.
pub const MOST_IN_A_PACK: usize = 16 << 20;

/// The chain of this process.
pub(crate) struct Receipts {
    signer: Signer,
    chain: Mutex<Chain>,
}

/// The content of a receipt.
struct Certifiable<'a> {
    /// The event's data.
    data: &'a Map<String, Value>,
    /// The commitment to the person's identities, if the publisher gave a salt.
    commitment: Option<String>,
}

/// The chain after the last submitted batch.
#[derive(Default)]
struct Chain {
    /// `None`: it must be read from the store.
    head: Option<Option<Head>>,
    /// Rises when a batch fails: all other batches of the old generation fail too.
    generation: u64,
}

/// The reason why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The span has more bytes of receipts than a pack may hold.
    #[error("the span holds more than the {} MiB of receipts that one pack takes; ask in parts: let the first end at {until}",
        MOST_IN_A_PACK >> 20)]
    TooMany {
        /// The end of the first run beyond that, RFC 3339.
        until: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Receipts {
    pub(crate) fn new(keyring: &Keyring) -> Receipts {
        Receipts { signer: keyring.signer(), chain: Mutex::default() }
    }

    fn chain(&self) -> std::sync::MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of this generation failed. All batches after it fail too, and all before it are settled. So the
    /// chain's head is reloaded from the store, once.
    fn failed(&self, generation: u64) {
        let mut chain = self.chain();
        if chain.generation == generation {
            *chain = Chain { head: None, generation: generation + 1 };
        }
    }
}

impl Chain {
    fn head(&mut self, store: &dyn Store) -> Result<Option<Head>, StoreError> {
        if let Some(head) = &self.head {
            return Ok(head.clone());
        }
        let head = head(store)?;
        self.head = Some(head.clone());
        Ok(head)
    }
}

fn head(store: &dyn Store) -> Result<Option<Head>, StoreError> {
    let unreadable = || StoreError::Unreadable("the head of the receipts".into());
    store.get(Table::Meta, HEAD)?.map(|bytes| Head::from_bytes(&bytes).ok_or_else(unreadable)).transpose()
}

fn read_row(key: &[u8], value: &[u8]) -> Option<(u64, Row)> {
    Some((u64::from_be_bytes(key.try_into().ok()?), row::read(value)?))
}

impl Engine {
    fn origin(&self) -> Origin {
        Origin {
            worker: self.settings.worker_id.clone(),
            environment: self.accepts.environment.clone(),
            worker_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Writes the end of a run in one batch: `rest`, the outcome with event and receipt, and the chain's new head.
    /// Returns after it is durable.
    pub(crate) async fn end_with_receipt(
        &self,
        run: &Run<'_>,
        ended: &mut Ended,
        data: &Map<String, Value>,
        rest: Batch,
    ) -> Result<(), Interrupted> {
        let forget = ended.outcome != JobOutcome::Failed;
        let commitment = run.job.receipt_salt.as_ref().map(|salt| {
            let salt = secrecy::ExposeSecret::expose_secret(salt).as_bytes();
            digest::commitment(salt, &run.job.identity_bytes())
        });
        let subject_ref = run.journal.with(|state| state.record.subject_ref.clone());
        let what = Certifiable { data, commitment };
        self.end_certified(&run.job.key, ended, what, subject_ref, rest, |batch| {
            run.journal.end(&*self.store, batch, forget)
        })
        .await
    }

    /// As [`Engine::end_with_receipt`], for a job whose message is not parsed again.
    pub(crate) async fn end_unread(
        &self,
        key: &JobKey,
        ended: &mut Ended,
        data: &Map<String, Value>,
        rest: Batch,
    ) -> Result<(), Interrupted> {
        let what = Certifiable { data, commitment: None };
        self.end_certified(key, ended, what, String::new(), rest, |batch| vec![self.store.submit(batch)]).await
    }

    async fn end_certified(
        &self,
        key: &JobKey,
        ended: &mut Ended,
        what: Certifiable<'_>,
        subject_ref: String,
        rest: Batch,
        mut hand_in: impl FnMut(Batch) -> Vec<Ticket>,
    ) -> Result<(), Interrupted> {
        let (mut event, at) = (ended.event.clone(), ended.at);
        self.certify(&mut event, what, rest, |event, receipt, number, mut batch| {
            ended.event.clone_from(event);
            let with_event = row::with_event(at, receipt, key, event);
            ended.certified = with_event.is_some().then(|| Certified { number, subject_ref: subject_ref.clone() });
            let row = with_event.unwrap_or_else(|| row::alone(at, receipt));
            batch.put(Table::Receipt, number.to_be_bytes(), row);
            batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
            hand_in(batch)
        })
        .await
    }

    /// Makes the final event of a refused message, with its receipt, once. Its repeats are read from the store.
    pub(crate) async fn refusal(&self, key: &JobKey, body: &[u8], last: Final) -> Result<Event, Interrupted> {
        let Final { mut event, data } = last;
        let row = [REFUSAL, &self.keyring.digest("refusal", &[&key.to_bytes(), body].concat())].concat();
        if let Some(stored) = self.store.get(Table::Meta, &row)? {
            return Ok(Event::from_bytes(&stored).map_err(JournalError::from)?);
        }
        let now = self.now();
        let mut rest = Batch::new();
        retention::expire_fact(&mut rest, now.plus(self.settings.retain_failed), &row);
        self.certify(
            &mut event,
            Certifiable { data: &data, commitment: None },
            rest,
            |event, receipt, number, mut batch| {
                batch.put(Table::Receipt, number.to_be_bytes(), row::alone(now, receipt));
                batch.put(Table::Meta, row.clone(), event.to_bytes());
                vec![self.store.submit(batch)]
            },
        )
        .await?;
        Ok(event)
    }

    /// Adds a receipt to an event. `hand_in` gets the event, the receipt and its number; it adds its own rows to the
    /// batch and submits it. It is called again, with another receipt, if an earlier batch failed.
    async fn certify(
        &self,
        event: &mut Event,
        what: Certifiable<'_>,
        rest: Batch,
        mut hand_in: impl FnMut(&Event, &str, u64, Batch) -> Vec<Ticket>,
    ) -> Result<(), Interrupted> {
        let bare = event.clone();
        let origin = self.origin();
        loop {
            let (generation, tickets) = {
                // Held until the batch is submitted, but never during the sync.
                let mut chain = self.receipts.chain();
                let before = chain.head(&*self.store)?;
                let link = Link::after(before.as_ref(), Uuid::new_v4);
                let payload = claims::payload(&origin, &link, what.data, what.commitment.clone());
                let receipt = self.receipts.signer.compact(RECEIPT, &payload);
                *event = with_receipt(&bare, &receipt).ok_or_else(no_place)?;
                let head = link.head(&receipt);
                let mut batch = rest.clone();
                batch.put(Table::Meta, HEAD, head.to_bytes());
                batch.expect(Table::Meta, HEAD, before.as_ref().map(Head::to_bytes));
                let tickets = hand_in(event, &receipt, link.number, batch);
                chain.head = Some(Some(head));
                (chain.generation, tickets)
            };
            match Ticket::all(tickets).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.receipts.failed(generation);
                    if !matches!(error, StoreError::Outrun) {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// Forgets a page of the oldest receipts above `retain_finished`, with the jobs that ended with them. A signed
    /// checkpoint replaces them. Returns their number.
    pub(crate) async fn forget_receipts(&self) -> Result<usize, JournalError> {
        let now = self.now();
        let due = |row: &Row| row.at.plus(self.settings.retain_finished) <= now;
        let first = self.store.scan(Table::Receipt, b"", None, 1)?;
        if !first.iter().filter_map(|(key, value)| read_row(key, value)).any(|(_, row)| due(&row)) {
            return Ok(0);
        }
        let Some(head) = head(&*self.store)? else { return Ok(0) };
        let mut batch = Batch::new();
        let (mut last, mut count, mut locks) = (None, 0, Vec::new());
        for (key, value) in self.store.scan(Table::Receipt, b"", None, PAGE)? {
            // Always from the oldest on, even if the clock was changed.
            let Some((number, row)) = read_row(&key, &value).filter(|(_, row)| due(row)) else { break };
            if let Some(carrier) = &row.carrier {
                let ControlFlow::Continue(lock) = self.forget_ended(&carrier.key, number, now, &mut batch)? else {
                    break;
                };
                locks.extend(lock);
            }
            batch.remove(Table::Receipt, key);
            count += 1;
            last = Some(Head { chain: head.chain, number, sha256: digest::sha256(row.receipt.as_bytes()) });
        }
        if let Some(last) = last {
            let payload = claims::checkpoint(&self.origin(), &last, &now.to_rfc3339());
            batch.put(Table::Meta, CHECKPOINT_ROW, self.receipts.signer.compact(CHECKPOINT, &payload));
            match self.store.submit(batch).await {
                // A job has continued meanwhile; the next look sees that.
                Err(StoreError::Outrun) => return Ok(count),
                settled => settled?,
            }
            tracing::info!(through = last.number, "receipts older than worker.retain_finished were forgotten");
        }
        drop(locks);
        Ok(count)
    }

    /// Forgets the job of this receipt, unless a later run began. The returned lock is held until the batch is in the
    /// store. `Break`: the job is in hand, and a later run may be starting.
    fn forget_ended(
        &self,
        key: &JobKey,
        number: u64,
        now: At,
        batch: &mut Batch,
    ) -> Result<ControlFlow<(), Option<JobLock<'_>>>, JournalError> {
        let Some(stored) = self.store.get(Table::Ended, &key.to_bytes())? else {
            return Ok(ControlFlow::Continue(None));
        };
        match Ended::from_bytes(&stored) {
            Ok(ended) if ended.certified.as_ref().is_some_and(|certified| certified.number == number) => {}
            Ok(_) => return Ok(ControlFlow::Continue(None)),
            Err(error) => {
                tracing::error!(
                    job = %key,
                    %error,
                    "the record of a job whose receipt is forgotten cannot be read; it stays"
                );
                retention::look_at_unreadable(batch, key, now);
                return Ok(ControlFlow::Continue(None));
            }
        }
        let Some(lock) = self.job_locks.try_take(key) else { return Ok(ControlFlow::Break(())) };
        batch.expect(Table::Ended, key.to_bytes(), Some(stored));
        retention::forget_job(&*self.store, key, batch)?;
        Ok(ControlFlow::Continue(Some(lock)))
    }

    /// Stores the public keys in use, so that receipts can be checked long after a rotation. Each key has a MAC by
    /// the master key.
    pub(crate) async fn remember_keys(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let ours = self.keyring.public_keys();
        let ours = ours.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        for jwk in self.remembered_keys()?.iter().chain(&ours) {
            let text = jwk.to_string().into_bytes();
            let mut value = self.keyring.mac(VOUCHED, &[&text]).to_vec();
            value.extend_from_slice(&text);
            batch.put(Table::Meta, key_row(jwk), value);
        }
        self.store.submit(batch).await
    }

    fn remembered_keys(&self) -> Result<Vec<Value>, StoreError> {
        let mut keys = Vec::new();
        for (_, value) in self.store.scan(Table::Meta, KEY, None, usize::MAX)? {
            let Some((code, text)) = value.split_at_checked(32) else { continue };
            match serde_json::from_slice(text) {
                Ok(jwk) if self.keyring.verify_mac(VOUCHED, &[text], code) => keys.push(jwk),
                _ => tracing::warn!("a stored public key has no valid MAC of the master key; it is ignored"),
            }
        }
        Ok(keys)
    }

    /// The public keys of the receipts as a JWK set: first the keys in use with the current one first, then the keys
    /// of this store's earlier receipts.
    ///
    /// # Errors
    /// The store fails.
    pub fn public_keys(&self) -> Result<Value, StoreError> {
        let mut keys = self.keyring.public_keys();
        if let Some(list) = keys.get_mut("keys").and_then(Value::as_array_mut) {
            for jwk in self.remembered_keys()? {
                if !list.iter().any(|known| known.get("kid") == jwk.get("kid")) {
                    list.push(jwk);
                }
            }
        }
        Ok(keys)
    }

    /// The receipts of the runs that ended from `from` on and before `to`, as a signed pack. It reads the whole log
    /// of receipts, so it blocks.
    ///
    /// # Errors
    /// The receipts have more than [`MOST_IN_A_PACK`] bytes, or the store fails.
    pub fn audit_pack(&self, from: Option<At>, to: Option<At>) -> Result<Pack, PackError> {
        let within = |at: At| from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to);
        let head = head(&*self.store)?;
        let mut receipts: Vec<(u64, String)> = Vec::new();
        // The order of ends may differ from the order of numbers. A receipt between two receipts of the span belongs
        // to the pack; otherwise it would look like a gap.
        let mut between = Vec::new();
        let mut bytes = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(Table::Receipt, b"", after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (number, Row { at, receipt, .. }) in page.iter().filter_map(|(key, value)| read_row(key, value)) {
                if within(at) {
                    receipts.append(&mut between);
                } else if receipts.is_empty() {
                    continue;
                }
                bytes += receipt.len();
                if within(at) && bytes > MOST_IN_A_PACK {
                    return Err(PackError::TooMany { until: at.to_rfc3339() });
                }
                // Above the limit, the next receipt of the span refuses the pack.
                if bytes <= MOST_IN_A_PACK {
                    let list = if within(at) { &mut receipts } else { &mut between };
                    list.push((number, receipt));
                }
            }
        }
        let checkpoint = self.store.get(Table::Meta, CHECKPOINT_ROW)?.and_then(|text| String::from_utf8(text).ok());
        let content = Content {
            origin: &self.origin(),
            made_at: self.now().to_rfc3339(),
            span: (from.map(At::to_rfc3339), to.map(At::to_rfc3339)),
            keys: &self.public_keys()?,
            checkpoint: checkpoint.as_deref(),
            receipts: &receipts,
            head: head.as_ref(),
        };
        Ok(Pack::make(&content, |typ, bytes| self.receipts.signer.detached(typ, bytes)))
    }
}

fn key_row(jwk: &Value) -> Vec<u8> {
    let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
    [KEY, kid.as_bytes()].concat()
}

fn no_place() -> JournalError {
    Undecodable { what: "event", version: None }.into()
}

#[cfg(test)]
mod tests;

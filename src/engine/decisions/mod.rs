//! Operators' decisions: published on the control stream, for every worker.
//!
//! The rule it keeps: a decision counts in the stream's order, at every worker alike. A decision that only prevents
//! erasures (a pause, a cancellation, a discarded dead letter) takes effect at once at the worker that received it,
//! and is kept until the stream has it. A decision that lets work continue takes effect nowhere before the stream has
//! it.
//!
//! In reading order: `message` (bytes and MAC), this file (publishing, keeping, waiting), `taking` (reading from the
//! stream and carrying out).

mod message;
mod taking;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use message::Authenticity;
pub use message::{Decided, What};
pub use taking::Taken;

use super::journal::JournalError;
use super::{Engine, rows};
use crate::broker::{Destination, Link, Properties, Publication, PublishError};
use crate::job::At;
use crate::store::{Batch, StoreError, Table};

/// Decisions that the stream does not have yet, in the order of their times.
const KEPT: &[u8] = rows::DECISION_KEPT.prefix;
/// Decisions that were carried out here.
const SEEN: &[u8] = rows::DECISION_SEEN.prefix;
/// The longest time until an operator knows whether the broker has the decision.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);
/// The longest time after that until an operator knows whether this worker has read it from the stream.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Most jobs in one message.
pub(crate) const MOST_JOBS: usize = 500;
/// The time for which the control stream keeps a message.
const STREAM: Duration = Duration::from_secs(90 * 86_400);
/// The stream loses whole segments, so a message may stay longer. An older message is ignored.
const TOO_OLD: Duration = Duration::from_secs(91 * 86_400);
/// A pause that lasts this long is published again, for new stores.
const TOLD_AGAIN: Duration = Duration::from_secs(STREAM.as_secs() / 2);
/// The spread of these publishes, so that not all workers publish at once.
const SPREAD: Duration = Duration::from_secs(86_400);
/// The pause between publishes of kept decisions, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_LONGEST: Duration = Duration::from_secs(15);
/// The pause between checks of the standing pauses.
const LOOK: Duration = Duration::from_secs(60);
/// If the broker is up but the stream cannot be written or read for this long, work begins without it.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// The reason why a decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The broker has not confirmed the message.
    #[error(
        "the broker has not taken the decision, and nothing was changed here: {0}; ask again (should the broker have it all the same, it takes effect once)"
    )]
    Unpublished(PublishError),
    /// The stream has it, but this worker has not read so far.
    #[error("the broker has the decision, and this worker has not carried it out yet")]
    Unread,
    /// The records cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<StoreError> for DecisionError {
    fn from(error: StoreError) -> Self {
        DecisionError::Journal(error.into())
    }
}

/// The workers that know a decision which took effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The broker has it: every worker gets it.
    Everywhere,
    /// Only this worker; the publish is repeated until the broker confirms it.
    HereOnly,
}

/// The decisions that are under way.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// One publish at a time: the stream gets the decisions in the order in which they were made here.
    sending: tokio::sync::Mutex<()>,
    /// Kept decisions that were confirmed and not yet read from the stream.
    sent: Mutex<HashSet<Uuid>>,
    waiting: Mutex<HashMap<Uuid, oneshot::Sender<Taken>>>,
    /// True if the standing pauses must be checked now.
    look: AtomicBool,
    more: Notify,
}

impl Decisions {
    fn wait_for(&self, id: Uuid) -> oneshot::Receiver<Taken> {
        let (sender, taken) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        taken
    }

    fn forget(&self, id: Uuid) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Reports the result to the waiting request: the decision was read and carried out.
    fn answer(&self, id: Uuid, taken: Taken) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            // The request may be gone.
            let _ = waiting.send(taken);
        }
    }
}

fn kept_row(decided: &Decided) -> Vec<u8> {
    [KEPT, &decided.at.0.to_be_bytes(), decided.id.as_bytes()].concat()
}

fn seen_row(id: Uuid) -> Vec<u8> {
    [SEEN, id.as_bytes()].concat()
}

impl Engine {
    /// Makes a decision with the present time.
    pub(crate) fn decided(&self, by: &str, reason: &str, what: What) -> Decided {
        Decided {
            id: Uuid::new_v4(),
            environment: self.accepts.environment.clone(),
            at: self.now(),
            worker: self.settings.worker_id.clone(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            what,
        }
    }

    /// Publishes a decision. Returns after this worker has read it from the stream and carried it out, like every
    /// other worker.
    pub(crate) async fn carry_out(&self, decided: &Decided) -> Result<Taken, DecisionError> {
        // A worker that cannot write would report a failure now and carry the decision out later.
        self.store.check().await?;
        if !self.broker.has_control() {
            return Ok(self.take_decision(decided, Batch::new()).await?);
        }
        let taken = self.decisions.wait_for(decided.id);
        let published = async {
            let _alone = self.decisions.sending.lock().await;
            self.publish_kept().await?;
            self.publish_decision(decided).await
        };
        let published = tokio::time::timeout(PUBLISHED_WITHIN, published).await;
        if let Err(error) = published.unwrap_or(Err(PublishError::TimedOut(PUBLISHED_WITHIN))) {
            self.decisions.forget(decided.id);
            tracing::warn!(
                %error,
                decision = decided.what.word(),
                "the broker did not confirm an operator's decision; nothing was changed"
            );
            return Err(DecisionError::Unpublished(error));
        }
        match tokio::time::timeout(READ_WITHIN, taken).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => {
                self.decisions.forget(decided.id);
                Err(DecisionError::Unread)
            }
        }
    }

    /// Puts a decision into the batch by which it takes effect here. The row stays until the decision was read from
    /// the stream.
    pub(crate) fn keep_decision(&self, decided: &Decided, batch: &mut Batch) {
        if self.broker.has_control() {
            batch.put(Table::Meta, kept_row(decided), decided.to_body(&self.keyring));
        }
    }

    /// As [`Engine::keep_decision`], for a decision that is already carried out here: reading it from the stream does
    /// nothing more.
    pub(crate) fn keep_done(&self, decided: &Decided, batch: &mut Batch) {
        self.keep_decision(decided, batch);
        self.note_seen(decided, batch);
    }

    /// Publishes the kept decisions, within a limited time.
    pub(crate) async fn publish_decisions(&self) -> Published {
        if !self.broker.has_control() {
            return Published::Everywhere;
        }
        // The request may be gone before the end.
        self.decisions.more.notify_one();
        let published = async {
            let _alone = self.decisions.sending.lock().await;
            self.publish_kept().await
        };
        match tokio::time::timeout(PUBLISHED_WITHIN, published).await {
            Ok(Ok(())) => Published::Everywhere,
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    "an operator's decision has effect only at this worker until the broker confirms it; other \
                     workers do not know it yet"
                );
                self.decisions.more.notify_one();
                Published::HereOnly
            }
        }
    }

    /// Wakes the loop: a decision was kept.
    pub(crate) fn decisions_more(&self) {
        self.decisions.more.notify_one();
    }

    /// A new stream: everything that was published before was lost with the old one.
    pub(crate) fn publish_decisions_anew(&self) {
        self.decisions.sent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.decisions.look.store(true, Ordering::Release);
        self.decisions.more.notify_one();
    }

    async fn publish_decision(&self, decided: &Decided) -> Result<(), PublishError> {
        self.publish_control(decided.id, decided.to_body(&self.keyring)).await
    }

    async fn publish_control(&self, id: Uuid, body: Vec<u8>) -> Result<(), PublishError> {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            message_id: Some(id.to_string()),
            kind: Some(message::SCHEMA.to_owned()),
            app_id: Some("erasure-worker".to_owned()),
            timestamp: u64::try_from(self.now().0 / 1000).ok(),
            ..Properties::default()
        };
        self.broker.publish(Publication { to: Destination::Control, properties, body: body.into() }).await
    }

    /// The kept decisions, in the order of their times.
    pub(crate) fn kept_decisions(&self) -> Result<Vec<Decided>, StoreError> {
        let rows = self.store.scan(Table::Meta, KEPT, None, usize::MAX)?;
        Ok(rows
            .iter()
            .filter_map(|(_, body)| match Decided::read(body, &self.keyring) {
                Authenticity::Ours(decided) => Some(*decided),
                _ => {
                    tracing::error!("a decision stored for other workers cannot be read; they do not get it");
                    None
                }
            })
            .collect())
    }

    /// The number of decisions that other workers cannot know yet.
    ///
    /// # Errors
    /// The store fails.
    pub fn decisions_unpublished(&self) -> Result<usize, StoreError> {
        let rows = self.store.scan(Table::Meta, KEPT, None, usize::MAX)?;
        let sent = self.decisions.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unpublished = |row: &[u8]| {
            let id = row.get(KEPT.len() + 8..).and_then(|id| Uuid::from_slice(id).ok());
            id.is_some_and(|id| !sent.contains(&id))
        };
        Ok(rows.iter().filter(|(row, _)| is_unpublished(row)).count())
    }

    async fn publish_kept(&self) -> Result<(), PublishError> {
        let kept = self.kept_decisions().map_err(|error| PublishError::Down(error.to_string()))?;
        for decided in kept {
            let is_sent = self.decisions.sent.lock().unwrap_or_else(PoisonError::into_inner).contains(&decided.id);
            if is_sent {
                continue;
            }
            self.publish_decision(&decided).await?;
            self.decisions.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(decided.id);
        }
        Ok(())
    }

    /// Publishes kept decisions until the broker has them, and standing pauses before the stream loses them.
    pub(crate) async fn decisions_loop(self: Arc<Self>) {
        if !self.broker.has_control() {
            return;
        }
        let (mut failing, mut looked_at) = (None::<Duration>, None::<Instant>);
        loop {
            let published = {
                let _alone = self.decisions.sending.lock().await;
                self.publish_kept().await
            };
            match published {
                Ok(()) => {
                    if failing.take().is_some() {
                        tracing::info!("the broker has every operator's decision again");
                    }
                }
                Err(error) => {
                    if failing.is_none() {
                        tracing::warn!(
                            %error,
                            "operators' decisions cannot be published; other workers do not know them yet"
                        );
                    }
                    failing = Some(failing.map_or(AGAIN, |pause| (pause * 2).min(AGAIN_LONGEST)));
                }
            }
            let is_due = || {
                let is_wanted = self.decisions.look.swap(false, Ordering::AcqRel);
                is_wanted || looked_at.is_none_or(|at| at.elapsed() >= LOOK)
            };
            if failing.is_none() && is_due() {
                looked_at = Some(Instant::now());
                self.publish_pauses_again().await;
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                () = tokio::time::sleep(failing.unwrap_or(LOOK)) => {}
                () = self.decisions.more.notified(), if failing.is_none() => {}
            }
        }
    }

    /// Publishes a pause again before the stream loses it; any worker may do it first.
    pub(super) async fn publish_pauses_again(&self) {
        let now = self.now();
        for (subject, paused) in self.pauses.shared() {
            let spread = SPREAD.mul_f64((self.chance)());
            if paused.published_at != 0 && now.since(At(paused.published_at)) < TOLD_AGAIN + spread {
                continue;
            }
            let what = What::Pause { subject: subject.clone(), since: At(paused.at), again: true };
            let decided = self.decided(&paused.by, &paused.reason, what);
            let _alone = self.decisions.sending.lock().await;
            match self.publish_decision(&decided).await {
                Ok(()) => tracing::info!(%subject, "a standing pause was published again, for new workers"),
                Err(error) => {
                    return tracing::warn!(
                        %error,
                        %subject,
                        "a standing pause cannot be published again; it is tried again"
                    );
                }
            }
        }
    }

    /// Reads the control stream up to its present end before the first job is taken. So the first call already obeys
    /// decisions that were made before this worker, or its store, existed.
    pub(crate) async fn catch_up(&self) {
        if !self.broker.has_control() {
            return;
        }
        let mark = self.decided("", "", What::Mark);
        let taken = self.decisions.wait_for(mark.id);
        let not_written = Mutex::new("nothing has answered yet".to_owned());
        let say = |why: &str| why.clone_into(&mut not_written.lock().unwrap_or_else(PoisonError::into_inner));
        let publish = async {
            loop {
                match self.publish_decision(&mark).await {
                    Ok(()) => return say("it is written, but not read to its end"),
                    Err(error) => say(&error.to_string()),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let caught_up = async {
            publish.await;
            let _ = taken.await;
        };
        let given_up = async {
            // Without a broker there are no jobs either.
            let mut link = self.broker.link();
            let _ = link.wait_for(|link| *link == Link::Up).await;
            tokio::time::sleep(CAUGHT_UP_WITHIN).await;
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => {}
            () = caught_up => tracing::debug!("the control stream was read to its end"),
            () = given_up => {
                let why = not_written.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tracing::error!(
                    why,
                    "the control stream could not be written or read to its end; decisions made at other workers may \
                     not be known here. Where the broker refuses it, look at the permissions (write erasure.control, \
                     read erasure.control.log)"
                );
            }
        }
        self.decisions.forget(mark.id);
    }
}

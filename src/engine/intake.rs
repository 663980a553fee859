//! Takes deliveries and gives each a task of its own, from the first byte to its settlement.
//!
//! The rule it keeps: one copy of a job in hand at a time; a message that cannot become a job is
//! dead-lettered before it is acked.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Engine;
use super::ending::Settled;
use super::envelope;
use super::journal::{BODY, JournalError};
use super::opening::Opened;
use super::parked::Settling;
use super::starts::Turn;
use crate::broker::{Delivery, HeaderValue, Properties};
use crate::crash::{self, Point};
use crate::job::JobKey;
use crate::store::StoreError;
use crate::trace;

/// A suspect that has been alone for this long is worked on beside the others again; one that gets
/// on with its work, at once.
const ALONE_MAX: Duration = Duration::from_secs(10);
/// A suspect that has been alone for this long did not stop the worker at once.
const ALIVE_AFTER: Duration = Duration::from_millis(250);

/// A delivery's arrival.
pub(crate) struct Arrived {
    /// When.
    pub at: Instant,
    /// Told once a call came back.
    pub life: Notify,
    /// Told once a step that cannot be repeated blindly was answered.
    pub progress: Notify,
    /// Its start's row.
    pub digest: Vec<u8>,
}

impl Arrived {
    pub(crate) fn new(digest: Vec<u8>) -> Arrived {
        let (life, progress) = (Notify::new(), Notify::new());
        Arrived { at: Instant::now(), life, progress, digest }
    }
}

/// How long what runs beside the jobs may take to end: it may be waiting for the broker.
const BACKGROUND_MAX: Duration = Duration::from_secs(1);

/// How long a job is kept from coming back whose records or seals cannot be used.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(5);

/// The jobs in hand.
#[derive(Debug, Default)]
pub struct Hands {
    jobs: Mutex<HashMap<JobKey, CancellationToken>>,
    freed: Notify,
}

/// A job in hand; dropped, the next copy may be worked on.
pub struct Hand<'a> {
    hands: &'a Hands,
    key: JobKey,
    /// Cancelled when a cancellation for the job arrives.
    pub cancelled: CancellationToken,
}

impl Hands {
    /// Waits until no other copy of the job is in hand.
    pub async fn take(&self, key: &JobKey) -> Hand<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                if !jobs.contains_key(key) {
                    let cancelled = CancellationToken::new();
                    jobs.insert(key.clone(), cancelled.clone());
                    return Hand { hands: self, key: key.clone(), cancelled };
                }
            }
            freed.await;
        }
    }

    /// The job, where no copy of it is in hand.
    pub fn try_take(&self, key: &JobKey) -> Option<Hand<'_>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let cancelled = CancellationToken::new();
        let is_free = !jobs.contains_key(key);
        is_free.then(|| {
            jobs.insert(key.clone(), cancelled.clone());
            Hand { hands: self, key: key.clone(), cancelled }
        })
    }

    /// Tells the copy in hand, if there is one, of a cancellation.
    pub fn cancel(&self, key: &JobKey) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(key).inspect(|cancelled| cancelled.cancel()).is_some()
    }

    /// How many jobs are in hand.
    pub fn count(&self) -> usize {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True while a copy of the job is in hand.
    pub fn holds(&self, key: &JobKey) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.hands.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.hands.freed.notify_waiters();
    }
}

/// Why a delivery could not be carried to its settlement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job's records cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
    /// The channel that brought the delivery is gone.
    #[error("the delivery's channel is gone")]
    Lost,
}

impl From<super::outbox::GaveUp> for Interrupted {
    fn from(_: super::outbox::GaveUp) -> Self {
        Interrupted::Lost
    }
}

impl Interrupted {
    pub(super) fn store(&self) -> Option<&StoreError> {
        match self {
            Interrupted::Store(error) | Interrupted::Journal(JournalError::Store(error)) => Some(error),
            _ => None,
        }
    }
}

impl Engine {
    /// Works until the broker has nothing more to give or [`Engine::drain`] is called; then finishes
    /// the steps in hand within `drain_timeout`.
    pub async fn run(self: &Arc<Self>) -> Result<(), StoreError> {
        let begin = || self.starts.begin(&*self.store, self.now());
        let Some(suspects) = self.once_there_is_room(begin).await? else {
            // Stopped before it began: whom the last run left as suspects, the next one suspects.
            self.broker.stop_intake().await;
            return Ok(());
        };
        if suspects > 0 {
            tracing::warn!(
                suspects,
                "the last run did not stop cleanly; the messages it was working on run one at a time"
            );
        }
        self.recall_proven_credentials()?;
        self.recall_pauses()?;
        self.recall_parked()?;
        self.once_there_is_room(|| self.remember_keys()).await?;
        let background = tokio_util::task::TaskTracker::new();
        background.spawn(Arc::clone(self).outbox_loop());
        background.spawn(Arc::clone(self).cancel_loop());
        background.spawn(Arc::clone(self).decisions_loop());
        background.spawn(Arc::clone(self).retention_loop());
        background.spawn(Arc::clone(self).undelivered_loop());
        background.spawn(Arc::clone(self).letters_loop());
        background.spawn(Arc::clone(self).parked_loop());
        for gate in self.gates.values() {
            background.spawn(Arc::clone(self).probe_loop(Arc::clone(gate)));
        }
        let heart = self.pulse.of("intake");
        let mut link = self.broker.link();
        heart.during(self.catch_up()).await;
        link.mark_unchanged();
        background.spawn(Arc::clone(self).unreadable_loop());
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.draining.cancelled() => break,
                delivery = heart.during(self.broker.next()) => delivery,
            };
            let Some(delivery) = delivery else { break };
            if link.has_changed().unwrap_or(false) {
                // The control stream comes by a connection of its own, which may not be back yet.
                link.mark_unchanged();
                heart.during(self.catch_up()).await;
            }
            self.figures.deliveries.fetch_add(1, Ordering::Relaxed);
            self.parked.delivered(&delivery);
            self.tasks.spawn(Arc::clone(self).guarded(delivery));
        }
        drop(heart);
        let deadline = self.draining.is_cancelled().then(|| Instant::now() + self.settings.drain_timeout);
        self.broker.stop_intake().await;
        self.tasks.close();
        let drained = if let Some(deadline) = deadline {
            tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok()
        } else {
            // An embedded queue is used up: its last jobs are still to be finished.
            self.tasks.wait().await;
            true
        };
        self.draining.cancel();
        background.close();
        if tokio::time::timeout(BACKGROUND_MAX, background.wait()).await.is_err() {
            tracing::warn!("what runs beside the jobs did not end in time; it goes on after the restart");
        }
        if !drained {
            tracing::warn!(
                "the drain took longer than worker.drain_timeout; what is left comes back after the restart"
            );
        }
        // A stop that was asked for is no death, also where it cut a slow call short.
        let is_sound = self.failed.borrow().is_none();
        match if is_sound { self.starts.end(&*self.store).await } else { Ok(()) } {
            Err(error @ StoreError::Full { .. }) => {
                tracing::warn!(%error, "the clean stop is not noted; what was in hand then runs alone after the restart");
                Ok(())
            }
            settled => settled,
        }
    }

    /// Counts a message that could not be taken as it came.
    pub(crate) fn note_mended(&self, queue: &'static str, properties: &Properties) {
        let Some(mended) = &properties.mended else { return };
        self.figures.label("messages_mended", "", queue);
        let what = mended.fault.map_or_else(|| "its body is too long".to_owned(), |fault| fault.to_string());
        tracing::warn!(queue, %what, "a message could not be taken as it came");
    }

    /// A panic in a job's task stops the process: its start stays open, so that after the restart
    /// it runs alone.
    async fn guarded(self: Arc<Self>, delivery: Delivery) {
        let engine = Arc::clone(&self);
        let message_id = delivery.properties.message_id.clone();
        let work = crash::of(message_id.as_deref(), engine.delivered(delivery));
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            self.fail("a job's task panicked");
        }
    }

    async fn delivered(self: Arc<Self>, delivery: Delivery) {
        let arrived = Arrived::new(self.keyring.digest(BODY, &delivery.body).to_vec());
        self.note_mended("jobs", &delivery.properties);
        self.terms.delivered(delivery.epoch, &delivery.lost);
        crash::point(Point::BeforeStart, "").await;
        let mut turn = match self.starts.open(&*self.store, &arrived.digest, self.now()).await {
            Ok(turn) => turn,
            Err(error) => return self.give_back(delivery, Interrupted::Store(error)).await,
        };
        crash::point(Point::AfterStart, "").await;
        let mut held = Some(delivery);
        let result = {
            let is_alone = matches!(turn, Turn::Alone(_));
            let work = self.settle(&mut held, matches!(turn, Turn::Condemned), is_alone, &arrived);
            tokio::pin!(work);
            let lives = async {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(ALIVE_AFTER) => {}
                    () = arrived.life.notified() => {}
                }
                self.starts.lives(&*self.store, &arrived.digest, self.now());
            };
            let survived = async {
                lives.await;
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(ALONE_MAX) => false,
                    () = arrived.progress.notified() => true,
                }
            };
            tokio::select! {
                biased;
                result = &mut work => result,
                got_on = survived, if is_alone => {
                    // It did not stop the worker so far: the others need not wait any longer.
                    turn = self.starts.survived(&*self.store, &arrived.digest, turn, got_on, self.now());
                    work.await
                }
            }
        };
        // Not set aside yet, it is still condemned when it comes again.
        let stays = matches!(turn, Turn::Condemned) && result.is_err();
        drop(turn);
        // Before it goes back: it may be here again at once, with a start of its own.
        let closed = if stays { Ok(()) } else { self.starts.close(&*self.store, &arrived.digest) };
        match result {
            Ok(_) => {}
            Err(Interrupted::Lost) => {
                self.figures.count(&self.figures.lost);
                tracing::info!("a delivery's channel is gone; the broker delivers the job again");
            }
            Err(error) => match held.take() {
                Some(delivery) => self.give_back(delivery, error).await,
                None => self.store_trouble(&error).await,
            },
        }
        if let Err(error) = closed {
            self.store_trouble(&Interrupted::Store(error)).await;
        }
    }

    async fn settle(
        &self,
        held: &mut Option<Delivery>,
        is_condemned: bool,
        is_alone: bool,
        arrived: &Arrived,
    ) -> Result<Settled, Interrupted> {
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        if is_condemned {
            tracing::error!("a message stopped the worker too often while it ran alone; it is set aside");
            return self.set_aside_poison(held).await;
        }
        let letter = match envelope::open(delivery, &self.keyring) {
            Ok(letter) => letter,
            Err(error) => {
                tracing::error!(%error, "a sealed message cannot be worked on; it is set aside as it came");
                return self.set_aside_unopened(held).await;
            }
        };
        crash::point(Point::BeforeParse, "").await;
        let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
        let job = match self.admit(&delivery.properties, delivery.redelivered, &letter)? {
            Ok(job) => job,
            Err(refusal) => return self.reject(held, &letter, &refusal).await,
        };
        let traceparent = delivery.properties.headers.get(envelope::header::TRACEPARENT).and_then(HeaderValue::as_text);
        let traceparent = traceparent.filter(|text| envelope::is_traceparent(text)).map(str::to_owned);
        crash::point(Point::AfterParse, "").await;
        let span =
            tracing::info_span!("job", job_id = %job.key.job_id, tenant = %job.key.tenant, run = tracing::field::Empty);
        let (tenant, job_id) = (&job.key.tenant, job.key.job_id);
        let traced = trace::process(&self.broker.jobs_queue(), tenant, job_id, traceparent.as_deref());
        let worked = async {
            let lost = held.as_ref().map(|delivery| delivery.lost.clone()).unwrap_or_default();
            let hand = tokio::select! {
                biased;
                hand = self.hands.take(&job.key) => hand,
                () = lost.cancelled() => return Err(Interrupted::Lost),
            };
            let redelivered = held.as_ref().is_some_and(|delivery| delivery.redelivered);
            match self.open(&job, &letter, redelivered)? {
                Opened::Stale(news) => {
                    if let Some(journal) = news {
                        journal.durable().await?;
                    }
                    let Some(delivery) = held.as_ref() else { return Ok(Settled::Acked) };
                    let (properties, lost) = (delivery.properties.clone(), delivery.lost.clone());
                    match self.settle_older(&job, &letter, &properties, &lost).await? {
                        Settling::Ack => {
                            self.figures.count(&self.figures.stale);
                            tracing::debug!("a stale copy is acked without a call");
                            self.ack(held).await
                        }
                        Settling::Work(journal) => {
                            self.work(held, job, *journal, &letter.body, &hand, traceparent, arrived).await
                        }
                    }
                }
                Opened::EndedElsewhere => {
                    self.figures.count(&self.figures.stale);
                    tracing::debug!("a copy of a job that another worker ended is acked without a call");
                    self.ack(held).await
                }
                Opened::Ended(ended) => self.ended_again(held, &job.key, *ended, &letter).await,
                Opened::Conflict => self.conflict(held, &job, &letter.body).await,
                Opened::Work(journal) => {
                    self.parked.taken(&job.key);
                    if is_alone {
                        // Should it stop the worker again, it is known whose job it was.
                        journal.durable().await?;
                    }
                    let run = journal.with(|state| state.record.run);
                    span.record("run", run);
                    traced.record("erasure.run", run);
                    self.work(held, job, *journal, &letter.body, &hand, traceparent, arrived).await
                }
            }
        }
        .instrument(span.clone())
        .instrument(traced.clone())
        .await;
        if let Err(interrupted) = &worked {
            trace::failed(&traced, if matches!(interrupted, Interrupted::Lost) { "lost" } else { "store" });
        }
        worked
    }

    /// The job cannot be worked on here and now: it goes back to the broker.
    async fn give_back(&self, delivery: Delivery, error: Interrupted) {
        // Intake stops first, so that what goes back does not come straight in again.
        let must_wait = self.stop_for_room(&error).await;
        if error.store().is_none() {
            // Nothing has changed by the time it comes back, and it comes back at once.
            tokio::select! {
                biased;
                () = tokio::time::sleep(UNUSABLE_PAUSE) => {}
                () = delivery.lost.cancelled() => {}
                () = self.draining.cancelled() => {}
            }
        }
        let back = async {
            if delivery.settle.requeue().await.is_err() {
                tracing::debug!("the delivery's channel is gone as well");
            }
        };
        if must_wait {
            tokio::join!(back, self.wait_for_room());
        } else {
            back.await;
            self.store_trouble(&error).await;
        }
    }
}

#[cfg(test)]
#[path = "intake/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

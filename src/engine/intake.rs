//! Takes deliveries and starts a task for each; drains at the end.
//!
//! The rule it keeps: every delivery that was taken is settled, or its start stays open for the next process.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::Engine;
use crate::broker::{Delivery, Properties};
use crate::crash;
use crate::store::StoreError;

/// The longest time in which background tasks must end: they may wait for the broker.
const BACKGROUND_MAX: Duration = Duration::from_secs(1);
/// The longest wait for the note of a clean stop in a database, which may be away.
const CLEAN_STOP_MAX: Duration = Duration::from_millis(500);

impl Engine {
    /// Works until the broker has nothing more or [`Engine::drain`] is called; then ends the steps in hand within
    /// `drain_timeout`.
    pub async fn run(self: &Arc<Self>) -> Result<(), StoreError> {
        let begin = || self.starts.begin(&*self.store, self.now());
        let Some(suspects) = self.once_there_is_room(begin).await? else {
            // Stopped before the beginning: the suspects of the last run stay suspects.
            self.broker.stop_intake().await;
            return Ok(());
        };
        if suspects > 0 {
            tracing::warn!(
                suspects,
                "the last run did not stop cleanly; the messages in hand at that time run one at a time"
            );
        }
        self.recall_proven_credentials()?;
        self.recall_pauses()?;
        self.recall_parked()?;
        self.once_there_is_room(|| self.remember_keys()).await?;
        // Boxed: otherwise the compiler makes a copy of the runtime's code, and of the engine's, for each loop.
        let background = tokio_util::task::TaskTracker::new();
        background.spawn(Arc::clone(self).outbox_loop().boxed());
        background.spawn(Arc::clone(self).cancel_loop().boxed());
        background.spawn(Arc::clone(self).decisions_loop().boxed());
        background.spawn(Arc::clone(self).retention_loop().boxed());
        background.spawn(Arc::clone(self).undelivered_loop().boxed());
        background.spawn(Arc::clone(self).dead_letter_age_loop().boxed());
        background.spawn(Arc::clone(self).parked_loop().boxed());
        for gate in self.gates.values() {
            background.spawn(Arc::clone(self).probe_loop(Arc::clone(gate)).boxed());
        }
        let heart = self.pulse.of("intake");
        heart.during(self.catch_up()).await;
        background.spawn(Arc::clone(self).unreadable_loop().boxed());
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.draining.cancelled() => break,
                delivery = heart.during(self.broker.next()) => delivery,
            };
            let Some(delivery) = delivery else { break };
            if self.terms.is_new(delivery.message.epoch) {
                // Another worker was the active one until now. Decisions that were made there reach this
                // worker over a connection of their own, which may be slower than that of the jobs.
                heart.during(self.catch_up()).await;
                self.terms.begin(delivery.message.epoch, &delivery.message.lost);
            }
            self.figures.deliveries.fetch_add(1, Ordering::Relaxed);
            self.parked.delivered(&delivery.message);
            self.tasks.spawn(Arc::clone(self).guarded(delivery));
        }
        drop(heart);
        let deadline = self.draining.is_cancelled().then(|| Instant::now() + self.settings.drain_timeout);
        self.broker.stop_intake().await;
        self.tasks.close();
        let drained = if let Some(deadline) = deadline {
            tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok()
        } else {
            // An embedded queue is empty: its last jobs still run.
            self.tasks.wait().await;
            true
        };
        self.draining.cancel();
        background.close();
        if tokio::time::timeout(BACKGROUND_MAX, background.wait()).await.is_err() {
            tracing::warn!("background tasks did not end in time; they continue after the restart");
        }
        if !drained {
            tracing::warn!("the drain took longer than worker.drain_timeout; the broker redelivers the remaining jobs");
        }
        // A requested stop is no crash, even if it ended a slow call early.
        let is_sound = self.failed.borrow().is_none();
        let end = async { if is_sound { self.starts.end(&*self.store).await } else { Ok(()) } };
        let limit = self.store.vouched_for().map_or(Duration::MAX, |_| CLEAN_STOP_MAX);
        let ended = tokio::time::timeout(limit, end).await;
        match ended.unwrap_or_else(|_| Err(StoreError::Away { why: "no answer to the last write".to_owned() })) {
            Err(error) if error.is_passing() => {
                tracing::warn!(
                    %error,
                    "the clean stop could not be stored; after the restart the messages that were in hand run one \
                     at a time"
                );
                Ok(())
            }
            settled => settled,
        }
    }

    /// Counts and logs a message that was changed by the filter in front of the AMQP library.
    pub(crate) fn note_mended(&self, queue: &'static str, properties: &Properties) {
        let Some(mended) = &properties.mended else { return };
        self.figures.label("messages_mended", "", queue);
        let what = mended.fault.map_or_else(|| "its body is too long".to_owned(), |fault| fault.to_string());
        tracing::warn!(queue, %what, "a message was unreadable and was changed on its way in");
    }

    /// A panic in a job's task stops the process. The start stays open, so the message runs alone after the restart.
    async fn guarded(self: Arc<Self>, delivery: Delivery) {
        let engine = Arc::clone(&self);
        let message_id = delivery.message.properties.message_id.clone();
        let work = crash::of(message_id.as_deref(), engine.deliver(delivery));
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            self.fail("a job's task panicked");
        }
    }
}

#[cfg(test)]
#[path = "intake/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

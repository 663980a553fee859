//! Publishing until the confirm, and the events that belong to no delivery in hand.
//!
//! The rule it keeps: an event is published with the same id and bytes until it is confirmed. While that fails no
//! delivery is taken, and no job fails because of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio_util::sync::CancellationToken;

use super::{Engine, envelope};
use crate::broker::{Destination, Properties, Publication, PublishError};
use crate::crash::{self, Point};
use crate::job::record::Event;
use crate::job::{JobKey, event};
use crate::store::{Batch, Table};

/// The number of publishes that fail now.
#[derive(Debug, Default)]
pub struct Outbox {
    stuck: AtomicUsize,
}

/// The delivery's channel was lost during the publish, or the worker drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaveUp;

/// Failed attempts before intake stops.
const PATIENCE: u32 = 2;

impl Outbox {
    /// True while at least one publish fails.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire) > 0
    }
}

/// The pauses between publishes of the same message: 100 ms to 15 s, with jitter.
fn pauses() -> ExponentialBackoff {
    ExponentialBackoff {
        initial_interval: Duration::from_millis(100),
        current_interval: Duration::from_millis(100),
        max_interval: Duration::from_secs(15),
        // The engine adds the jitter, so that tests can repeat a run.
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

impl Engine {
    /// Publishes until the broker confirms, or until `give_up`.
    pub(crate) async fn publish(&self, publication: Publication, give_up: &CancellationToken) -> Result<(), GaveUp> {
        let mut pauses = pauses();
        let mut failures = 0_u32;
        let mut is_logged = false;
        let result = loop {
            if give_up.is_cancelled() {
                break Err(GaveUp);
            }
            match self.broker.publish(publication.clone()).await {
                Ok(()) => break Ok(()),
                Err(error @ PublishError::TooLarge(_)) => {
                    // Only this message waits for an operator; the broker takes others.
                    self.figures.count(&self.figures.publish_retries);
                    if !std::mem::replace(&mut is_logged, true) {
                        let (what, bytes) = (publication.to.what(), publication.body.len());
                        tracing::error!(
                            %error,
                            what,
                            bytes,
                            "a message is too large for the broker; the publish is repeated"
                        );
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.figures.count(&self.figures.publish_retries);
                    if failures == PATIENCE {
                        tracing::warn!(%error, "a publish fails; intake stops until it is confirmed");
                        self.publish_is_stuck(true).await;
                    }
                }
            }
            let pause = pauses.next_backoff().unwrap_or(Duration::from_secs(15));
            let pause = pause.mul_f64(0.5 + (self.chance)());
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = give_up.cancelled() => break Err(GaveUp),
            }
        };
        if failures >= PATIENCE {
            self.publish_is_stuck(false).await;
        }
        result
    }

    /// As [`Engine::publish`]; if the message is too large for the broker, the smaller one is published instead.
    pub(crate) async fn publish_either(
        &self,
        whole: Publication,
        smaller: Option<Publication>,
        give_up: &CancellationToken,
    ) -> Result<(), GaveUp> {
        let Some(smaller) = smaller else { return self.publish(whole, give_up).await };
        match self.broker.publish(whole.clone()).await {
            Ok(()) => Ok(()),
            Err(PublishError::TooLarge(why)) => {
                tracing::warn!(
                    %why,
                    "a dead letter is too large for the broker; only the beginning of its message is kept"
                );
                self.publish(smaller, give_up).await
            }
            Err(_) => self.publish(whole, give_up).await,
        }
    }

    async fn publish_is_stuck(&self, stuck: bool) {
        if stuck {
            self.outbox.stuck.fetch_add(1, Ordering::AcqRel);
        } else {
            self.outbox.stuck.fetch_sub(1, Ordering::AcqRel);
        }
        self.turn_valve().await;
    }

    /// Publishes an event of a job until it is confirmed.
    pub(crate) async fn publish_event(
        &self,
        event: &Event,
        key: &JobKey,
        original: &Properties,
        give_up: &CancellationToken,
    ) -> Result<(), GaveUp> {
        let publication = Publication {
            to: Destination::Event { routing_key: event::routing_key(&event.what, &key.tenant) },
            properties: envelope::event_properties(event, key, original.correlation_id.as_deref()),
            body: event.body.clone().into(),
        };
        crash::point(Point::BeforeEvent, "").await;
        self.publish(publication, give_up).await?;
        crash::point(Point::AfterEvent, "").await;
        self.figures.count(&self.figures.events);
        tracing::debug!(job = %key, event = %event.what, "event published");
        Ok(())
    }

    /// Stores an event without a delivery; the loop publishes it.
    pub(crate) fn owe(&self, batch: &mut Batch, key: &JobKey, event: &Event) {
        let mut row = event.at.0.to_be_bytes().to_vec();
        row.extend_from_slice(event.id.as_bytes());
        let mut value = (key.to_bytes().len() as u32).to_be_bytes().to_vec();
        value.extend_from_slice(&key.to_bytes());
        value.extend_from_slice(&event.to_bytes());
        batch.put(Table::Outbox, row, value);
    }

    /// Publishes the stored events, oldest first, until the worker drains.
    pub(crate) async fn outbox_loop(self: std::sync::Arc<Self>) {
        let heart = self.pulse.of("outbox");
        while !self.draining.is_cancelled() {
            heart.beat();
            let read = || async { self.store.scan(Table::Outbox, b"", None, 64) };
            let page = match heart.during(self.once_there_is_room(read)).await {
                Ok(Some(page)) => page,
                Ok(None) => return,
                Err(error) => return self.fail(format!("the outbox cannot be read: {error}")),
            };
            for (row, value) in page {
                if let Some((key, event)) = decode(&value) {
                    let properties = Properties::default();
                    // A broker that confirms nothing is no fault of this loop.
                    let published = heart.during(self.publish_event(&event, &key, &properties, &self.draining)).await;
                    if published.is_err() {
                        return;
                    }
                }
                let mut batch = Batch::new();
                batch.remove(Table::Outbox, row);
                // Repeated until the row is gone: the row would cause another publish of its event.
                let remove = || self.store.submit(batch.clone());
                match heart.during(self.once_there_is_room(remove)).await {
                    Ok(Some(())) => {}
                    Ok(None) => return,
                    Err(error) => return self.fail(format!("the outbox cannot be written: {error}")),
                }
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }
}

fn decode(value: &[u8]) -> Option<(JobKey, Event)> {
    let length = u32::from_be_bytes(value.get(..4)?.try_into().ok()?) as usize;
    let key = JobKey::from_bytes(value.get(4..4 + length)?)?;
    Some((key, Event::from_bytes(value.get(4 + length..)?).ok()?))
}

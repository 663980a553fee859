//! A connection's waits, its close, and its end.
//!
//! The rule it keeps: no call waits for the broker without a limit.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use futures_util::StreamExt;
use lapin::Event;
use tokio::time::Instant;

use super::dial::Wire;
use super::message::short;
use super::{AmqpConfig, AmqpError};

/// A connection or channel that lived this long was a good one: the next wait is short again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The pause between checks of the connection, in case its end made no event.
const LOOK: Duration = Duration::from_secs(1);

/// The broker's time to answer a close: if a channel ends at the same moment, lapin (4.12.3) may miss the answer.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest time to declare or check the names.
pub(super) const TOPOLOGY_TIMEOUT: Duration = Duration::from_secs(60);

/// Growing waits, with jitter.
pub(super) struct Pace {
    backoff: ExponentialBackoff,
    max: Duration,
}

impl Pace {
    pub(super) fn new(config: &AmqpConfig) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(config.backoff_min)
            .with_max_interval(config.backoff_max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_elapsed_time(None)
            .build();
        Self { backoff, max: config.backoff_max }
    }

    /// Waits after a failure with `error` of an attempt that began at `began`.
    pub(super) async fn wait(&mut self, began: Instant, error: &AmqpError) {
        if began.elapsed() >= GOOD_LIFE {
            self.backoff.reset();
        }
        let next = self.backoff.next_backoff().unwrap_or(self.max);
        tokio::time::sleep(if error.is_permanent() { self.max } else { next }).await;
    }
}

/// Closes a connection. The broker requeues the deliveries in hand even without an answer.
pub(super) async fn close(connection: &Wire) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, short("closed"))).await;
}

/// Waits for the end of the connection; returns the reason.
pub(super) async fn ended(connection: &Wire) -> AmqpError {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut last = None;
    while connection.status().connected() {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Error(error)) => last = Some(error),
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(reason, "the broker takes no messages for now");
                }
                Some(Event::ConnectionUnblocked) => tracing::info!("the broker takes messages again"),
                Some(_) => {}
                None => break,
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let Event::Error(error) = event {
            last = Some(error);
        }
    }
    last.map_or_else(|| AmqpError::Link("the connection is closed".to_owned()), AmqpError::from)
}

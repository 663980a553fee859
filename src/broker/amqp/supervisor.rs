//! Keeps the link up: one task that connects, sees the topology in place, runs intake and control,
//! and begins again when any of them ends.
//!
//! The rule it keeps: whatever ends, something is said once and tried again, ever more slowly.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use futures_util::StreamExt;
use lapin::Event;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::dial::Wire;
use super::message::short;
use super::{AmqpConfig, AmqpError, Shared, control, declare, intake, names, size};

/// A connection or channel that lived this long was a good one: the next wait is short again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// How often the connection is looked at, should its end have made no event.
const LOOK: Duration = Duration::from_secs(1);

/// How long the broker gets to answer to a close: where a channel ends at the same moment, lapin
/// (4.12.3) may never hear the answer.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long seeing the names in place may take.
pub(super) const TOPOLOGY_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits that grow, with jitter.
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

    /// Waits after something that began at `began` failed with `error`.
    pub(super) async fn wait(&mut self, began: Instant, error: &AmqpError) {
        if began.elapsed() >= GOOD_LIFE {
            self.backoff.reset();
        }
        let next = self.backoff.next_backoff().unwrap_or(self.max);
        tokio::time::sleep(if error.is_permanent() { self.max } else { next }).await;
    }
}

/// Runs until the broker is closed. `first` is told how the first attempt went.
pub(super) async fn supervise(shared: Arc<Shared>, first: oneshot::Sender<Result<(), AmqpError>>) {
    tokio::select! {
        () = shared.closing.cancelled() => {}
        () = keep_up(&shared, first) => {}
        () = read_control(&shared) => {}
    }
    shared.control.close();
    drop(shared.jobs.close());
    let connection = shared.publisher.connection();
    shared.publisher.attach(None);
    if let Ok(connection) = connection {
        close(&connection).await;
    }
    shared.link.send_replace(super::Link::Down("closed".to_owned()));
}

/// Closes a connection. The broker takes back what is in hand also where this is not answered.
pub(super) async fn close(connection: &Wire) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, short("closed"))).await;
}

async fn read_control(shared: &Shared) {
    if !shared.config.want_control {
        std::future::pending::<()>().await;
    }
    control::keep_reading(shared).await;
}

async fn keep_up(shared: &Shared, first: oneshot::Sender<Result<(), AmqpError>>) {
    let mut first = Some(first);
    let mut pace = Pace::new(&shared.config);
    loop {
        let began = Instant::now();
        let error = match open(shared).await {
            Ok(connection) => {
                shared.publisher.attach(Some(Arc::clone(&connection)));
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                let settled = shared.losses.so_far();
                let asked = OnceLock::new();
                let error = live(shared, &connection, &asked).await;
                shared.publisher.attach(None);
                shared.losses.ended(settled, asked.get().map(Instant::elapsed), &shared.topology);
                error
            }
            Err(error) => error,
        };
        shared.down(&error.to_string());
        if let Some(first) = first.take() {
            let permanent = error.is_permanent();
            let _ = first.send(if permanent { Err(error.clone()) } else { Ok(()) });
            if permanent {
                return;
            }
        }
        pace.wait(began, &error).await;
    }
}

/// Connects and sees the topology in place.
async fn open(shared: &Shared) -> Result<Arc<Wire>, AmqpError> {
    let connection = shared.dial.connect(&shared.config, "").await?;
    topology(shared, &connection).await?;
    Ok(Arc::new(connection))
}

async fn topology(shared: &Shared, connection: &Wire) -> Result<(), AmqpError> {
    let seen = async {
        if shared.config.declare_topology {
            declare::declare(connection, &shared.topology).await
        } else {
            declare::check(connection, &shared.topology).await
        }
    };
    let late = || AmqpError::Link(format!("the broker has not declared the names in {TOPOLOGY_TIMEOUT:?}"));
    tokio::time::timeout(TOPOLOGY_TIMEOUT, seen).await.unwrap_or_else(|_| Err(late()))
}

/// Does what is wanted over a connection until that ends.
async fn live(shared: &Shared, connection: &Wire, asked: &OnceLock<Instant>) -> AmqpError {
    let intake = async {
        if !shared.config.consume {
            shared.up();
            std::future::pending::<()>().await;
        }
        let mut pace = Pace::new(&shared.config);
        loop {
            let began = Instant::now();
            let mut error = intake::epoch(shared, connection, asked).await;
            shared.down(&error.to_string());
            loop {
                pace.wait(began, &error).await;
                // The queue may have been deleted.
                match topology(shared, connection).await {
                    Ok(()) => break,
                    Err(again) => error = again,
                }
                shared.down(&error.to_string());
            }
        }
    };
    let looking = async {
        if shared.config.consume {
            size::look(shared).await;
        }
        std::future::pending().await
    };
    let watching = async {
        if !shared.config.consume {
            std::future::pending::<()>().await;
        }
        names::watch(shared, connection).await;
    };
    tokio::select! {
        // First, so that the end of the connection is not taken for the end of one channel.
        biased;
        error = ended(connection) => error,
        () = watching => AmqpError::Link("the look at the names ended".to_owned()),
        error = looking => error,
        () = intake => AmqpError::Link("intake ended".to_owned()),
    }
}

/// Resolves when the connection is no more; says why.
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

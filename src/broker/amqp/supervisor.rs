//! Keeps the link up: one task that connects, declares or checks the topology, runs intake and control stream, and
//! starts again when one of them ends.
//!
//! The rule it keeps: every end is logged once and followed by another attempt, at growing intervals.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::dial::Wire;
use super::link::{Pace, TOPOLOGY_TIMEOUT, close, ended};
use super::{AmqpError, Shared, control, declare, intake, names, size};

/// Runs until the broker is closed. `first` gets the result of the first attempt.
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
                let error = live(shared, &connection).await;
                shared.publisher.attach(None);
                shared.losses.ended(settled, shared.losses.lived(), &shared.topology);
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

/// Connects, and declares or checks the topology.
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

/// Runs intake and checks over a connection until it ends.
async fn live(shared: &Shared, connection: &Wire) -> AmqpError {
    let intake = async {
        if !shared.config.consume {
            shared.up();
            std::future::pending::<()>().await;
        }
        let mut pace = Pace::new(&shared.config);
        loop {
            let began = Instant::now();
            let mut error = intake::epoch(shared, connection).await;
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

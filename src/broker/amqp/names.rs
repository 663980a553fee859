//! Whether our names are still on the broker while the worker runs: somebody may delete one, and most of them
//! make no sound when they go.
//!
//! The rule it keeps: a name that is gone is noticed, said, and declared anew where the worker may declare.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::dial::Wire;
use super::link::TOPOLOGY_TIMEOUT;
use super::telling::Telling;
use super::{AmqpError, Shared, declare, standby};
use crate::broker::{Ailment, PublishError};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the names.
#[derive(Default)]
pub(super) struct Names {
    doubted: Notify,
    /// What is missing, and cannot be declared.
    telling: Mutex<Telling>,
    /// How many were declared anew.
    restored: AtomicU64,
}

impl Names {
    fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at once where a publish met a name that is not there.
    pub(super) fn published(&self, done: &Result<(), PublishError>) {
        let is_missing = match done {
            Err(PublishError::Unrouted(_)) => true,
            Err(PublishError::Down(why)) => why.contains("NOT_FOUND"),
            _ => false,
        };
        if is_missing {
            self.doubted.notify_one();
        }
    }

    /// How many were declared anew since the start.
    pub(super) fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// What to say while something is missing.
    pub(super) fn ailment(&self) -> Option<Ailment> {
        self.telling().why().map(|why| Ailment { what: "names_missing", detail: why.to_owned() })
    }
}

/// Looks now and then, and at once where a name is doubted. Never returns.
pub(super) async fn watch(shared: &Shared, connection: &Wire) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.config.look_every) => {}
            () = shared.names.doubted.notified() => {}
        }
        let looked = tokio::time::timeout(TOPOLOGY_TIMEOUT, look(shared, connection)).await;
        let late = || AmqpError::Link(format!("the broker has not told of our names in {TOPOLOGY_TIMEOUT:?}"));
        let now = Instant::now();
        match looked.unwrap_or_else(|_| Err(late())) {
            Ok(()) => drop(shared.names.telling().over(now)),
            Err(error) => {
                let why = error.to_string();
                if let Some(lasts) = shared.names.telling().lasts(&why, now) {
                    let seconds = lasts.as_secs();
                    if error.is_permanent() {
                        tracing::error!(why, seconds, "names on the broker are not as they must be");
                    } else {
                        tracing::warn!(why, seconds, "names on the broker could not be looked at");
                    }
                }
            }
        }
        if let Err(error) = standby::look(shared, connection).await {
            tracing::debug!(%error, "whether this worker stands by is not known");
        }
        tokio::time::sleep(PAUSE.min(shared.config.look_every)).await;
    }
}

async fn look(shared: &Shared, connection: &Wire) -> Result<(), AmqpError> {
    let looked = declare::check(connection, &shared.topology).await;
    if !shared.config.declare_topology {
        return looked;
    }
    let missing = match looked {
        Ok(()) => Vec::new(),
        Err(AmqpError::Missing(missing)) => missing,
        Err(error) => return Err(error),
    };
    // Bindings cannot be looked at; where they are there, declaring them again changes nothing.
    declare::declare(connection, &shared.topology).await?;
    if !missing.is_empty() {
        tracing::error!(
            names = missing.join(", "),
            "names were gone from the broker and are declared anew. What lay in a deleted queue is lost; what others \
             had bound to a deleted exchange must be bound again"
        );
        shared.names.restored.fetch_add(missing.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

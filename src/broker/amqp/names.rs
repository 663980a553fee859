//! The check that our names are still on the broker while the worker runs: most deletions make no event.
//!
//! The rule it keeps: a missing name is noticed, logged, and declared again if the worker may declare.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::dial::Wire;
use super::link::TOPOLOGY_TIMEOUT;
use super::reminder::Reminder;
use super::{AmqpError, Shared, declare, standby};
use crate::broker::{Ailment, PublishError};

/// The pause between two checks.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of the names.
#[derive(Default)]
pub(super) struct Names {
    doubted: Notify,
    /// The missing names that cannot be declared.
    reminder: Mutex<Reminder>,
    /// The number of names declared again.
    restored: AtomicU64,
}

impl Names {
    fn reminder(&self) -> MutexGuard<'_, Reminder> {
        self.reminder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a check at once after a publish that met a missing name.
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

    /// The number of names declared again since the start.
    pub(super) fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// The report while something is missing.
    pub(super) fn ailment(&self) -> Option<Ailment> {
        self.reminder().why().map(|why| Ailment { what: "names_missing", detail: why.to_owned() })
    }
}

/// Checks at intervals, and at once if a name is in doubt. Never returns.
pub(super) async fn watch(shared: &Shared, connection: &Wire) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.config.look_every) => {}
            () = shared.names.doubted.notified() => {}
        }
        let looked = tokio::time::timeout(TOPOLOGY_TIMEOUT, look(shared, connection)).await;
        let late = || AmqpError::Link(format!("the broker did not answer for our names in {TOPOLOGY_TIMEOUT:?}"));
        let now = Instant::now();
        match looked.unwrap_or_else(|_| Err(late())) {
            Ok(()) => drop(shared.names.reminder().over(now)),
            Err(error) => {
                let why = error.to_string();
                if let Some(lasts) = shared.names.reminder().lasts(&why, now) {
                    let seconds = lasts.as_secs();
                    if error.is_permanent() {
                        tracing::error!(why, seconds, "names on the broker are not as they must be");
                    } else {
                        tracing::warn!(
                            why,
                            seconds,
                            "names on the broker could not be checked; they are checked again"
                        );
                    }
                }
            }
        }
        if let Err(error) = standby::look(shared, connection).await {
            tracing::debug!(%error, "it is not known whether this worker is a standby");
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
    // Bindings cannot be checked; declaring existing ones again changes nothing.
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

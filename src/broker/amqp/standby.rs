//! Whether this worker is a standby: there are jobs in the queue, and another consumer is the single active one.
//!
//! The rule it keeps: the broker does not say which consumer is active. So this is concluded from ready jobs, an
//! active consumer, and no delivery over this channel.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::Instant;

use super::dial::Wire;
use super::message::short;
use super::reminder::Reminder;
use super::{AmqpError, Shared, Wanted, within};

/// The number of checks in a row: a new job may still be on its way.
const LOOKS: u32 = 2;

/// The state of the present channel.
#[derive(Default)]
pub(super) struct Standby {
    has_delivered: AtomicBool,
    looks: AtomicU32,
    reminder: Mutex<Reminder>,
}

impl Standby {
    fn reminder(&self) -> MutexGuard<'_, Reminder> {
        self.reminder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a new channel requests jobs.
    pub(super) fn begins(&self) {
        self.has_delivered.store(false, Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
    }

    /// Notes a delivery.
    pub(super) fn delivered(&self) {
        self.has_delivered.store(true, Ordering::Relaxed);
        self.looks.store(0, Ordering::Relaxed);
    }

    /// The report while this worker is a standby.
    pub(super) fn why(&self) -> Option<String> {
        let stands_by = self.looks.load(Ordering::Relaxed) >= LOOKS;
        stands_by.then(|| self.reminder().why().map(str::to_owned)).flatten()
    }
}

/// Checks once.
pub(super) async fn look(shared: &Shared, connection: &Wire) -> Result<(), AmqpError> {
    let standby = &shared.standby;
    let name = shared.topology.name("jobs");
    let channel = within("open a channel", connection.create_channel()).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue =
        within("answer for the queue of jobs", channel.queue_declare(short(&name), passive, FieldTable::default()))
            .await?;
    let is_idle = queue.message_count() > 0
        // In a queue with a single active consumer only the active one is counted.
        && queue.consumer_count() > 0
        && *shared.wanted.borrow() == Wanted::Jobs
        && *shared.consuming.borrow()
        && !standby.has_delivered.load(Ordering::Relaxed);
    let now = Instant::now();
    if !is_idle {
        standby.looks.store(0, Ordering::Relaxed);
        if let Some(lasted) = standby.reminder().over(now) {
            tracing::info!(seconds = lasted.as_secs(), "this worker is no longer a standby, or the queue is empty");
        }
        return Ok(());
    }
    if standby.looks.fetch_add(1, Ordering::Relaxed) + 1 < LOOKS {
        return Ok(());
    }
    let why = format!(
        "another consumer has the single active place of {name}: it gets the jobs, and this worker takes over when it \
         goes. Where that is no worker of yours, end it: `rabbitmqctl list_consumers` names its connection"
    );
    if let Some(lasts) = standby.reminder().lasts(&why, now) {
        tracing::info!(seconds = lasts.as_secs(), waiting = queue.message_count(), "this worker stands by: {why}");
    }
    Ok(())
}

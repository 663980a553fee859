//! Reports to the service manager (systemd): ready, stopping, and alive.
//!
//! The rule it keeps: without a manager nothing is done, and a failed report never stops the work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::broker::Link;
use crate::engine::Engine;

/// A loop without a heartbeat for longer than this is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
const WORKING: &str = "working";

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

/// Reports the state of the link to the broker at each change: the worker is ready when the link is up, and works
/// only then. Never returns.
pub async fn report_states(mut link: watch::Receiver<Link>, worker: &str, concurrency: u32) {
    let mut was_ready = false;
    loop {
        let now = link.borrow_and_update().clone();
        match now {
            Link::Up if was_ready => notify(&[NotifyState::Status(WORKING)]),
            Link::Up => {
                was_ready = true;
                tracing::info!(worker, concurrency, "working");
                notify(&[NotifyState::Ready, NotifyState::Status(WORKING)]);
            }
            // A status is one line.
            Link::Down(why) => waits(&format!("no link to the broker: {}", why.replace('\n', " "))),
        }
        if link.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reports the stop: no new jobs are taken.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Reports the reason of a wait.
pub fn waits(what: &str) {
    notify(&[NotifyState::Status(what)]);
}

/// Reports that the process is alive, as long as all of its loops run. Never returns.
pub async fn lives(engine: Arc<Engine>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(limit / 4);
    loop {
        tick.tick().await;
        let stuck: Vec<_> =
            engine.pulse().ages().into_iter().filter(|(_, age)| *age > STUCK_AFTER).map(|(name, _)| name).collect();
        if stuck.is_empty() {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(?stuck, "loops are stuck; the service manager will restart the worker");
        }
    }
}

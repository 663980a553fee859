//! What the service manager (systemd) is told: ready, stopping, and that the process still turns.
//!
//! The rule it keeps: where no manager listens nothing is done, and no fault of telling stops the work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::broker::Link;
use crate::engine::Engine;

/// A loop that has not turned for longer stands still.
const STUCK_AFTER: Duration = Duration::from_secs(60);
const WORKING: &str = "working";

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Says how the link to the broker is, at each change: the worker is ready once it is there, and works only
/// while it is. Never returns.
pub async fn tells(mut link: watch::Receiver<Link>, worker: &str, concurrency: u32) {
    let mut was_ready = false;
    loop {
        let now = link.borrow_and_update().clone();
        match now {
            Link::Up if was_ready => tell(&[NotifyState::Status(WORKING)]),
            Link::Up => {
                was_ready = true;
                tracing::info!(worker, concurrency, "working");
                tell(&[NotifyState::Ready, NotifyState::Status(WORKING)]);
            }
            // A status is one line.
            Link::Down(why) => waits(&format!("no link to the broker: {}", why.replace('\n', " "))),
        }
        if link.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Nothing new is taken.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// What is waited for.
pub fn waits(what: &str) {
    tell(&[NotifyState::Status(what)]);
}

/// Says again and again that the process lives, as long as each of its loops turns. Never returns.
pub async fn lives(engine: Arc<Engine>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(limit / 4);
    loop {
        tick.tick().await;
        let stuck: Vec<_> =
            engine.pulse().ages().into_iter().filter(|(_, age)| *age > STUCK_AFTER).map(|(name, _)| name).collect();
        if stuck.is_empty() {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(?stuck, "loops stand still; the service manager will restart the worker");
        }
    }
}

//! `/livez` and `/readyz`: whether to restart this worker, and whether it can work.
//!
//! The rule it keeps: a fault outside the process (a held system, a lost broker) never leads to a restart, and a held
//! system never makes the worker unready.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::shared::Shared;
use crate::broker::Link;
use crate::clock::steady::Steady;
use crate::engine::{Engine, rows};
use crate::store::{Table, postgres};
use crate::telemetry::lines;

/// The pause between checks of the store.
const CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// The pause between looks at a store that does not answer.
const AWAY_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the store at intervals; each answer is a beat of the loop `store`. Never returns.
pub(super) async fn watch_store(engine: &Arc<Engine>) {
    let heart = engine.pulse().of("store");
    loop {
        // An error counts as an answer too: the engine handles and logs the store's faults. So does the report that the
        // database is away: a restart would not bring it back.
        let mut check = engine.store().check();
        while tokio::time::timeout(AWAY_INTERVAL, &mut check).await.is_err() {
            if engine.store().ailments().iter().any(|(what, _)| *what == postgres::AWAY) {
                heart.beat();
            }
        }
        heart.beat();
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// 200 unless a loop is stuck.
pub(super) async fn livez(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let ages = shared.ops.engine.pulse().ages();
    let stuck: Vec<_> =
        ages.iter().filter(|(_, age)| *age > shared.ops.settings.stuck_after).map(|(name, _)| *name).collect();
    let loops: Vec<_> =
        ages.iter().map(|(name, age)| json!({ "loop": name, "last_beat_seconds_ago": age.as_secs() })).collect();
    let status = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": stuck.is_empty(), "stuck": stuck, "loops": loops })))
}

/// 503 only if the engine failed, intake is stopped, or store or broker cannot be used.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let health = Health::of(&shared);
    let status = if health.unavailable.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!(health)))
}

/// Every value of `what` in [`Health::degraded`].
const WHATS: [&str; 17] = [
    "system_held",
    "system_failing",
    "system_paused",
    "step_failing",
    "paused",
    "links_lost_idle",
    "control_stream",
    "names_missing",
    "max_message_size",
    "clock_jumped",
    "parked_copies_missing",
    "parked_copies_short",
    "secret_changed",
    "log_lines_lost",
    "store_moved_aside",
    "store_away",
    "store_may_forget",
];

/// The worker's state.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    /// `ready`, `standby`, `degraded`, `draining` or `unavailable`.
    status: &'static str,
    /// The reason why this worker gets no deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    standby: Option<String>,
    /// The faults that stop the worker.
    unavailable: Vec<Value>,
    /// The faults that need attention although the worker can work.
    degraded: Vec<Value>,
}

impl Health {
    /// The state now.
    pub(super) fn of(shared: &Shared) -> Health {
        let unavailable = unavailable(shared);
        let degraded = degraded(shared);
        let is_draining = shared.ops.engine.is_draining();
        let standby = shared.ops.engine.broker().standby();
        let status = match (unavailable.is_empty(), is_draining, degraded.is_empty()) {
            (false, ..) => "unavailable",
            (true, true, _) => "draining",
            (true, false, false) => "degraded",
            (true, false, true) if standby.is_some() => "standby",
            (true, false, true) => "ready",
        };
        Health { status, standby, unavailable, degraded }
    }

    /// The number of faults in `degraded` by `what`, zeros included.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let count = |what: &str| self.degraded.iter().filter(|one| one["what"] == what).count() as u64;
        debug_assert_eq!(WHATS.into_iter().map(count).sum::<u64>(), self.degraded.len() as u64, "{:?}", self.degraded);
        WHATS.into_iter().map(|what| (what, count(what))).collect()
    }
}

fn unavailable(shared: &Shared) -> Vec<Value> {
    let engine = &shared.ops.engine;
    let failure = engine.failure().borrow().clone();
    let link = engine.broker().link().borrow().clone();
    let mut unavailable: Vec<Value> = Vec::new();
    if let Some(why) = failure {
        unavailable.push(json!({ "part": "engine", "detail": why }));
    }
    if let Link::Down(why) = link {
        unavailable.push(json!({ "part": "broker", "detail": why }));
    }
    if let Err(error) = engine.store().get(Table::Meta, rows::RUNNING.prefix) {
        unavailable.push(json!({ "part": "store", "detail": error.to_string() }));
    }
    if engine.is_stalled() {
        let detail = "intake is stopped: the store cannot be written, or the broker accepts no publish";
        unavailable.push(json!({ "part": "intake", "detail": detail }));
    }
    unavailable
}

/// What happens next, or the operator's next action, after the file of this secret changed.
fn next_action(key: &str) -> &'static str {
    if key.starts_with("systems.") {
        "the harmless read with the new secret failed; the worker tries again"
    } else {
        "restart the worker"
    }
}

fn degraded(shared: &Shared) -> Vec<Value> {
    let mut degraded = Vec::new();
    for (name, gate) in shared.ops.engine.gates() {
        for trouble in gate.view().troubles {
            let (what, seconds) = (trouble.what.as_str(), trouble.lasts.as_secs());
            let detail = trouble.detail.to_string();
            degraded.push(json!({ "what": what, "system": name, "detail": detail, "seconds": seconds }));
        }
    }
    for (subject, paused) in shared.ops.engine.pauses().all() {
        let detail = format!("an operator paused the {} {}: {}", subject.kind(), subject.name(), paused.reason);
        degraded.push(json!({ "what": "paused", "system": null, "detail": detail }));
    }
    for ailment in shared.ops.engine.broker().ailments() {
        degraded.push(json!({ "what": ailment.what, "system": null, "detail": ailment.detail }));
    }
    if let Some(by) = Steady::of_process().jump() {
        let detail = format!(
            "the clock jumped by {} seconds; its new time is used once a system's answer confirms it",
            by.as_secs()
        );
        degraded.push(json!({ "what": "clock_jumped", "detail": detail }));
    }
    let parked = shared.ops.engine.parked().view();
    if !parked.missing.is_empty() {
        let detail = format!(
            "{} parked copies were not redelivered in time: their jobs stop until the publishers send them again; \
             the log names the jobs",
            parked.missing.len()
        );
        degraded.push(json!({ "what": "parked_copies_missing", "detail": detail }));
    }
    for (tier, missing) in parked.short {
        let detail = format!("wait.{} holds {missing} copies fewer than were parked there", tier.label());
        degraded.push(json!({ "what": "parked_copies_short", "detail": detail }));
    }
    let changed = shared.ops.settings.changed_secrets.as_ref();
    for key in changed.map(|keys| keys.borrow().clone()).unwrap_or_default() {
        let detail = format!("the file of {key} changed; the old secret is still used: {}", next_action(&key));
        degraded.push(json!({ "what": "secret_changed", "detail": detail }));
    }
    let unreported = lines::unreported();
    if unreported > 0 {
        let detail = format!("{unreported} log lines were lost, and stderr is still not read");
        degraded.push(json!({ "what": "log_lines_lost", "detail": detail }));
    }
    for (what, detail) in shared.ops.engine.store().ailments() {
        degraded.push(json!({ "what": what, "system": null, "detail": detail }));
    }
    if let Some(path) = &shared.ops.settings.store_moved_aside {
        let detail = format!("the store was damaged and moved to {}; a new, empty store is used", path.display());
        degraded.push(json!({ "what": "store_moved_aside", "detail": detail }));
    }
    degraded
}

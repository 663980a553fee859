//! `/livez` and `/readyz`: whether to restart this worker, and whether it can work.
//!
//! The rule it keeps: a fault of somebody else's (a held system, a broker that is away) never asks
//! for a restart, and a held system never takes the worker out of service.

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
use crate::store::Table;
use crate::telemetry::lines;

/// How often the store is tried.
const TRIED_EVERY: Duration = Duration::from_secs(20);

/// Tries the store now and then, and lets its heart beat whenever it answered, with whatever.
/// Never returns.
pub async fn watch_store(engine: &Arc<Engine>) {
    let heart = engine.pulse().of("store");
    loop {
        // A fault is met and told by the engine; here it counts only that an answer came.
        let _ = engine.store().check().await;
        heart.beat();
        tokio::time::sleep(TRIED_EVERY).await;
    }
}

/// 200 unless a loop is stuck.
pub async fn livez(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let ages = shared.ops.engine.pulse().ages();
    let stuck: Vec<_> =
        ages.iter().filter(|(_, age)| *age > shared.ops.settings.stuck_after).map(|(name, _)| *name).collect();
    let loops: Vec<_> =
        ages.iter().map(|(name, age)| json!({ "loop": name, "last_beat_seconds_ago": age.as_secs() })).collect();
    let status = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": stuck.is_empty(), "stuck": stuck, "loops": loops })))
}

/// 503 only where the engine has failed, or store or broker cannot be used.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let health = Health::of(&shared);
    let status = if health.unavailable.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!(health)))
}

/// Every `what` of [`Health::degraded`].
const WHATS: [&str; 15] = [
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
];

/// Whether the worker can work, and what needs a look.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `ready`, `standby`, `degraded`, `draining` or `unavailable`.
    pub status: &'static str,
    /// Why jobs that wait do not come to this worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby: Option<String>,
    /// What keeps it from working.
    pub unavailable: Vec<Value>,
    /// What needs a look while it can work.
    pub degraded: Vec<Value>,
}

impl Health {
    /// As it is now.
    pub fn of(shared: &Shared) -> Health {
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

    /// How much needs a look, by what it is; zeros included.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let count = |what: &str| self.degraded.iter().filter(|one| one["what"] == what).count() as u64;
        debug_assert_eq!(WHATS.into_iter().map(count).sum::<u64>(), self.degraded.len() as u64, "{:?}", self.degraded);
        WHATS.into_iter().map(|what| (what, count(what))).collect()
    }
}

fn unavailable(shared: &Shared) -> Vec<Value> {
    let engine = &shared.ops.engine;
    let failure = engine.failure().borrow().clone();
    let link = engine.broker().link().borrow().clone();
    let mut unready: Vec<Value> = Vec::new();
    if let Some(why) = failure {
        unready.push(json!({ "part": "engine", "detail": why }));
    }
    if let Link::Down(why) = link {
        unready.push(json!({ "part": "broker", "detail": why }));
    }
    if let Err(error) = engine.store().get(Table::Meta, rows::RUNNING.prefix) {
        unready.push(json!({ "part": "store", "detail": error.to_string() }));
    }
    if engine.is_stalled() {
        let detail = "intake is stopped: the store cannot be written, or the broker takes no publish";
        unready.push(json!({ "part": "intake", "detail": detail }));
    }
    unready
}

fn what_to_do(key: &str) -> &'static str {
    if key.starts_with("systems.") {
        "a harmless read with the new one does not work; it is tried again"
    } else {
        "restart the worker"
    }
}

fn degraded(shared: &Shared) -> Vec<Value> {
    let mut degraded = Vec::new();
    for (name, gate) in shared.ops.engine.gates() {
        for told in gate.view().troubles {
            let (what, seconds) = (told.what.as_str(), told.lasts.as_secs());
            degraded
                .push(json!({ "what": what, "system": name, "detail": told.detail.to_string(), "seconds": seconds }));
        }
    }
    for (subject, paused) in shared.ops.engine.pauses().all() {
        let detail = format!("{} {} is paused by an operator: {}", subject.kind(), subject.name(), paused.reason);
        degraded.push(json!({ "what": "paused", "system": null, "detail": detail }));
    }
    for ailment in shared.ops.engine.broker().ailments() {
        degraded.push(json!({ "what": ailment.what, "system": null, "detail": ailment.detail }));
    }
    if let Some(by) = Steady::of_process().jump() {
        let detail = format!(
            "the clock jumped by {} seconds and is not believed before a system's answer has the same time",
            by.as_secs()
        );
        degraded.push(json!({ "what": "clock_jumped", "detail": detail }));
    }
    let parked = shared.ops.engine.parked().view();
    if !parked.missing.is_empty() {
        let detail = format!(
            "{} parked copies have not come back: their jobs stand still until their publishers send them again; \
             the log names them",
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
        let detail = format!("the file of {key} has changed, and the former secret is used: {}", what_to_do(&key));
        degraded.push(json!({ "what": "secret_changed", "detail": detail }));
    }
    let untold = lines::untold();
    if untold > 0 {
        let detail = format!("{untold} log lines were lost, and nobody reads stderr since");
        degraded.push(json!({ "what": "log_lines_lost", "detail": detail }));
    }
    if let Some(path) = &shared.ops.settings.store_moved_aside {
        let detail = format!("the store was damaged and lies in {}; it was started empty", path.display());
        degraded.push(json!({ "what": "store_moved_aside", "detail": detail }));
    }
    degraded
}

//! `/v1/systems`: the state of each system, and the release of a hold.
//!
//! The rule it keeps: a release only permits calls again. If the cause remains, the next call holds the system again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::shared::Shared;
use crate::engine::Gate;
use crate::engine::pauses::{Paused, Subject};
use crate::engine::trouble::Impairment;
use crate::job::At;

pub(super) fn view(shared: &Shared, name: &str, gate: &Gate) -> Value {
    let view = gate.view();
    json!({
        "name": name,
        "kind": gate.system().kind().as_str(),
        "held": view.held.is_some(),
        "hold": view.held.map(|note| json!({ "detail": note.to_string(), "seconds": view.held_for.unwrap_or_default().as_secs() })),
        "breaker_open": view.breaker_open,
        "troubles": view.troubles.iter().map(trouble).collect::<Vec<_>>(),
        "paused_seconds": view.paused_for.map(|left| left.as_secs_f64().ceil()),
        "paused": shared.ops.engine.pauses().all().get(&Subject::System(name.to_owned())).map(pause),
        "requests_per_minute": view.requests_per_minute,
        "calls_per_minute": shared.rates.now().calls.get(name).copied(),
        "calls": view.calls,
        "jobs_in_line": view.line,
        "jobs_in_hand": view.in_hand,
        "credential_proven": gate.system().credential().is_proven(),
        "import": shared.ops.imports.contains_key(name),
    })
}

pub(super) fn pause(paused: &Paused) -> Value {
    json!({
        "at": At(paused.at).to_rfc3339(), "by": paused.by, "reason": paused.reason,
        "everywhere": !paused.is_here_only,
    })
}

fn trouble(one: &Impairment) -> Value {
    json!({ "what": one.what.as_str(), "detail": one.detail.to_string(), "seconds": one.lasts.as_secs() })
}

/// Every configured system.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "systems": all(&shared) }))
}

pub(super) fn all(shared: &Shared) -> Vec<Value> {
    shared.ops.engine.gates().iter().map(|(name, gate)| view(shared, name, gate)).collect()
}

/// Ends a hold at every worker; without a hold nothing changes.
pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let gate = shared.ops.engine.gates().get(&name).ok_or(Kind::UnknownSystem)?;
    tracing::info!(system = name, held = gate.is_held(), "an operator requested the release of a system");
    shared.ops.engine.release_system_for_operator(&name, caller.name()).await?;
    Ok(Json(view(&shared, &name, gate)))
}

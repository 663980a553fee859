//! `/v1/guard`: the ceilings, and the jobs that they hold.
//!
//! The rule it keeps: an operator releases or discards the jobs of one named tenant or system, never all held jobs at
//! once.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::shared::Shared;
use crate::engine::{GuardView, Scope};

fn view(view: &GuardView) -> Value {
    json!({
        "scope": view.scope.kind(), "name": view.scope.name(), "limit": view.limit, "passed": view.passed,
        "held": view.held, "held_since": view.held_since.map(crate::job::At::to_rfc3339),
    })
}

/// Every scope with a ceiling.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let scopes: Vec<Value> = shared.ops.engine.guard_views()?.iter().map(view).collect();
    Ok(Json(json!({ "scopes": scopes })))
}

/// The scope in a path, if it has a ceiling.
fn scope(shared: &Shared, kind: &str, name: String) -> Result<Scope, Problem> {
    let scope = match kind {
        "tenant" => Scope::Tenant(name),
        "system" => Scope::System(name),
        _ => return Err(Kind::UnknownScope.into()),
    };
    let known = shared.ops.engine.guard_views()?.iter().any(|view| view.scope == scope);
    if known { Ok(scope) } else { Err(Kind::UnknownScope.into()) }
}

/// Releases the jobs that a scope holds.
pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let scope = scope(&shared, &kind, name)?;
    tracing::info!(%scope, "an operator requested the release of held jobs");
    Ok(Json(json!({ "released": shared.ops.engine.release_guard(&scope, caller.name()).await? })))
}

/// Ends the jobs that a scope holds as cancelled.
pub(super) async fn discard(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let scope = scope(&shared, &kind, name)?;
    tracing::info!(%scope, "an operator requested the discard of held jobs");
    Ok(Json(json!({ "discarded": shared.ops.engine.discard_guarded(&scope, caller.name()).await? })))
}

//! `/v1/paused`, and the routes that pause and resume a system or a tenant.
//!
//! The rule it keeps: a pause names its operator and its reason.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use super::systems;
use crate::config::{NAME_FORM, is_name};
use crate::engine::pauses::{Paused, Subject};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    reason: String,
    by: String,
}

fn listed(subject: &Subject, paused: &Paused) -> Value {
    let mut line = systems::pause(paused);
    line[subject.kind()] = subject.name().into();
    line
}

/// Every paused system and tenant.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let all = shared.ops.engine.pauses().all();
    Json(json!({ "paused": all.iter().map(|(subject, paused)| listed(subject, paused)).collect::<Vec<_>>() }))
}

async fn pause(
    shared: &Shared,
    subject: &Subject,
    caller: &Caller,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(), Problem> {
    let Pause { reason, by } = request::body(headers, body)?;
    let (reason, by) = (request::reason(&reason)?, caller.acts_as(&by)?);
    shared.ops.engine.pause_for_operator(subject, by, reason).await?;
    Ok(())
}

fn tenant(name: String) -> Result<Subject, Problem> {
    if is_name(&name) {
        return Ok(Subject::Tenant(name));
    }
    Err(Problem::new(Kind::BadRequest, format!("a tenant's name must have the form {NAME_FORM}")))
}

fn system(shared: &Shared, name: String) -> Result<Subject, Problem> {
    if shared.ops.engine.gates().contains_key(&name) {
        Ok(Subject::System(name))
    } else {
        Err(Kind::UnknownSystem.into())
    }
}

fn answer(shared: &Shared, subject: &Subject) -> Json<Value> {
    match (subject, shared.ops.engine.gates().get(subject.name())) {
        (Subject::System(name), Some(gate)) => Json(systems::view(shared, name, gate)),
        _ => {
            let paused = shared.ops.engine.pauses().all();
            Json(json!({ "tenant": subject.name(), "paused": paused.get(subject).map(systems::pause) }))
        }
    }
}

pub(super) async fn pause_system(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let subject = system(&shared, name)?;
    pause(&shared, &subject, &caller, &headers, body).await?;
    Ok(answer(&shared, &subject))
}

/// Resumes a system; without a pause nothing changes.
pub(super) async fn resume_system(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let subject = system(&shared, name)?;
    shared.ops.engine.resume_for_operator(&subject, caller.name()).await?;
    Ok(answer(&shared, &subject))
}

/// Pauses a tenant's jobs. The tenant may be unknown so far.
pub(super) async fn pause_tenant(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let subject = tenant(name)?;
    pause(&shared, &subject, &caller, &headers, body).await?;
    Ok(answer(&shared, &subject))
}

/// Resumes a tenant's jobs; without a pause nothing changes.
pub(super) async fn resume_tenant(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let subject = tenant(name)?;
    shared.ops.engine.resume_for_operator(&subject, caller.name()).await?;
    Ok(answer(&shared, &subject))
}

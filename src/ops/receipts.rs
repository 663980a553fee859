//! `/.well-known/jwks.json` and `/v1/receipts`: the keys that verify receipts, and the signed audit pack of a time
//! span.
//!
//! The rule it keeps: the keys need no token, because they are public. The receipts are read on a thread that may
//! block.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;

use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::engine::receipts::PackError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    from: Option<String>,
    to: Option<String>,
}

impl From<PackError> for Problem {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Store(error) => error.into(),
            too_many @ PackError::TooMany { .. } => Problem::new(Kind::BadRequest, too_many.to_string()),
        }
    }
}

/// The public keys as a JWK set.
pub(super) async fn keys(State(shared): State<Arc<Shared>>) -> Result<impl IntoResponse, Problem> {
    let engine = Arc::clone(&shared.ops.engine);
    let keys = tokio::task::spawn_blocking(move || engine.public_keys()).await??;
    Ok(([(header::CONTENT_TYPE, "application/jwk-set+json")], keys.to_string()))
}

/// The receipts of the runs that ended from `from` on and before `to`, as a signed audit pack.
pub(super) async fn pack(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Span>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let span = request::query(query)?;
    let (from, to) = (request::time("from", span.from)?, request::time("to", span.to)?);
    let engine = Arc::clone(&shared.ops.engine);
    let pack = tokio::task::spawn_blocking(move || engine.audit_pack(from, to)).await??;
    Ok(Json(pack.to_json()))
}

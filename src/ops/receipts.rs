//! `/.well-known/jwks.json` and `/v1/receipts`: the keys that receipts are checked with, and the
//! signed audit pack of a time span.
//!
//! The rule it keeps: the keys are open to all, for they prove nothing but themselves; the receipts
//! are read on a thread that may block.

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

/// Which time span.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
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
pub async fn keys(State(shared): State<Arc<Shared>>) -> Result<impl IntoResponse, Problem> {
    let engine = Arc::clone(&shared.ops.engine);
    let keys = tokio::task::spawn_blocking(move || engine.public_keys()).await??;
    Ok(([(header::CONTENT_TYPE, "application/jwk-set+json")], keys.to_string()))
}

/// The receipts of the runs that ended from `from` on and before `to`, as a signed audit pack.
pub async fn pack(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let asked = request::query(asked)?;
    let (from, to) = (request::time("from", asked.from)?, request::time("to", asked.to)?);
    let engine = Arc::clone(&shared.ops.engine);
    let pack = tokio::task::spawn_blocking(move || engine.audit_pack(from, to)).await??;
    Ok(Json(pack.to_json()))
}

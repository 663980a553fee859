//! `/v1/dead-letters`: listed, replayed, discarded.
//!
//! The rule it keeps: a replay or discard must name its dead letters. It continues if the caller disconnects.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::engine::operators::{Discard, LetterFilter, LetterPage, MAX_LETTERS};

const DEFAULT_LIMIT: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    code: Option<String>,
    system: Option<String>,
    tenant: Option<String>,
    job_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    skip: Option<usize>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    code: Option<String>,
    system: Option<String>,
    tenant: Option<String>,
    job_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Discarding {
    code: Option<String>,
    system: Option<String>,
    tenant: Option<String>,
    job_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    reason: String,
    by: String,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

impl Filter {
    fn read(self, default_limit: usize) -> Result<(LetterFilter, usize), Problem> {
        let limit = self.limit.unwrap_or(default_limit);
        if !(1..=MAX_LETTERS).contains(&limit) {
            return Err(bad(format!("limit must be 1 to {MAX_LETTERS}")));
        }
        let job_id =
            self.job_id.map(|id| Uuid::try_parse(&id).map_err(|_| bad("job_id must be a UUID"))).transpose()?;
        let (from, to) = (request::time("from", self.from)?, request::time("to", self.to)?);
        Ok((LetterFilter { code: self.code, system: self.system, tenant: self.tenant, job_id, from, to }, limit))
    }
}

/// Dead letters by their headers, in queue order.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<LetterPage>, Problem> {
    let filter = request::query(query)?;
    let skip = filter.skip.unwrap_or_default();
    let (filter, limit) = filter.read(DEFAULT_LIMIT)?;
    Ok(Json(page(shared, filter, skip, limit).await?))
}

/// The dead letters of one job.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<Json<LetterPage>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let filter = LetterFilter { tenant: Some(key.tenant), job_id: Some(key.job_id), ..LetterFilter::default() };
    let page = page(shared, filter, 0, MAX_LETTERS).await?;
    if page.dead_letters.is_empty() { Err(Kind::UnknownDeadLetter.into()) } else { Ok(Json(page)) }
}

/// Reads in a separate task: an interrupted read would requeue its letters late.
async fn page(shared: Arc<Shared>, filter: LetterFilter, skip: usize, limit: usize) -> Result<LetterPage, Problem> {
    let task = tokio::spawn(async move {
        let _lock = shared.letters.lock().await;
        shared.ops.engine.dead_letters(&filter, skip, limit).await
    });
    Ok(task.await??)
}

pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Replay { code, system, tenant, job_id, from, to, limit, all } = request::body(&headers, body)?;
    let filter = Filter { code, system, tenant, job_id, from, to, skip: None, limit };
    let (filter, limit) = filter.read(MAX_LETTERS)?;
    // `from` and `to` may stand beside "all": they name no dead letter.
    let is_named = !LetterFilter { from: None, to: None, ..filter.clone() }.is_empty();
    if all == is_named {
        return Err(bad("give at least one of code, system, tenant, job_id; or \"all\": true without them"));
    }
    let task = tokio::spawn(async move {
        let _lock = shared.letters.lock().await;
        shared.ops.engine.replay(&filter, limit).await
    });
    let replayed = task.await??;
    Ok(Json(json!({
        "replayed": replayed.swept.done, "unopenable": replayed.unopenable,
        "looked_at": replayed.swept.looked_at, "more": replayed.swept.more,
    })))
}

pub(super) async fn discard(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Discarding { code, system, tenant, job_id, from, to, limit, reason, by } = request::body(&headers, body)?;
    let filter = Filter { code, system, tenant, job_id, from, to, skip: None, limit };
    let (filter, limit) = filter.read(MAX_LETTERS)?;
    if filter.is_empty() {
        return Err(bad("give at least one of code, system, tenant, job_id, from, to"));
    }
    let why = Discard { reason: request::reason(&reason)?, by: caller.acts_as(&by)? };
    let task = tokio::spawn(async move {
        let _lock = shared.letters.lock().await;
        shared.ops.engine.discard(&filter, limit, &why).await
    });
    let swept = task.await??;
    Ok(Json(json!({ "discarded": swept.done, "looked_at": swept.looked_at, "more": swept.more })))
}

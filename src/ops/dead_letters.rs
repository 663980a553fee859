//! `/v1/dead-letters`: looked at, replayed, given up.
//!
//! The rule it keeps: nothing is replayed or given up without saying which; what was begun goes on
//! although the caller hangs up.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::guard::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::engine::operators::{Discard, LetterFilter, LetterPage, MAX_LETTERS};

const USUAL: usize = 50;

/// Which dead letters, and what is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    code: Option<String>,
    system: Option<String>,
    tenant: Option<String>,
    job_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    skip: Option<usize>,
    limit: Option<usize>,
}

/// `replay`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedReplay {
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

/// `discard`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedDiscard {
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

impl Asked {
    fn read(self, usual: usize) -> Result<(LetterFilter, usize), Problem> {
        let limit = self.limit.unwrap_or(usual);
        if !(1..=MAX_LETTERS).contains(&limit) {
            return Err(bad(format!("limit is 1 to {MAX_LETTERS}")));
        }
        let job_id = self.job_id.map(|id| Uuid::try_parse(&id).map_err(|_| bad("job_id is a UUID"))).transpose()?;
        let (from, to) = (request::time("from", self.from)?, request::time("to", self.to)?);
        Ok((LetterFilter { code: self.code, system: self.system, tenant: self.tenant, job_id, from, to }, limit))
    }
}

/// Dead letters by their headers, in queue order.
pub async fn list(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<LetterPage>, Problem> {
    let asked = request::query(asked)?;
    let skip = asked.skip.unwrap_or_default();
    let (filter, limit) = asked.read(USUAL)?;
    Ok(Json(look(shared, filter, skip, limit).await?))
}

/// The dead letters of one job.
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<Json<LetterPage>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let filter = LetterFilter { tenant: Some(key.tenant), job_id: Some(key.job_id), ..LetterFilter::default() };
    let page = look(shared, filter, 0, MAX_LETTERS).await?;
    if page.dead_letters.is_empty() { Err(Kind::UnknownDeadLetter.into()) } else { Ok(Json(page)) }
}

/// A task of its own: a look that is broken off gives letters back late.
async fn look(shared: Arc<Shared>, filter: LetterFilter, skip: usize, limit: usize) -> Result<LetterPage, Problem> {
    let task = tokio::spawn(async move {
        let _alone = shared.letters.lock().await;
        shared.ops.engine.dead_letters(&filter, skip, limit).await
    });
    Ok(task.await??)
}

/// Sends jobs back to the queue.
pub async fn replay(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let AskedReplay { code, system, tenant, job_id, from, to, limit, all } = request::body(&headers, read)?;
    let asked = Asked { code, system, tenant, job_id, from, to, skip: None, limit };
    let (filter, limit) = asked.read(MAX_LETTERS)?;
    // Ages narrow "all" down without naming anything.
    let names = !LetterFilter { from: None, to: None, ..filter.clone() }.is_empty();
    if all == names {
        return Err(bad("say which: at least one of code, system, tenant, job_id; or \"all\": true without them"));
    }
    let task = tokio::spawn(async move {
        let _alone = shared.letters.lock().await;
        shared.ops.engine.replay(&filter, limit).await
    });
    let replayed = task.await??;
    Ok(Json(json!({
        "replayed": replayed.swept.done, "unopenable": replayed.unopenable,
        "looked_at": replayed.swept.looked_at, "more": replayed.swept.more,
    })))
}

/// Gives jobs up.
pub async fn discard(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let AskedDiscard { code, system, tenant, job_id, from, to, limit, reason, by } = request::body(&headers, read)?;
    let asked = Asked { code, system, tenant, job_id, from, to, skip: None, limit };
    let (filter, limit) = asked.read(MAX_LETTERS)?;
    if filter.is_empty() {
        return Err(bad("say which: at least one of code, system, tenant, job_id, from, to"));
    }
    let why = Discard { reason: request::reason(&reason)?, by: caller.acts_as(&by)? };
    let task = tokio::spawn(async move {
        let _alone = shared.letters.lock().await;
        shared.ops.engine.discard(&filter, limit, &why).await
    });
    let swept = task.await??;
    Ok(Json(json!({ "discarded": swept.done, "looked_at": swept.looked_at, "more": swept.more })))
}

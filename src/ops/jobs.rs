//! `/v1/jobs`: listed, shown, cancelled.
//!
//! The rule it keeps: a request reads a bounded number of the store's rows, on a thread that may block.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::config::is_name;
use crate::engine::decisions::Published;
use crate::engine::operators::{CancelAnswer, JobFilter, JobStatus, JobView};
use crate::job::JobKey;

/// The default and the largest page.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
/// Values in `subject_ref` or `identifier_ref` at most.
const MAX_REFS: usize = 16;
/// Values in `job_ids` at most.
const MAX_STATES: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    state: Option<String>,
    system: Option<String>,
    tenant: Option<String>,
    subject_ref: Option<String>,
    identifier_ref: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// The cursor of the next page, opaque to callers.
fn cursor(key: &JobKey) -> String {
    URL_SAFE_NO_PAD.encode(key.to_bytes())
}

fn read_cursor(text: &str) -> Option<JobKey> {
    JobKey::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?)
}

impl Filter {
    fn read(self) -> Result<(JobFilter, Option<JobKey>, usize), Problem> {
        let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
        let status = match self.state {
            None => None,
            Some(word) => {
                let found = JobStatus::ALL.into_iter().find(|status| status.as_str() == word);
                let words = JobStatus::ALL.map(JobStatus::as_str).join(", ");
                Some(found.ok_or_else(|| bad(format!("state must be one of: {words}")))?)
            }
        };
        if self.tenant.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(bad("tenant is not a valid name".to_owned()));
        }
        let after = match self.after {
            None => None,
            Some(text) => Some(read_cursor(&text).ok_or_else(|| bad("after must be the `next` of a page".to_owned()))?),
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad(format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let is_ref =
            |name: &&str| name.strip_prefix("s-").is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_hexdigit()));
        let refs: Vec<&str> = self.subject_ref.iter().flat_map(|all| all.split(',')).collect();
        if refs.len() > MAX_REFS || !refs.iter().all(is_ref) {
            return Err(bad(format!("subject_ref must be up to {MAX_REFS} values of events, separated by commas")));
        }
        let subject_refs = refs.into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = self.identifier_ref.iter().flat_map(|all| all.split(',')).collect();
        let bytes = |name: &&str| hex::decode(name).ok().and_then(|bytes| bytes.try_into().ok());
        let identifiers: Vec<[u8; 16]> = names.iter().filter_map(bytes).collect();
        if names.len() > MAX_REFS || identifiers.len() < names.len() {
            return Err(bad(format!(
                "identifier_ref must be up to {MAX_REFS} values of 32 hexadecimal digits, separated by commas"
            )));
        }
        Ok((JobFilter { status, system: self.system, tenant: self.tenant, subject_refs, identifiers }, after, limit))
    }
}

/// A page of jobs, in the order of tenant and id.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let (filter, after, limit) = request::query(query)?.read()?;
    let engine = Arc::clone(&shared.ops.engine);
    let page = tokio::task::spawn_blocking(move || engine.jobs(&filter, after.as_ref(), limit)).await??;
    Ok(Json(json!({
        "jobs": page.jobs, "next": page.next.as_ref().map(cursor), "unreadable": page.unreadable,
    })))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<Json<JobView>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let engine = Arc::clone(&shared.ops.engine);
    let job = tokio::task::spawn_blocking(move || engine.job(&key)).await??;
    job.map(Json).ok_or_else(|| Kind::UnknownJob.into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobIds {
    job_ids: Vec<Uuid>,
}

/// The states of many jobs of a tenant; unknown jobs are left out.
pub(super) async fn states(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let JobIds { job_ids } = request::body(&headers, body)?;
    if !is_name(&tenant) || job_ids.len() > MAX_STATES {
        let detail = format!("the request needs a valid tenant, and at most {MAX_STATES} job_ids");
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let engine = Arc::clone(&shared.ops.engine);
    let states = tokio::task::spawn_blocking(move || engine.states(&tenant, &job_ids)).await??;
    Ok(Json(json!({ "jobs": states })))
}

/// Cancels a job, unless something irreversible was begun.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let key = request::key(&tenant, &job_id)?;
    let answer = shared.ops.engine.cancel_for_operator(&key, caller.name()).await?;
    tracing::info!(job = %key, ?answer, "an operator requested the cancellation of a job");
    match answer {
        CancelAnswer::Remembered { known, published } => {
            let everywhere = published == Published::Everywhere;
            Ok((StatusCode::ACCEPTED, Json(json!({ "state": "cancelling", "known": known, "everywhere": everywhere }))))
        }
        CancelAnswer::AlreadyCancelled => {
            Ok((StatusCode::ACCEPTED, Json(json!({ "state": "cancelled", "known": true, "everywhere": true }))))
        }
        CancelAnswer::Ended(outcome) => Err(Problem::new(Kind::JobEnded, format!("it is {outcome}"))),
        CancelAnswer::TooLate => Err(Kind::TooLate.into()),
    }
}

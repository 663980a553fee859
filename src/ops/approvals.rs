//! `/v1/approvals`: what waits for a second operator, what it will cost, and the decision.
//!
//! The rule it keeps: what is decided about is named by what was shown (`preview`, or `as_of` for
//! many), and where operators have tokens of their own, who decides is who the token says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::engine::Engine;
use crate::engine::approvals::{Asked, Decision, UndecidedError};
use crate::job::JobKey;

/// Approvals on a page unless asked otherwise, and at most.
const USUAL: usize = 50;
const MOST: usize = 500;

/// Which of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    tenant: Option<String>,
    requested_by: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// A decision about one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    preview: String,
    by: Option<String>,
}

/// A decision about many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    as_of: String,
    tenant: Option<String>,
    requested_by: Option<String>,
    by: Option<String>,
}

impl From<UndecidedError> for Problem {
    fn from(error: UndecidedError) -> Self {
        match error {
            UndecidedError::Decision(error) => error.into(),
            UndecidedError::Unknown => Kind::UnknownApproval.into(),
            UndecidedError::TooLate => Kind::TooLate.into(),
            UndecidedError::SameOperator(_) => Problem::new(Kind::WrongOperator, error.to_string()),
            UndecidedError::Changed => Kind::PreviewChanged.into(),
            UndecidedError::Decided(_) => Problem::new(Kind::AlreadyDecided, error.to_string()),
        }
    }
}

fn is_meant(key: &JobKey, asked: &Asked, tenant: Option<&str>, requested_by: Option<&str>) -> bool {
    tenant.is_none_or(|tenant| key.tenant == tenant)
        && requested_by.is_none_or(|name| asked.requested_by.iter().any(|one| one == name))
}

fn told(decision: &Decision) -> Value {
    let word = if decision.is_approved { "approved" } else { "rejected" };
    json!({ "decision": word, "by": decision.by, "at": decision.at.to_rfc3339() })
}

fn view(engine: &Engine, key: &JobKey, asked: &Asked) -> Result<Value, Problem> {
    Ok(json!({
        "tenant": key.tenant, "job_id": key.job_id, "preview": asked.preview(), "requested_by": asked.requested_by,
        "asked_at": asked.at.to_rfc3339(), "again": asked.is_again, "decided": asked.decision.as_ref().map(told),
        "targets": engine.losses(key)?,
    }))
}

/// Reads of the store block.
async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Engine) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(move || read(&shared.ops.engine)).await?
}

/// A page of what waits, in the order of tenant and job id.
pub async fn list(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let wanted = request::query(asked)?;
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::new(Kind::BadRequest, format!("limit is 1 to {MOST}")));
    }
    let after = match &wanted.after {
        None => None,
        Some(text) => {
            let (tenant, id) = text.split_once('/').unwrap_or(("", ""));
            Some(request::key(tenant, id)?)
        }
    };
    let page = blocking(shared, move |engine| {
        let all = engine.approvals(after.as_ref())?;
        let (tenant, by) = (wanted.tenant.as_deref(), wanted.requested_by.as_deref());
        let mut meant = all.iter().filter(|(key, asked)| is_meant(key, asked, tenant, by));
        let page: Vec<_> = meant.by_ref().take(limit).collect();
        let next = if meant.next().is_some() { page.last().map(|(key, _)| key.to_string()) } else { None };
        let page: Vec<Value> =
            page.into_iter().map(|(key, asked)| view(engine, key, asked)).collect::<Result<_, _>>()?;
        Ok(json!({ "approvals": page, "next": next }))
    });
    Ok(Json(page.await?))
}

/// One of them.
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let one = blocking(shared, move |engine| {
        let found = engine.approvals(None)?.into_iter().find(|(one, _)| *one == key);
        let (key, asked) = found.ok_or(Kind::UnknownApproval)?;
        view(engine, &key, &asked)
    });
    Ok(Json(one.await?))
}

/// What a system stands to lose, over many previews.
#[derive(Debug, Default)]
struct Sum {
    kind: String,
    counts: BTreeMap<&'static str, u64>,
    preserved: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, target: &Value) {
        let mut count = |name: &'static str, more: u64| *self.counts.entry(name).or_default() += more;
        let preview = &target["preview"];
        let number = |name: &str| preview[name].as_u64().unwrap_or(0);
        count("targets", 1);
        count("ended_before", u64::from(!target["outcome"].is_null()));
        count("found", u64::from(preview["found"] == true));
        count("not_found", u64::from(preview["found"] == false));
        count("not_asked", u64::from(preview["found"].is_null()));
        count("entitlements_with_access", number("entitlements_with_access"));
        count("codes", number("codes"));
        count("codes_active", number("codes_active"));
        let refunds = target["refunds"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |word: &Value| refunds.iter().filter(|one| one["refund_expected"] == *word).count() as u64;
        count("refunds_expected", of(&true.into()));
        count("refunds_unknown", of(&"unknown".into()));
        self.kind = target["kind"].as_str().unwrap_or_default().to_owned();
        let preserved = target["preserved"].as_array().into_iter().flatten();
        self.preserved.extend(preserved.filter_map(Value::as_str).map(str::to_owned));
    }
}

/// What each system stands to lose if all of them are approved.
pub async fn report(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let wanted = request::query(asked)?;
    if wanted.after.is_some() || wanted.limit.is_some() {
        return Err(Problem::new(Kind::BadRequest, "a report is of all that match: give tenant or requested_by"));
    }
    let as_of = shared.ops.engine.clock();
    let report = blocking(shared, move |engine| {
        let (tenant, by) = (wanted.tenant.as_deref(), wanted.requested_by.as_deref());
        let (mut jobs, mut systems) = (0_u64, BTreeMap::<String, Sum>::new());
        for (key, asked) in engine.approvals(None)? {
            // What is asked for in this very millisecond may come after the look: it is left to the next.
            if asked.decision.is_some() || asked.at >= as_of || !is_meant(&key, &asked, tenant, by) {
                continue;
            }
            jobs += 1;
            for target in engine.losses(&key)?.as_array().into_iter().flatten() {
                systems.entry(target["system"].as_str().unwrap_or_default().to_owned()).or_default().add(target);
            }
        }
        let systems = systems.into_iter().map(|(name, sum)| {
            let mut line = json!({ "system": name, "kind": sum.kind, "preserved": sum.preserved });
            for (name, count) in sum.counts {
                line[name] = count.into();
            }
            line
        });
        Ok(json!({ "as_of": as_of.to_rfc3339(), "jobs": jobs, "systems": systems.collect::<Vec<_>>() }))
    });
    Ok(Json(report.await?))
}

/// Decides about one: exactly what is shown may be erased, or nothing, and the job ends as cancelled.
pub async fn decide<const IS_APPROVED: bool>(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, job_id)): Path<(String, String)>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let one: One = request::body(&headers, read)?;
    let by = caller.decides_as(one.by.as_deref())?;
    let decision = shared.ops.engine.decide_approval(&key, &one.preview, IS_APPROVED, &by).await?;
    Ok(Json(told(&decision)))
}

/// Decides about all of a report; what was asked for after it is left.
pub async fn decide_many<const IS_APPROVED: bool>(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let many: Many = request::body(&headers, read)?;
    let by = caller.decides_as(many.by.as_deref())?;
    let as_of = request::time("as_of", Some(many.as_of))?.unwrap_or_default();
    let meant = |key: &JobKey, asked: &Asked| {
        let is_seen = asked.decision.is_none() && asked.at < as_of;
        is_seen && is_meant(key, asked, many.tenant.as_deref(), many.requested_by.as_deref())
    };
    let (done, left) = shared.ops.engine.decide_approvals(meant, IS_APPROVED, &by).await?;
    let word = if IS_APPROVED { "approved" } else { "rejected" };
    Ok(Json(json!({ word: done, "left": left })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_each_system_loses_and_names_what_it_keeps() {
        let mut sum = Sum::default();
        let target = |found: Value| {
            json!({ "system": "books", "kind": "vitalsource", "outcome": null, "preserved": ["orders"],
                "preview": { "found": found, "entitlements_with_access": 2, "codes": 3, "codes_active": 2 },
                "refunds": [{ "refund_expected": true }, { "refund_expected": "unknown" }, { "refund_expected": false }] })
        };
        for found in [json!(true), json!(false), Value::Null] {
            sum.add(&target(found));
        }
        let counts: Vec<_> = sum.counts.values().copied().collect();
        assert_eq!(sum.counts["found"] + sum.counts["not_found"] + sum.counts["not_asked"], 3, "{counts:?}");
        assert_eq!((sum.counts["codes_active"], sum.counts["entitlements_with_access"]), (6, 6));
        assert_eq!((sum.counts["refunds_expected"], sum.counts["refunds_unknown"]), (3, 3));
        assert_eq!(sum.preserved.into_iter().collect::<Vec<_>>(), ["orders"]);
    }
}

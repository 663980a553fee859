//! `/v1/approvals`: previews that wait for a second operator, their losses, and the decision.
//!
//! The rule it keeps: a decision names the findings that the operator saw (`preview`, or `as_of` for many). If
//! operators have their own tokens, the token names the operator who decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Caller;
use super::problem::{Kind, Problem};
use super::request;
use super::shared::Shared;
use crate::engine::Engine;
use crate::engine::approvals::{Asked, Decision, UndecidedError};
use crate::job::JobKey;

/// The default and the largest page.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    tenant: Option<String>,
    requested_by: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// The decision about one preview.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecideOne {
    preview: String,
    by: Option<String>,
}

/// The decision about every preview of a report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecideMany {
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

fn is_match(key: &JobKey, asked: &Asked, tenant: Option<&str>, requested_by: Option<&str>) -> bool {
    tenant.is_none_or(|tenant| key.tenant == tenant)
        && requested_by.is_none_or(|name| asked.requested_by.iter().any(|one| one == name))
}

fn decision_view(decision: &Decision) -> Value {
    let word = if decision.is_approved { "approved" } else { "rejected" };
    json!({ "decision": word, "by": decision.by, "at": decision.at.to_rfc3339() })
}

fn view(engine: &Engine, key: &JobKey, asked: &Asked) -> Result<Value, Problem> {
    Ok(json!({
        "tenant": key.tenant, "job_id": key.job_id, "preview": asked.preview(), "requested_by": asked.requested_by,
        "asked_at": asked.at.to_rfc3339(), "again": asked.is_again, "decided": asked.decision.as_ref().map(decision_view),
        "targets": engine.losses(key)?,
    }))
}

/// Reads the store on a thread that may block.
async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Engine) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(move || read(&shared.ops.engine)).await?
}

/// A page of previews, in the order of tenant and job id.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let filter = request::query(query)?;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::new(Kind::BadRequest, format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let after = match &filter.after {
        None => None,
        Some(text) => {
            let (tenant, id) = text.split_once('/').unwrap_or(("", ""));
            Some(request::key(tenant, id)?)
        }
    };
    let page = blocking(shared, move |engine| {
        let all = engine.approvals(after.as_ref())?;
        let (tenant, by) = (filter.tenant.as_deref(), filter.requested_by.as_deref());
        let mut matching = all.iter().filter(|(key, asked)| is_match(key, asked, tenant, by));
        let page: Vec<_> = matching.by_ref().take(limit).collect();
        let next = if matching.next().is_some() { page.last().map(|(key, _)| key.to_string()) } else { None };
        let page: Vec<Value> =
            page.into_iter().map(|(key, asked)| view(engine, key, asked)).collect::<Result<_, _>>()?;
        Ok(json!({ "approvals": page, "next": next }))
    });
    Ok(Json(page.await?))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path((tenant, job_id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let shown = blocking(shared, move |engine| {
        let found = engine.approvals(None)?.into_iter().find(|(waiting, _)| *waiting == key);
        let (key, asked) = found.ok_or(Kind::UnknownApproval)?;
        view(engine, &key, &asked)
    });
    Ok(Json(shown.await?))
}

/// The losses of one system, summed over many previews.
#[derive(Debug, Default)]
struct Losses {
    kind: String,
    counts: BTreeMap<&'static str, u64>,
    /// A connector's acts: the number of their calls, and the number of targets for which it is not known yet.
    acts: Vec<(String, u64, u64)>,
    preserved: BTreeSet<String>,
}

impl Losses {
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
        // Nothing is called for a target that has ended, or whose person is not there.
        if target["outcome"].is_null() && preview["found"] != false {
            preview["acts"].as_array().into_iter().flatten().for_each(|act| self.add_act(act));
        }
        let preserved = target["preserved"].as_array().into_iter().flatten();
        self.preserved.extend(preserved.filter_map(Value::as_str).map(str::to_owned));
    }

    fn add_act(&mut self, act: &Value) {
        let name = act["act"].as_str().unwrap_or_default();
        let (calls, unknown) = act["count"].as_u64().map_or((0, 1), |calls| (calls, 0));
        match self.acts.iter_mut().find(|(known, ..)| known == name) {
            Some(known) => (known.1, known.2) = (known.1 + calls, known.2 + unknown),
            None => self.acts.push((name.to_owned(), calls, unknown)),
        }
    }

    fn shown_acts(&self) -> Vec<Value> {
        let act =
            |(name, calls, unknown): &(String, u64, u64)| json!({ "act": name, "count": calls, "unknown": unknown });
        self.acts.iter().map(act).collect()
    }
}

/// The losses of each system if every matching preview is approved.
pub(super) async fn report(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let filter = request::query(query)?;
    if filter.after.is_some() || filter.limit.is_some() {
        let detail = "a report covers all matching previews; filter by tenant or requested_by only";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let as_of = shared.ops.engine.clock();
    let report = blocking(shared, move |engine| {
        let (tenant, by) = (filter.tenant.as_deref(), filter.requested_by.as_deref());
        let (mut jobs, mut systems) = (0_u64, BTreeMap::<String, Losses>::new());
        for (key, asked) in engine.approvals(None)? {
            // Another preview of this millisecond may be added after this read, so the next report has them all.
            if asked.decision.is_some() || asked.at >= as_of || !is_match(&key, &asked, tenant, by) {
                continue;
            }
            jobs += 1;
            for target in engine.losses(&key)?.as_array().into_iter().flatten() {
                systems.entry(target["system"].as_str().unwrap_or_default().to_owned()).or_default().add(target);
            }
        }
        let systems = systems.into_iter().map(|(name, losses)| {
            let acts = losses.shown_acts();
            let mut line = json!({ "system": name, "kind": losses.kind, "acts": acts, "preserved": losses.preserved });
            for (name, count) in losses.counts {
                line[name] = count.into();
            }
            line
        });
        Ok(json!({ "as_of": as_of.to_rfc3339(), "jobs": jobs, "systems": systems.collect::<Vec<_>>() }))
    });
    Ok(Json(report.await?))
}

/// Decides one preview. Approved: exactly its findings may be erased. Rejected: nothing is erased, and the job ends
/// as cancelled.
pub(super) async fn decide<const IS_APPROVED: bool>(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, job_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let key = request::key(&tenant, &job_id)?;
    let asked: DecideOne = request::body(&headers, body)?;
    let by = caller.decides_as(asked.by.as_deref())?;
    let decision = shared.ops.engine.decide_approval(&key, &asked.preview, IS_APPROVED, &by).await?;
    Ok(Json(decision_view(&decision)))
}

/// Decides every preview of a report. Later previews stay undecided.
pub(super) async fn decide_many<const IS_APPROVED: bool>(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let many: DecideMany = request::body(&headers, body)?;
    let by = caller.decides_as(many.by.as_deref())?;
    let as_of = request::time("as_of", Some(many.as_of))?.unwrap_or_default();
    let is_decided = |key: &JobKey, asked: &Asked| {
        let is_reported = asked.decision.is_none() && asked.at < as_of;
        is_reported && is_match(key, asked, many.tenant.as_deref(), many.requested_by.as_deref())
    };
    let (done, left) = shared.ops.engine.decide_approvals(is_decided, IS_APPROVED, &by).await?;
    let word = if IS_APPROVED { "approved" } else { "rejected" };
    Ok(Json(json!({ word: done, "left": left })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_the_losses_of_each_system_and_names_the_preserved_data() {
        let mut losses = Losses::default();
        let target = |found: Value| {
            json!({ "system": "books", "kind": "vitalsource", "outcome": null, "preserved": ["orders"],
                "preview": { "found": found, "entitlements_with_access": 2, "codes": 3, "codes_active": 2 },
                "refunds": [{ "refund_expected": true }, { "refund_expected": "unknown" }, { "refund_expected": false }] })
        };
        for found in [json!(true), json!(false), Value::Null] {
            losses.add(&target(found));
        }
        let counts = &losses.counts;
        assert_eq!(counts["found"] + counts["not_found"] + counts["not_asked"], 3, "{counts:?}");
        assert_eq!((counts["codes_active"], counts["entitlements_with_access"]), (6, 6));
        assert_eq!((counts["refunds_expected"], counts["refunds_unknown"]), (3, 3));
        assert_eq!(losses.preserved.into_iter().collect::<Vec<_>>(), ["orders"]);
    }

    #[test]
    fn a_report_adds_the_calls_of_a_connectors_acts_where_there_is_something_to_erase() {
        let mut losses = Losses::default();
        let target = |found: Value, outcome: Value, orders: Value| {
            let acts = json!([{ "act": "orders", "count": orders }, { "act": "account", "count": 1 }]);
            json!({ "system": "shop", "kind": "connector", "outcome": outcome, "preview": { "found": found, "acts": acts } })
        };
        for (found, outcome, orders) in [
            (json!(true), Value::Null, json!(7)),
            (json!(true), Value::Null, json!(2)),
            (Value::Null, Value::Null, Value::Null),
            (json!(false), Value::Null, json!(100)),
            (json!(true), json!("erased"), json!(100)),
        ] {
            losses.add(&target(found, outcome, orders));
        }
        let wanted =
            json!([{ "act": "orders", "count": 9, "unknown": 1 }, { "act": "account", "count": 3, "unknown": 0 }]);
        assert_eq!(Value::from(losses.shown_acts()), wanted);
    }
}

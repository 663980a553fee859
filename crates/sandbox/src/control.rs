//! The control interface under `/_sandbox/`: add people, plan faults, read the ledger.
//!
//! The rule it keeps: a body with an unknown field is refused as a whole.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{FaultPlan, FaultRule};
use super::ledger::{Entry, Summary};
use super::stand_ins::{ImportError, MemberKey, World, each, kind_of, mint_jwt};
use super::{Person, Sandbox};

/// Why a control call was refused.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("the body has the wrong form: {0}")]
    Body(#[from] serde_json::Error),
    #[error("no such system or collection")]
    Unknown,
    #[error("{0}")]
    Import(#[from] ImportError),
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            ControlError::Body(_) => StatusCode::BAD_REQUEST,
            ControlError::Unknown => StatusCode::NOT_FOUND,
            ControlError::Import(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

type Answer<T> = Result<T, ControlError>;

/// All control routes.
pub(super) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/_sandbox/reset", post(reset))
        .route("/_sandbox/people", post(add_people))
        .route("/_sandbox/faults", get(list_faults).put(replace_faults).post(add_faults).delete(clear_faults))
        .route("/_sandbox/faults/misbehave", post(misbehave))
        .route("/_sandbox/ledger", get(read_ledger).delete(clear_ledger))
        .route("/_sandbox/summary", get(read_summary))
        .route("/_sandbox/state", get(read_state))
        .route("/_sandbox/jwt", get(jwt))
        .route("/_sandbox/{system}/settings", put(change_settings))
        .route("/_sandbox/{system}/import", post(import))
        .route("/_sandbox/{system}/manual_deletion", post(delete_by_hand))
        .route("/_sandbox/{system}/otp/{database_id}", get(mailbox))
        .route("/_sandbox/{system}/{collection}", post(seed).put(seed))
}

async fn reset(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.reset();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeopleRange {
    #[serde(default)]
    from: u64,
    count: u64,
}

async fn add_people(State(sandbox): State<Sandbox>, Json(body): Json<Value>) -> Answer<Json<Vec<Person>>> {
    let PeopleRange { from, count } = serde_json::from_value(body)?;
    Ok(Json(sandbox.add_people(from..from.saturating_add(count))))
}

async fn seed(
    State(sandbox): State<Sandbox>,
    Path((system, collection)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    let seed = |world: &mut World| world.register(&system)?.seed(&system, &collection, body);
    sandbox.world(seed).ok_or(ControlError::Unknown)??;
    Ok(StatusCode::NO_CONTENT)
}

async fn change_settings(
    State(sandbox): State<Sandbox>,
    Path(system): Path<String>,
    Json(changes): Json<Value>,
) -> Answer<Json<Value>> {
    let change = |world: &mut World| match world.described(&system) {
        Some(stand_in) => Some(stand_in.change_settings(changes)),
        None => Some(world.register(&system)?.change_settings(&system, changes)),
    };
    Ok(Json(sandbox.world(change).ok_or(ControlError::Unknown)??))
}

/// An error unless the system is a Loyalty program.
fn loyalty(system: &str) -> Answer<&str> {
    if kind_of(system) == "loyalty" { Ok(system) } else { Err(ControlError::Unknown) }
}

#[derive(Deserialize)]
struct ImportQuery {
    #[serde(default)]
    leave_out: usize,
}

async fn import(
    State(sandbox): State<Sandbox>,
    Path(system): Path<String>,
    Query(query): Query<ImportQuery>,
    file: String,
) -> Answer<Response> {
    let name = loyalty(&system)?;
    let now_ms = sandbox.now_ms();
    let result = sandbox.world(|world| world.loyalty(name).import(&file, query.leave_out, now_ms))?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], result).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManualDeletion {
    key: MemberKey,
    value: String,
}

async fn delete_by_hand(
    State(sandbox): State<Sandbox>,
    Path(system): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let name = loyalty(&system)?;
    let ManualDeletion { key, value } = serde_json::from_value(body)?;
    let now_ms = sandbox.now_ms();
    let deleted = sandbox.world(|world| world.loyalty(name).delete_by_hand(key, &value, now_ms));
    Ok(Json(json!({ "deleted": deleted })))
}

async fn mailbox(
    State(sandbox): State<Sandbox>,
    Path((system, database_id)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let name = loyalty(&system)?;
    sandbox.world(|world| {
        let (code, sent) = world.loyalty(name).mailbox(&database_id).ok_or(ControlError::Unknown)?;
        Ok(Json(json!({ "code": code, "sent": sent })))
    })
}

async fn list_faults(State(sandbox): State<Sandbox>) -> Json<Value> {
    let rules = sandbox.world(|world| world.faults.fired());
    Json(rules.iter().map(|(rule, fired)| json!({ "rule": rule, "fired": fired })).collect())
}

async fn replace_faults(State(sandbox): State<Sandbox>, Json(body): Json<Value>) -> Answer<StatusCode> {
    let plan: FaultPlan = serde_json::from_value(body)?;
    sandbox.set_faults(plan);
    Ok(StatusCode::NO_CONTENT)
}

async fn add_faults(State(sandbox): State<Sandbox>, Json(body): Json<Value>) -> Answer<StatusCode> {
    let rules: Vec<FaultRule> = each(body)?;
    sandbox.world(|world| world.faults.add(rules));
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.clear_faults();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Seed {
    #[serde(default)]
    seed: u64,
}

async fn misbehave(State(sandbox): State<Sandbox>, Query(Seed { seed }): Query<Seed>) -> Json<FaultPlan> {
    let plan = FaultPlan::misbehave(seed);
    sandbox.set_faults(plan.clone());
    Json(plan)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn read_ledger(State(sandbox): State<Sandbox>, Query(After { after }): Query<After>) -> Json<Vec<Entry>> {
    Json(sandbox.entries(after))
}

async fn clear_ledger(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.clear_ledger();
    StatusCode::NO_CONTENT
}

async fn read_summary(State(sandbox): State<Sandbox>) -> Json<Summary> {
    Json(sandbox.summary())
}

async fn read_state(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(sandbox.world(|world| world.state()))
}

#[derive(Deserialize)]
struct JwtQuery {
    customer_id: String,
    /// Seconds; negative for an expired token.
    #[serde(default = "default_validity")]
    valid_for: i64,
}

/// The validity of the vendor's tokens, in seconds.
fn default_validity() -> i64 {
    900
}

async fn jwt(State(sandbox): State<Sandbox>, Query(query): Query<JwtQuery>) -> Json<Value> {
    let now = i64::try_from(sandbox.now_ms() / 1000).unwrap_or(i64::MAX);
    Json(json!({ "customer_token": mint_jwt(&query.customer_id, Some(now.saturating_add(query.valid_for))) }))
}

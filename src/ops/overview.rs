//! `/v1/overview`: health, counts, rates and the most urgent jobs in one answer.
//!
//! The rule it keeps: frequent requests cost little. Counts are cached for a while. A queue depth that the broker
//! does not report in time is null.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::health::Health;
use super::problem::Problem;
use super::shared::Shared;
use super::{metrics, systems};
use crate::job::{At, JobKey};

/// A job with the time `name`.
fn job(key: &JobKey, name: &'static str, at: At) -> Value {
    json!({ "tenant": key.tenant, "job_id": key.job_id, name: at.to_rfc3339() })
}

/// The jobs that will be late at the present rate.
pub(super) async fn forecast(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let survey = metrics::survey(&shared).await?;
    let gates = shared.ops.engine.gates();
    let systems = survey.forecast.systems.iter().map(|(name, system)| {
        json!({
            "name": name, "held": gates.get(name).is_some_and(|gate| gate.is_held()), "backlog": system.backlog,
            "targets_per_minute": system.targets_per_minute, "done_at": system.done_at,
            "will_miss": system.will_miss,
        })
    });
    Ok(Json(json!({
        "now": shared.ops.engine.now().to_rfc3339(), "open": survey.open, "at_risk": survey.at_risk,
        "overdue": survey.overdue, "will_miss": survey.forecast.will_miss, "systems": systems.collect::<Vec<_>>(),
    })))
}

pub(super) async fn overview(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let engine = &shared.ops.engine;
    let depth = |queue| metrics::depth(&shared, queue);
    let (survey, queued, letters, unrouted) =
        tokio::join!(metrics::survey(&shared), depth("jobs"), depth("dead-letters"), depth("events.unrouted"));
    let survey = survey?;
    let rates = shared.rates.now();
    Ok(Json(json!({
        "worker": {
            "id": engine.settings.worker_id, "environment": engine.accepts.environment,
            "version": env!("CARGO_PKG_VERSION"), "serving_since": shared.began_at.to_string(),
            "now": engine.now().to_rfc3339(),
        },
        "health": Health::of(&shared),
        "jobs": {
            "open": survey.open, "in_hand": engine.jobs_in_hand(), "queued": queued, "waiting": survey.waiting,
            "dead_letters": letters, "events_unrouted": unrouted,
            "at_risk": survey.at_risk, "overdue": survey.overdue, "will_miss": survey.forecast.will_miss,
        },
        "per_minute": { "finished": rates.finished, "calls": rates.calls },
        "oldest": survey.oldest.as_ref().map(|(at, key)| job(key, "opened_at", *at)),
        "due_first": survey.due_first.iter().map(|(at, key)| job(key, "due_at", *at)).collect::<Vec<_>>(),
        "systems": systems::all(&shared),
    })))
}

//! `/v1/overview`: what an operator looks at first, in one answer.
//!
//! The rule it keeps: it costs little however often it is asked: counts are kept for a while, and
//! what the broker does not tell soon is null.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::health::Health;
use super::problem::Problem;
use super::serve::Shared;
use super::{metrics, systems};
use crate::job::{At, JobKey};

fn job(key: &JobKey, name: &'static str, at: At) -> Value {
    json!({ "tenant": key.tenant, "job_id": key.job_id, name: at.to_rfc3339() })
}

/// Health, counts, rates, what is oldest and what is due.
pub async fn overview(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
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
            "dead_letters": letters, "events_unrouted": unrouted, "overdue": survey.overdue,
        },
        "per_minute": { "finished": rates.finished, "calls": rates.calls },
        "oldest": survey.oldest.as_ref().map(|(at, key)| job(key, "opened_at", *at)),
        "due_first": survey.due_first.iter().map(|(at, key)| job(key, "due_at", *at)).collect::<Vec<_>>(),
        "systems": systems::all(&shared),
    })))
}

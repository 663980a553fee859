//! The parts of a request: path, query, body, operator, reason.
//!
//! The rule it keeps: an unreadable part is a problem that names the expected form.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::problem::{Kind, Problem};
use crate::config::{NAME_FORM, is_name};
use crate::job::{At, JobKey};

const LONGEST_REASON: usize = 500;
const LONGEST_NAME: usize = 100;

/// The job in a path.
pub(super) fn key(tenant: &str, job_id: &str) -> Result<JobKey, Problem> {
    let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
    if !is_name(tenant) {
        return Err(bad(format!("a tenant's name must have the form {NAME_FORM}")));
    }
    let job_id = Uuid::try_parse(job_id).map_err(|_| bad("a job id must be a UUID".to_owned()))?;
    Ok(JobKey { tenant: tenant.to_owned(), job_id })
}

/// The time in a parameter.
pub(super) fn time(name: &str, text: Option<String>) -> Result<Option<At>, Problem> {
    let bad = || Problem::new(Kind::BadRequest, format!("{name} must be a time such as 2026-01-31T00:00:00Z"));
    text.map(|text| text.parse::<Timestamp>().map(At::from).map_err(|_| bad())).transpose()
}

/// An operator's reason: one line, logged and stored.
pub(super) fn reason(text: &str) -> Result<String, Problem> {
    line("reason", text, LONGEST_REASON)
}

pub(super) fn name_of_operator(text: &str) -> Result<String, Problem> {
    line("by", text, LONGEST_NAME)
}

fn line(name: &str, text: &str, longest: usize) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
        let problem = format!("{name} must be one line of 1 to {longest} characters");
        return Err(Problem::new(Kind::BadRequest, problem));
    }
    Ok(text.to_owned())
}

pub(super) fn query<T>(read: Result<axum::extract::Query<T>, QueryRejection>) -> Result<T, Problem> {
    match read {
        Ok(axum::extract::Query(query)) => Ok(query),
        Err(rejection) => Err(Problem::new(Kind::BadRequest, rejection.body_text())),
    }
}

/// A body in JSON. Other content types are refused: another web page can send only those without a CORS preflight.
pub(super) fn body<T: DeserializeOwned>(
    headers: &HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let bytes = bytes(read)?;
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if media.split(';').next().is_none_or(|media| !media.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "expected application/json"));
    }
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
}

pub(super) fn bytes(read: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge.into(),
        _ => Problem::new(Kind::BadRequest, "the body could not be read"),
    })
}

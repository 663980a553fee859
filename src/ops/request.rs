//! What a request says: path, query, body, who acts and why.
//!
//! The rule it keeps: what cannot be read is a problem that says what was expected.

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

/// The job that a path names.
pub fn key(tenant: &str, job_id: &str) -> Result<JobKey, Problem> {
    let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
    if !is_name(tenant) {
        return Err(bad(format!("a tenant's name has the form {NAME_FORM}")));
    }
    let job_id = Uuid::try_parse(job_id).map_err(|_| bad("a job id is a UUID".to_owned()))?;
    Ok(JobKey { tenant: tenant.to_owned(), job_id })
}

/// A moment that a parameter names.
pub fn time(name: &str, text: Option<String>) -> Result<Option<At>, Problem> {
    let bad = || Problem::new(Kind::BadRequest, format!("{name} is no time such as 2026-01-31T00:00:00Z"));
    text.map(|text| text.parse::<Timestamp>().map(At::from).map_err(|_| bad())).transpose()
}

/// Why an operator does something: one line, which is logged and kept.
pub fn reason(text: &str) -> Result<String, Problem> {
    line("reason", text, LONGEST_REASON)
}

/// Who does it.
pub fn name_of_operator(text: &str) -> Result<String, Problem> {
    line("by", text, LONGEST_NAME)
}

fn line(name: &str, text: &str, longest: usize) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
        let problem = format!("{name} is one line of 1 to {longest} characters");
        return Err(Problem::new(Kind::BadRequest, problem));
    }
    Ok(text.to_owned())
}

/// The parameters of a query, or a problem.
pub fn query<T>(read: Result<axum::extract::Query<T>, QueryRejection>) -> Result<T, Problem> {
    match read {
        Ok(axum::extract::Query(query)) => Ok(query),
        Err(rejection) => Err(Problem::new(Kind::BadRequest, rejection.body_text())),
    }
}

/// A body in JSON. Another content type is refused: a web page can send only plain ones unasked.
pub fn body<T: DeserializeOwned>(headers: &HeaderMap, read: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let bytes = bytes(read)?;
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if media.split(';').next().is_none_or(|media| !media.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "expected application/json"));
    }
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
}

/// A body, or why it was not read.
pub fn bytes(read: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge.into(),
        _ => Problem::new(Kind::BadRequest, "the body could not be read"),
    })
}

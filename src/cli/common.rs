//! Arguments of several commands: the worker's address, the job, the form of results.
//!
//! The rule it keeps: a text that is not a valid name, job or time is refused before any request.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::config::{NAME_FORM, is_name};

/// The form of printed results.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Output {
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// The worker's address and token.
#[derive(Debug, Args)]
pub struct OpsClient {
    /// The worker's ops API.
    #[arg(long, value_name = "URL", env = "ERASURE_OPS_URL", default_value = "http://127.0.0.1:8460")]
    pub url: url::Url,
    /// A file with the bearer token [default: $ERASURE_OPS_TOKEN]; a loopback address may need none
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// A job as typed: `TENANT/ID` or `ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRef {
    /// The tenant, if it was typed.
    pub tenant: Option<String>,
    /// The job id.
    pub job_id: Uuid,
}

impl FromStr for JobRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tenant, id) = match text.split_once('/') {
            Some((tenant, id)) => (Some(name(tenant)?), id),
            None => (None, text),
        };
        let job_id = Uuid::parse_str(id).map_err(|_| "expected ID or TENANT/ID, where ID is a UUID".to_owned())?;
        Ok(JobRef { tenant, job_id })
    }
}

/// One job.
#[derive(Debug, Args)]
pub struct JobSelector {
    /// The job: ID, or TENANT/ID.
    #[arg(value_name = "JOB")]
    pub job: JobRef,
    /// The tenant, if JOB does not name it [default: default]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
}

impl JobSelector {
    /// Tenant and job id.
    ///
    /// # Errors
    /// A usage error: two different tenants were given.
    pub fn key(&self) -> Result<(&str, Uuid), String> {
        match (&self.job.tenant, &self.tenant) {
            (Some(typed), Some(flag)) if typed != flag => {
                Err(format!("the job names tenant {typed}, --tenant names {flag}; give one of them"))
            }
            (Some(tenant), _) | (None, Some(tenant)) => Ok((tenant, self.job.job_id)),
            (None, None) => Ok(("default", self.job.job_id)),
        }
    }
}

/// A command about one job.
#[derive(Debug, Args)]
pub struct OneJob {
    /// The job.
    #[command(flatten)]
    pub job: JobSelector,
    /// The worker.
    #[command(flatten)]
    pub ask: Ask,
}

/// A request to a running worker, and the form of its answer.
#[derive(Debug, Args)]
pub struct Ask {
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

pub(super) fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000)
}

/// Reads the name of a tenant or system.
///
/// # Errors
/// It is not a valid name.
pub fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("expected a name of the form {NAME_FORM}")) }
}

pub(super) fn age(text: &str) -> Result<Duration, String> {
    let expected = || "expected an age such as 90s, 15m, 12h or 7d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number = number.parse::<u32>().map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Reads a time, or a date as its midnight in UTC.
///
/// # Errors
/// It is neither.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    let midnight = |date: Date| date.to_datetime(Time::midnight()).to_zoned(TimeZone::UTC).ok();
    let date = || text.parse::<Date>().ok().and_then(midnight).map(|zoned| zoned.timestamp());
    let expected = "expected a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31";
    text.parse::<Timestamp>().ok().or_else(date).ok_or_else(|| expected.to_owned())
}

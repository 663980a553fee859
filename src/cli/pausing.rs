//! `jobs pause`, `jobs resume`, `jobs paused`: a system or a tenant made to wait, by a running worker.
//!
//! The rule it keeps: who paused, and why, is always said.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::client::{connect, field, list, table, tell};
use super::common::Output;
use super::common::{AskOnly, OpsClient, name};
use crate::config::Surroundings;
use crate::ops::client::Body;

/// Said where the broker did not take a decision in time.
pub const UNTOLD: &str = "the broker has not taken it yet: other workers learn of it once it has";

/// A system or a tenant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PauseSubject {
    /// This system: it is not called.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub system: Option<String>,
    /// This tenant: nothing is called for its jobs.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
}

/// `jobs pause`
#[derive(Debug, Args)]
pub struct PauseJobs {
    /// Whose.
    #[command(flatten)]
    pub subject: PauseSubject,
    /// Why, without personal data; logged and kept.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decided; logged and kept.
    #[arg(long, value_name = "WHO")]
    pub by: String,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `jobs resume`
#[derive(Debug, Args)]
pub struct ResumeJobs {
    /// Whose.
    #[command(flatten)]
    pub subject: PauseSubject,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

impl PauseSubject {
    /// `systems` or `tenants`, and the name.
    fn path(&self) -> (&'static str, &str) {
        match (&self.system, &self.tenant) {
            (Some(system), _) => ("systems", system),
            (None, tenant) => ("tenants", tenant.as_deref().unwrap_or_default()),
        }
    }
}

/// `jobs pause`
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn pause(
    args: &PauseJobs,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let (what, name) = args.subject.path();
    let ask = async {
        let body = Body::Json(json!({ "reason": args.reason, "by": args.by }));
        connect(&args.ops, surroundings)?.post(&["v1", what, name, "pause"], body).await
    };
    tell(ask.await, args.output, out, err, |answer, out, _| {
        let everywhere = answer.get("paused").and_then(|paused| paused.get("everywhere"));
        match everywhere.and_then(Value::as_bool) {
            Some(false) => writeln!(out, "paused at this worker; {UNTOLD}"),
            _ => writeln!(out, "paused, at every worker"),
        }
    })
}

/// `jobs resume`
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn resume(
    args: &ResumeJobs,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let (what, name) = args.subject.path();
    let ask = async { connect(&args.ops, surroundings)?.post(&["v1", what, name, "resume"], Body::Empty).await };
    let done = "resumed, at every worker; parked jobs come back within a quarter of an hour";
    tell(ask.await, args.output, out, err, |_, out, _| writeln!(out, "{done}"))
}

/// `jobs paused`
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn paused(
    args: &AskOnly,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async { connect(&args.ops, surroundings)?.get(&["v1", "paused"], &[]).await };
    tell(ask.await, args.output, out, err, |answer, out, _| {
        let rows: Vec<Vec<String>> = list(answer, "paused")
            .iter()
            .map(|one| ["system", "tenant", "at", "by", "reason"].map(|name| field(one, name)).to_vec())
            .collect();
        table(out, &["SYSTEM", "TENANT", "AT", "BY", "REASON"], &rows)
    })
}

//! `submit-csv --status`: how far each member of a file is, asked of the running worker.
//!
//! The rule it keeps: a member counts as erased only where the worker says so of its ended job.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::results::{self, Outcome, Rewritten};
use crate::cli::Exit;
use crate::cli::args::SubmitCsv;
use crate::cli::client::{connect, field, list, sorry};
use crate::config::Surroundings;
use crate::ops::client::{Body, ClientError, OpsApi};

/// Jobs asked for at once.
const TOGETHER: usize = 1_000;

/// Writes the result file anew with where each member stands, and counts them.
///
/// # Errors
/// Where the result file cannot be read or written.
pub async fn status(
    args: &SubmitCsv,
    surroundings: &Surroundings,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<Exit> {
    let path = args.result.clone().unwrap_or_else(|| results::path_for(&args.file));
    let api = match connect(&args.ops, surroundings) {
        Ok(api) => api,
        Err(error) => return Ok(sorry(&error, err)?),
    };
    // Read into parts first: asking is async, reading a file is not.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut rewritten = Rewritten::begin(&path).with_context(|| path.display().to_string())?;
    let (sender, mut parts) = tokio::sync::mpsc::channel::<Vec<Outcome>>(2);
    let file = path.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut part = Vec::with_capacity(TOGETHER);
        let sent = |part| sender.blocking_send(part).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        results::read(&file, |outcome| {
            part.push(outcome);
            if part.len() < TOGETHER {
                return Ok(());
            }
            sent(std::mem::replace(&mut part, Vec::with_capacity(TOGETHER)))
        })?;
        sent(part)
    });
    while let Some(mut part) = parts.recv().await {
        if let Err(error) = look_up(&api, &args.tenant, &mut part).await {
            return Ok(sorry(&error, err)?);
        }
        for outcome in &part {
            rewritten.add(outcome)?;
            *counts.entry(outcome.state.clone()).or_default() += 1;
        }
    }
    reader.await?.with_context(|| path.display().to_string())?;
    rewritten.finish()?;
    if args.output.json {
        writeln!(out, "{:#}", json!({ "rows": counts, "result": path.display().to_string() }))?;
    } else {
        let told: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(out, "{}\n{}", told.join(", "), path.display())?;
    }
    Ok(if counts.contains_key("failed") {
        Exit::Failed
    } else if counts.contains_key("needs_input") {
        Exit::Awaiting
    } else {
        Exit::Done
    })
}

async fn look_up(api: &OpsApi, tenant: &str, part: &mut [Outcome]) -> Result<(), ClientError> {
    let ids: Vec<Value> = part.iter().filter_map(|outcome| outcome.job_id).map(|id| id.to_string().into()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let answer = api.post(&["v1", "jobs", tenant, "states"], Body::Json(json!({ "job_ids": ids }))).await?;
    let told: HashMap<String, &Value> = list(&answer, "jobs").iter().map(|job| (field(job, "job_id"), job)).collect();
    for outcome in part {
        let Some(id) = outcome.job_id else { continue };
        // One that the worker does not know is still in the queue.
        let Some(job) = told.get(&id.to_string()) else { continue };
        let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ended = text("target_outcome");
        let state = text("state");
        outcome.state = match state.as_str() {
            "completed" if !ended.is_empty() => ended,
            _ => state,
        };
        outcome.code = text("code");
    }
    Ok(())
}

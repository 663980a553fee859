//! `systems check`: one harmless read for each system. `systems list` and `release`: requests to a running worker.
//!
//! The rule it keeps: no destructive call is made, and no reply's text is in the result.

use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::common::{Ask, Output, name};
use super::print::{field, list, plain, table};
use super::{Context, Exit};
use crate::app;
use crate::ops::client::{Body, ClientError};

/// `systems`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make one harmless read for each system: address, credential, region. Nothing is erased.
    #[command(after_help = "Example:\n  erasure-worker systems check --json")]
    Check(Check),
    /// List each system's state at the running worker.
    #[command(after_help = "Example:\n  erasure-worker systems list")]
    List(Ask),
    /// End a hold at once, after its cause is corrected.
    #[command(after_help = "Example:\n  erasure-worker systems release cleeng")]
    Release(Release),
}

/// `systems check`
#[derive(Debug, Args)]
pub struct Check {
    /// Only these systems.
    #[arg(value_name = "NAME")]
    systems: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// `systems release`
#[derive(Debug, Args)]
pub struct Release {
    /// The system.
    #[arg(value_name = "NAME", value_parser = name)]
    system: String,
    #[command(flatten)]
    ask: Ask,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        match self {
            Command::Check(options) => options.run(ctx).await,
            Command::List(ask) => {
                let answer = ctx.get(&ask.ops, &["v1", "systems"], &[]).await;
                show(answer, &ask, ctx)
            }
            Command::Release(Release { system, ask }) => {
                let answer = ctx.post(&ask.ops, &["v1", "systems", &system, "release"], Body::Empty).await;
                show(answer.map(|system| json!({ "systems": [system] })), &ask, ctx)
            }
        }
    }
}

impl Check {
    /// Probes the named systems, or all.
    async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let config = ctx.load()?;
        if let Some(unknown) = self.systems.iter().find(|name| !config.systems.contains_key(*name)) {
            let known: Vec<_> = config.systems.keys().map(String::as_str).collect();
            tracing::error!("{unknown} is not a configured system; configured are {}", known.join(", "));
            return Ok(Exit::Usage);
        }
        let keyring = Arc::new(app::keyring(&config)?);
        let clients = app::probes(&config, &keyring)?;
        let mut rows = Vec::new();
        let mut exit = Exit::Done;
        let is_asked = |name: &String| self.systems.is_empty() || self.systems.contains(name);
        for (name, client) in clients.iter().filter(|(name, _)| is_asked(name)) {
            let result = match client.probe().await {
                Ok(()) => client.survey().await,
                Err(failure) => Err(failure),
            };
            if result.as_ref().map_or(true, |found| !found.is_empty()) {
                exit = Exit::Failed;
            }
            rows.push((name, client.kind(), result));
        }
        if self.output.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|(name, kind, result)| {
                    let problem = match result {
                        Ok(found) if found.is_empty() => None,
                        Ok(found) => Some(found.join("\n")),
                        Err(failure) => Some(failure.to_string()),
                    };
                    json!({ "system": name, "kind": kind.as_str(), "ok": problem.is_none(), "problem": problem })
                })
                .collect();
            writeln!(ctx.out, "{:#}", json!(rows))?;
        } else {
            for (name, kind, result) in rows {
                let verdicts = match result {
                    Ok(found) if found.is_empty() => vec!["ok".to_owned()],
                    Ok(found) => found,
                    Err(failure) => vec![failure.to_string()],
                };
                for verdict in verdicts {
                    writeln!(ctx.out, "{name:<20} {:<14} {}", kind.as_str(), plain(&verdict))?;
                }
            }
        }
        Ok(exit)
    }
}

/// Prints a running worker's answer about systems.
fn show(answer: Result<Value, ClientError>, ask: &Ask, ctx: &mut Context<'_>) -> Result<Exit> {
    ctx.print(answer, ask.output, |answer, ctx| {
        let names = ["calls_per_minute", "jobs_in_hand", "jobs_in_line"];
        let row = |system: &Value| {
            let first = [field(system, "name"), field(system, "kind"), state(system)].into_iter();
            first.chain(names.map(|name| field(system, name))).collect()
        };
        let rows: Vec<Vec<String>> = list(answer, "systems").iter().map(row).collect();
        table(ctx.out, &["SYSTEM", "KIND", "STATE", "CALLS/MIN", "IN HAND", "IN LINE"], &rows)
    })
}

fn state(system: &Value) -> String {
    let value = |name: &str| system.get(name).filter(|value| !value.is_null());
    if let Some(hold) = value("hold") {
        return format!("held: {}", field(hold, "detail"));
    }
    if let Some(paused) = value("paused") {
        return format!("paused by {}: {}", field(paused, "by"), field(paused, "reason"));
    }
    if value("breaker_open") == Some(&Value::Bool(true)) { "failing".to_owned() } else { "working".to_owned() }
}

//! `systems check`: one harmless read a system. `systems list` and `release`: a running worker asked.
//!
//! The rule it keeps: never a destructive call, and no reply's text in the result.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::Exit;
use super::args::SystemsCommand;
use super::client::{connect, field, list, table, tell};
use crate::app;
use crate::config::{Config, Surroundings};
use crate::ops::client::{Body, ClientError};

/// Probes the systems named, or all.
pub async fn check(names: &[String], as_json: bool, config: &Config, out: &mut (dyn Write + Send)) -> Result<Exit> {
    if let Some(unknown) = names.iter().find(|name| !config.systems.contains_key(*name)) {
        let known: Vec<_> = config.systems.keys().map(String::as_str).collect();
        tracing::error!("{unknown} is no configured system; configured are {}", known.join(", "));
        return Ok(Exit::Usage);
    }
    let keyring = Arc::new(app::keyring(config)?);
    let clients = app::probes(config, &keyring)?;
    let mut rows = Vec::new();
    let mut exit = Exit::Done;
    for (name, client) in clients.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let result = client.probe().await;
        if result.is_err() {
            exit = Exit::Failed;
        }
        rows.push((name, client.kind(), result));
    }
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, kind, result)| {
                json!({ "system": name, "kind": kind.as_str(), "ok": result.is_ok(), "problem": result.as_ref().err().map(ToString::to_string) })
            })
            .collect();
        writeln!(out, "{:#}", json!(rows))?;
    } else {
        for (name, kind, result) in rows {
            let verdict = result.map_or_else(|failure| failure.to_string(), |()| "ok".to_owned());
            writeln!(out, "{name:<20} {:<14} {verdict}", kind.as_str())?;
        }
    }
    Ok(exit)
}

/// Carries out the `systems` commands that ask a running worker.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn ask(
    command: &SystemsCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let (output, asked) = match command {
        SystemsCommand::List(args) => {
            let ask = async { connect(&args.ops, surroundings)?.get(&["v1", "systems"], &[]).await };
            (args.output, ask.await)
        }
        SystemsCommand::Release { system, ops, output } => {
            let ask = async {
                let answer =
                    connect(ops, surroundings)?.post(&["v1", "systems", system, "release"], Body::Empty).await?;
                Ok::<_, ClientError>(json!({ "systems": [answer] }))
            };
            (*output, ask.await)
        }
        SystemsCommand::Check { .. } => return Ok(Exit::Usage),
    };
    tell(asked, output, out, err, |answer, out, _| {
        let rows: Vec<Vec<String>> = list(answer, "systems")
            .iter()
            .map(|system| {
                let of = |name| field(system, name);
                vec![
                    of("name"),
                    of("kind"),
                    state(system),
                    of("calls_per_minute"),
                    of("jobs_in_hand"),
                    of("jobs_in_line"),
                ]
            })
            .collect();
        table(out, &["SYSTEM", "KIND", "STATE", "CALLS/MIN", "IN HAND", "IN LINE"], &rows)
    })
}

fn state(system: &Value) -> String {
    let told = |name: &str| system.get(name).filter(|value| !value.is_null());
    if let Some(hold) = told("hold") {
        return format!("held: {}", field(hold, "detail"));
    }
    if let Some(paused) = told("paused") {
        return format!("paused by {}: {}", field(paused, "by"), field(paused, "reason"));
    }
    if told("breaker_open") == Some(&Value::Bool(true)) { "failing".to_owned() } else { "working".to_owned() }
}

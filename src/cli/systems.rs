//! `systems check`: one harmless read a system.
//!
//! The rule it keeps: never a destructive call, and no reply's text in the result.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::Exit;
use crate::app;
use crate::config::Config;

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

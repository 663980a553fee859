//! What the commands that ask a running worker have in common: its address, its token, tables.
//!
//! The rule it keeps: what the worker says is printed without control characters, so that no text
//! of somebody else's can move the terminal's cursor.

use std::io::{self, Write};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::Exit;
use super::common::{OpsClient, Output};
use crate::config::Surroundings;
use crate::ops::client::{ClientError, OpsApi};

/// The variable that holds the token where no file is given.
pub const TOKEN_VARIABLE: &str = "ERASURE_OPS_TOKEN";

/// A client for the worker that the arguments name.
///
/// # Errors
/// Where the address or the token's file cannot be used.
pub fn connect(args: &OpsClient, surroundings: &Surroundings) -> Result<OpsApi, ClientError> {
    let token = match &args.token_file {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|error| {
                ClientError::Setting(format!("--token-file {}: cannot be read: {}", path.display(), error.kind()))
            })?;
            Some(text)
        }
        None => surroundings.variables.get(TOKEN_VARIABLE).cloned(),
    };
    let token = token.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    OpsApi::new(args.url.clone(), token.map(SecretString::from))
}

/// Says what went wrong. Arguments that the worker does not take are a usage error.
///
/// # Errors
/// Where `err` can't be written.
pub fn sorry(error: &ClientError, err: &mut dyn Write) -> io::Result<Exit> {
    writeln!(err, "{}", plain(&error.to_string()))?;
    Ok(match error {
        ClientError::Setting(_) | ClientError::Refused { status: 400 | 401, .. } => Exit::Usage,
        ClientError::Unreachable { .. } | ClientError::Refused { .. } | ClientError::Stranger { .. } => Exit::Failed,
    })
}

/// Prints what the worker answered: as it is for programs, for people as `show` does; or says what
/// went wrong.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub(super) fn tell(
    answer: Result<Value, ClientError>,
    output: Output,
    out: &mut dyn Write,
    err: &mut dyn Write,
    show: impl FnOnce(&Value, &mut dyn Write, &mut dyn Write) -> io::Result<()>,
) -> io::Result<Exit> {
    judge(answer, output, out, err, show, |_, _| Ok(Exit::Done))
}

/// As [`tell`], where the answer itself may say that something is wrong: `end` says so, and how to exit.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub(super) fn judge(
    answer: Result<Value, ClientError>,
    output: Output,
    out: &mut dyn Write,
    err: &mut dyn Write,
    show: impl FnOnce(&Value, &mut dyn Write, &mut dyn Write) -> io::Result<()>,
    end: impl FnOnce(&Value, &mut dyn Write) -> io::Result<Exit>,
) -> io::Result<Exit> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return sorry(&error, err),
    };
    if output.json {
        writeln!(out, "{answer:#}")?;
    } else {
        show(&answer, out, err)?;
    }
    end(&answer, err)
}

/// A count, nothing being none.
pub(super) fn count(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A value as a cell: text as it is, a list with commas, nothing as a dash.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        // A rate: more digits say nothing.
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or_default()),
        other => plain(&other.to_string()),
    }
}

/// The value of a field, as a cell.
pub(super) fn field(of: &Value, name: &str) -> String {
    cell(of.get(name).unwrap_or(&Value::Null))
}

/// The lines of a list.
pub(super) fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `tenant/job`.
pub(super) fn job(of: &Value) -> String {
    format!("{}/{}", field(of, "tenant"), field(of, "job_id"))
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns as wide as their longest cell.
pub(super) fn table(out: &mut dyn Write, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(head.len())
        })
        .collect();
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// The most jobs that the worker gives at once.
const PAGE: usize = 500;

/// Asks page by page, as a page of a filtered list may hold few or none.
pub(super) async fn pages(
    api: &OpsApi,
    filter: &[(&str, Option<String>)],
    mut after: Option<String>,
    limit: usize,
) -> Result<Value, ClientError> {
    let (mut jobs, mut unreadable) = (Vec::new(), 0);
    loop {
        let page = [("after", after), ("limit", Some((limit - jobs.len()).min(PAGE).to_string()))];
        let query: Vec<_> = filter.iter().cloned().chain(page).collect();
        let answer = api.get(&["v1", "jobs"], &query).await?;
        jobs.extend_from_slice(list(&answer, "jobs"));
        unreadable += count(&answer, "unreadable");
        after = answer.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() || jobs.len() >= limit {
            return Ok(json!({ "jobs": jobs, "next": after, "unreadable": unreadable }));
        }
    }
}

//! `jobs list`, `jobs show`, `jobs cancel`: a running worker asked about its jobs.
//!
//! The rule it keeps: `--json` prints what the worker said, unchanged.

use std::io::{self, Write};

use serde_json::Value;

use super::Exit;
use super::client::{cell, connect, count, field, job, judge, list, pages, table, tell};
use super::common::{AskOnly, OneJob};
use super::ops_args::{JobsCommand, JobsList};
use super::pausing;
use crate::config::Surroundings;
use crate::ops::client::{Body, ClientError};

/// Entries of the timeline printed for people.
const LATEST: usize = 20;

/// Carries out a `jobs` command.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn jobs(
    command: &JobsCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        JobsCommand::List(args) => list_jobs(args, surroundings, out, err).await,
        JobsCommand::Show(args) => show(args, surroundings, out, err).await,
        JobsCommand::Cancel(args) => cancel(args, surroundings, out, err).await,
        JobsCommand::Pause(args) => pausing::pause(args, surroundings, out, err).await,
        JobsCommand::Resume(args) => pausing::resume(args, surroundings, out, err).await,
        JobsCommand::Paused(args) => pausing::paused(args, surroundings, out, err).await,
        // It needs the configuration's master key: see `find`.
        JobsCommand::Find(_) => Ok(Exit::Usage),
        JobsCommand::Forecast(args) => forecast(args, surroundings, out, err).await,
    }
}

async fn forecast(
    args: &AskOnly,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let answer = async { connect(&args.ops, surroundings)?.get(&["v1", "forecast"], &[]).await }.await;
    let show = |answer: &Value, out: &mut dyn Write, _: &mut dyn Write| {
        let (will_miss, overdue) = (count(answer, "will_miss"), count(answer, "overdue"));
        writeln!(out, "{will_miss} jobs will miss their due time; {overdue} have missed it already")?;
        let names = ["name", "backlog", "targets_per_minute", "done_at", "will_miss"];
        let row = |system: &Value| names.map(|name| field(system, name)).to_vec();
        let rows: Vec<Vec<String>> = list(answer, "systems").iter().map(row).collect();
        table(out, &["SYSTEM", "BACKLOG", "A MINUTE", "DONE", "WILL MISS"], &rows)
    };
    judge(answer, args.output, out, err, show, |answer, _| {
        let late = count(answer, "will_miss") + count(answer, "overdue");
        Ok(if late > 0 { Exit::Failed } else { Exit::Done })
    })
}

async fn list_jobs(
    args: &JobsList,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let filter =
        [("state", args.state.clone()), ("system", args.system.clone()), ("tenant", args.tenant.clone())].to_vec();
    let limit = args.limit as usize;
    let read = async { pages(&connect(&args.ops, surroundings)?, &filter, args.after.clone(), limit).await };
    tell(read.await, args.output, out, err, |answer, out, err| {
        let rows: Vec<Vec<String>> = list(answer, "jobs")
            .iter()
            .map(|line| {
                let waiting = line.get("waiting").filter(|waiting| !waiting.is_null());
                let since_or_until = match waiting {
                    Some(waiting) => format!("{} until {}", field(waiting, "reason"), field(waiting, "until")),
                    None => field(line, "ended_at"),
                };
                let of = |name| field(line, name);
                vec![job(line), of("state"), of("run"), of("systems"), of("due_at"), since_or_until]
            })
            .collect();
        table(out, &["JOB", "STATE", "RUN", "SYSTEMS", "DUE", "WAITS OR ENDED"], &rows)?;
        if let Some(next) = answer.get("next").filter(|next| !next.is_null()) {
            writeln!(err, "there may be more: --after {}", cell(next))?;
        }
        if let unreadable @ 1.. = count(answer, "unreadable") {
            writeln!(err, "{unreadable} record(s) cannot be decoded and are left out")?;
        }
        Ok(())
    })
}

/// Asks about one job: below `/v1/<what>/<tenant>/<id>`.
pub(super) async fn ask_one(
    args: &OneJob,
    surroundings: &Surroundings,
    what: &str,
    action: Option<&str>,
) -> Result<Value, ClientError> {
    let (tenant, id) = args.job.key().map_err(ClientError::Setting)?;
    let id = id.to_string();
    let api = connect(&args.ops, surroundings)?;
    match action {
        None => api.get(&["v1", what, tenant, &id], &[]).await,
        Some(action) => api.post(&["v1", what, tenant, &id, action], Body::Empty).await,
    }
}

async fn show(
    args: &OneJob,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    tell(ask_one(args, surroundings, "jobs", None).await, args.output, out, err, |answer, out, _| describe(answer, out))
}

/// One job, for people.
fn describe(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}  {}  run {}", job(answer), field(answer, "state"), field(answer, "run"))?;
    let named = ["regulation", "requested_at", "due_at", "opened_at", "ended_at", "next_at", "cancel_requested"];
    for name in named.into_iter().filter(|name| answer.get(name).is_some_and(|value| !value.is_null())) {
        writeln!(out, "  {name}: {}", field(answer, name))?;
    }
    if let Some(waiting) = answer.get("waiting").filter(|waiting| !waiting.is_null()) {
        writeln!(out, "  waits: {} until {}", field(waiting, "reason"), field(waiting, "until"))?;
        let told = ["since", "system", "step", "then", "gives_up_at", "gives_up_as"];
        for name in told.into_iter().filter(|name| waiting.get(name).is_some_and(|value| !value.is_null())) {
            writeln!(out, "    {name}: {}", field(waiting, name))?;
        }
    }
    for input in list(answer, "inputs") {
        let (kind, at) = (field(input, "kind"), field(input, "asked_at"));
        writeln!(out, "  asked for: {kind} (target {}) at {at}", field(input, "target"))?;
    }
    if let Some(error) = answer.get("last_error").filter(|error| !error.is_null()) {
        let (code, sentence) = (field(error, "code"), field(error, "sentence"));
        writeln!(out, "  last error: {code} {sentence} (step {}, at {})", field(error, "step"), field(error, "at"))?;
        writeln!(out, "  what to do: {}", field(error, "runbook"))?;
    }
    if let Some(note) = answer.get("discarded").filter(|note| !note.is_null()) {
        let (by, reason) = (field(note, "by"), field(note, "reason"));
        writeln!(out, "  discarded at {} by {by}: {reason}", field(note, "at"))?;
    }
    let mut steps = Vec::new();
    for target in list(answer, "targets") {
        let name = format!("{} {}", field(target, "target"), field(target, "system"));
        steps.push(vec![name, String::new(), field(target, "outcome"), String::new(), String::new()]);
        for step in list(target, "steps") {
            let of = |name| field(step, name);
            steps.push(vec![String::new(), of("step"), of("outcome"), of("count"), of("at")]);
        }
    }
    writeln!(out)?;
    table(out, &["TARGET", "STEP", "OUTCOME", "COUNT", "AT"], &steps)?;
    timeline(answer, out)
}

fn timeline(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    let entries = list(answer, "timeline");
    if entries.is_empty() {
        return Ok(());
    }
    let earlier = entries.len().saturating_sub(LATEST);
    let left_out = earlier as u64 + answer.get("timeline_left_out").and_then(Value::as_u64).unwrap_or(0);
    let rows: Vec<Vec<String>> = entries[earlier..]
        .iter()
        .map(|entry| {
            let told = ["kind", "reason", "answer", "input", "outcome", "done"].into_iter().filter_map(|name| {
                let value = entry.get(name).filter(|value| !value.is_null())?;
                Some(format!("{name} {}", cell(value)))
            });
            let of = |name| field(entry, name);
            vec![of("at"), of("target"), of("what"), of("step"), of("item"), told.collect::<Vec<_>>().join(", ")]
        })
        .collect();
    writeln!(out)?;
    table(out, &["AT", "TARGET", "WHAT", "STEP", "ITEM", "DETAIL"], &rows)?;
    if left_out > 0 {
        writeln!(out, "({left_out} earlier entries; --json shows the latest 500)")?;
    }
    Ok(())
}

async fn cancel(
    args: &OneJob,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let answer = ask_one(args, surroundings, "jobs", Some("cancel")).await;
    tell(answer, args.output, out, err, |answer, out, _| {
        if answer.get("known").and_then(Value::as_bool) == Some(false) {
            writeln!(out, "remembered: this worker does not know the job yet; it is cancelled when it comes")
        } else {
            writeln!(out, "{}", field(answer, "state"))
        }?;
        match answer.get("everywhere").and_then(Value::as_bool) {
            Some(false) => writeln!(out, "{}", pausing::UNTOLD),
            _ => Ok(()),
        }
    })
}

//! `jobs list`, `show`, `forecast`, `cancel`: requests to a running worker about its jobs.
//!
//! The rule it keeps: `--json` prints the worker's answer, unchanged.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::common::{Ask, OneJob, limit, name};
use super::find::Find;
use super::pausing::{self, Pause, Resume};
use super::print::{cell, count, field, job, list, table};
use super::{Context, Exit};

/// The most entries of the timeline that are printed for people.
const LATEST: usize = 20;

/// `jobs`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List jobs.
    #[command(after_help = "Example:\n  erasure-worker jobs list --state needs_input --json")]
    List(List),
    /// Show one job: its targets, steps and waits, without personal data.
    #[command(after_help = "Example:\n  erasure-worker jobs show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Find the jobs about a person, by an identifier that is typed in here and never sent.
    ///
    /// Any one identifier finds the jobs that wait or have failed. Of a job that ended otherwise only one
    /// pseudonym of all its identifiers is kept: it is found by its only identifier (--system and --key),
    /// or by the whole job (--job).
    #[command(after_help = "Examples:\n  erasure-worker jobs find --tenant acme
  erasure-worker jobs find --tenant acme --system shop --key email
  erasure-worker jobs find --job job.json")]
    Find(Find),
    /// Let the jobs of a system or a tenant wait until they are resumed, also over a restart.
    #[command(
        after_help = "Examples:\n  erasure-worker jobs pause --system cleeng --reason \"contract ends\" --by operations
  erasure-worker jobs pause --tenant acme --reason \"wrong list sent\" --by operations"
    )]
    Pause(Pause),
    /// Let the jobs of a paused system or tenant go on.
    #[command(after_help = "Example:\n  erasure-worker jobs resume --system cleeng")]
    Resume(Resume),
    /// List what is paused, by whom and why.
    #[command(after_help = "Example:\n  erasure-worker jobs paused --json")]
    Paused(Ask),
    /// Forecast which open jobs will be late at the present rate, and because of which system.
    #[command(after_help = "Example:\n  erasure-worker jobs forecast

Exit codes: 0 none will be late; 1 some are or will be, or the worker cannot be reached; 2 usage.")]
    Forecast(Ask),
    /// End a job before its first destructive call.
    #[command(after_help = "Example:
  erasure-worker jobs cancel 6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 --tenant acme")]
    Cancel(OneJob),
}

/// `jobs list`
#[derive(Debug, Args)]
pub struct List {
    /// Only jobs in this state: open, waiting, needs_input, completed, failed, cancelled or previewed.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only jobs that concern this system.
    #[arg(long, value_name = "NAME", value_parser = name)]
    system: Option<String>,
    /// Only this tenant's jobs.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
    /// Continue the previous list: the cursor that it printed.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit())]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::List(options) => options.run(ctx).await,
            Command::Show(one) => {
                let answer = ctx.ask_one(&one, "jobs", None).await;
                ctx.print(answer, one.ask.output, |answer, ctx| describe(answer, ctx.out))
            }
            Command::Find(options) => options.run(ctx).await,
            Command::Pause(options) => options.run(ctx).await,
            Command::Resume(options) => options.run(ctx).await,
            Command::Paused(ask) => pausing::paused(&ask, ctx).await,
            Command::Forecast(ask) => forecast(&ask, ctx).await,
            Command::Cancel(one) => cancel(&one, ctx).await,
        }
    }
}

async fn forecast(ask: &Ask, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
    let answer = ctx.get(&ask.ops, &["v1", "forecast"], &[]).await;
    let show = |answer: &Value, ctx: &mut Context<'_>| {
        let (will_miss, overdue) = (count(answer, "will_miss"), count(answer, "overdue"));
        writeln!(ctx.out, "{will_miss} jobs will miss their due time; {overdue} have missed it already")?;
        let names = ["name", "backlog", "targets_per_minute", "done_at", "will_miss"];
        let row = |system: &Value| names.map(|name| field(system, name)).to_vec();
        let rows: Vec<Vec<String>> = list(answer, "systems").iter().map(row).collect();
        table(ctx.out, &["SYSTEM", "BACKLOG", "A MINUTE", "DONE", "WILL MISS"], &rows)
    };
    ctx.print_then(answer, ask.output, show, |answer, _| {
        let late = count(answer, "will_miss") + count(answer, "overdue");
        Ok(if late > 0 { Exit::Failed } else { Exit::Done })
    })
}

impl List {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let filter = [("state", self.state), ("system", self.system), ("tenant", self.tenant)];
        let answer = ctx.pages(&self.ask.ops, &filter, self.after, self.limit as usize).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
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
            table(ctx.out, &["JOB", "STATE", "RUN", "SYSTEMS", "DUE", "WAITS OR ENDED"], &rows)?;
            if let Some(next) = answer.get("next").filter(|next| !next.is_null()) {
                writeln!(ctx.err, "there may be more: --after {}", cell(next))?;
            }
            if let unreadable @ 1.. = count(answer, "unreadable") {
                writeln!(ctx.err, "{unreadable} record(s) cannot be decoded and are left out")?;
            }
            Ok(())
        })
    }
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
        let shown = ["since", "system", "step", "then", "gives_up_at", "gives_up_as"];
        for name in shown.into_iter().filter(|name| waiting.get(name).is_some_and(|value| !value.is_null())) {
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
            let details = ["kind", "reason", "answer", "input", "outcome", "done"].into_iter().filter_map(|name| {
                let value = entry.get(name).filter(|value| !value.is_null())?;
                Some(format!("{name} {}", cell(value)))
            });
            let of = |name| field(entry, name);
            let details = details.collect::<Vec<_>>().join(", ");
            vec![of("at"), of("target"), of("what"), of("step"), of("item"), details]
        })
        .collect();
    writeln!(out)?;
    table(out, &["AT", "TARGET", "WHAT", "STEP", "ITEM", "DETAIL"], &rows)?;
    if left_out > 0 {
        writeln!(out, "({left_out} earlier entries; --json shows the latest 500)")?;
    }
    Ok(())
}

async fn cancel(one: &OneJob, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
    let answer = ctx.ask_one(one, "jobs", Some("cancel")).await;
    ctx.print(answer, one.ask.output, |answer, ctx| {
        if answer.get("known").and_then(Value::as_bool) == Some(false) {
            writeln!(ctx.out, "remembered: this worker does not know the job yet; the job is cancelled on its arrival")
        } else {
            writeln!(ctx.out, "{}", field(answer, "state"))
        }?;
        match answer.get("everywhere").and_then(Value::as_bool) {
            Some(false) => writeln!(ctx.out, "{}", pausing::NOT_AT_BROKER),
            _ => Ok(()),
        }
    })
}

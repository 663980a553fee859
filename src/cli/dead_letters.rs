//! `dead-letters list`, `show`, `replay`, `discard`: the jobs that need a person.
//!
//! The rule it keeps: a replay or a discard needs a filter or `--all`. The number of affected dead letters is always
//! printed, also if it is 0.

use std::io::{self, Write};
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::common::{Ask, OneJob, age, limit, name};
use super::print::{count, field, job, list, table};
use super::{Context, Exit};
use crate::ops::client::{Body, ClientError, OpsApi};

/// `dead-letters`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List dead letters; this changes nothing.
    #[command(after_help = "Example:\n  erasure-worker dead-letters list --code ERS-0012")]
    List(List),
    /// Show the dead letter of one job, without its body.
    #[command(after_help = "Example:\n  erasure-worker dead-letters show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Let jobs go on from their checkpoints, as a new run.
    #[command(after_help = "Examples:\n  erasure-worker dead-letters replay --system cleeng --code ERS-0012
  erasure-worker dead-letters replay --all --limit 100")]
    Replay(Replay),
    /// End jobs for good: removes the dead letter and the job's sealed data, and records the operator.
    #[command(after_help = "Example:\n  erasure-worker dead-letters discard \
        --job-id 6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 --reason \"erased by hand, ticket 7\" --by operations")]
    Discard(Discard),
}

/// The selected dead letters.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "filter", multiple = true)]
pub struct Filter {
    /// Only those with this error code.
    #[arg(long, value_name = "ERS-NNNN")]
    pub(super) code: Option<String>,
    /// Only those that failed at this system.
    #[arg(long, value_name = "NAME", value_parser = name)]
    system: Option<String>,
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
    /// Only this job's.
    #[arg(long, value_name = "ID")]
    job_id: Option<Uuid>,
    /// Only those that are older: 90s, 15m, 12h, 7d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// Only those that are newer: 90s, 15m, 12h, 7d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    newer_than: Option<Duration>,
}

/// `dead-letters list`
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit())]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

/// `dead-letters replay`
#[derive(Debug, Args)]
#[command(group = which(&["code", "system", "tenant", "job_id", "all"]))]
pub struct Replay {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// All of them; needed if no filter is given.
    #[arg(long, conflicts_with_all = ["code", "system", "tenant", "job_id"])]
    pub(super) all: bool,
    /// At most this many.
    #[arg(long, value_name = "N", value_parser = limit())]
    pub(super) limit: Option<u32>,
    /// At most this many a minute; it can be stopped at any time and run again.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    #[command(flatten)]
    ask: Ask,
}

/// `dead-letters discard`
#[derive(Debug, Args)]
#[command(group = which(&["code", "system", "tenant", "job_id", "older_than", "newer_than"]))]
pub struct Discard {
    #[command(flatten)]
    filter: Filter,
    /// Why, without personal data; kept with the job.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who decided; kept with the job.
    #[arg(long, value_name = "WHO")]
    by: String,
    /// At most this many.
    #[arg(long, value_name = "N", value_parser = limit())]
    limit: Option<u32>,
    #[command(flatten)]
    ask: Ask,
}

/// At least one of these must be given.
fn which(args: &[&'static str]) -> ArgGroup {
    ArgGroup::new("which").required(true).multiple(true).args(args)
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::List(options) => options.run(ctx).await,
            Command::Show(one) => show(&one, ctx).await,
            Command::Replay(options) => options.run(ctx).await,
            Command::Discard(options) => options.run(ctx).await,
        }
    }
}

impl Filter {
    fn named(&self) -> [(&'static str, Option<String>); 6] {
        let ago = |age: Option<Duration>| age.map(|age| (Timestamp::now() - age).to_string());
        [
            ("code", self.code.clone()),
            ("system", self.system.clone()),
            ("tenant", self.tenant.clone()),
            ("job_id", self.job_id.map(|id| id.to_string())),
            ("from", ago(self.newer_than)),
            ("to", ago(self.older_than)),
        ]
    }

    fn body(&self, limit: Option<u32>) -> Map<String, Value> {
        let named = self.named().into_iter();
        let mut body: Map<_, _> = named.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
        if let Some(limit) = limit {
            body.insert("limit".into(), limit.into());
        }
        body
    }
}

impl List {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut query = self.filter.named().to_vec();
        query.push(("limit", Some(self.limit.to_string())));
        let answer = ctx.get(&self.ask.ops, &["v1", "dead-letters"], &query).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let rows: Vec<Vec<String>> = list(answer, "dead_letters")
                .iter()
                .map(|letter| {
                    let of = |name| field(letter, name);
                    // Any program that may write to the queue could have written these headers.
                    let is_vouched = letter.get("vouched").and_then(Value::as_bool) != Some(false);
                    let mark = if is_vouched { "" } else { " (not vouched for)" };
                    vec![of("code"), of("reason"), of("system"), of("step"), of("run"), of("at"), job(letter) + mark]
                })
                .collect();
            table(ctx.out, &["CODE", "REASON", "SYSTEM", "STEP", "RUN", "AT", "JOB"], &rows)?;
            if answer.get("more").and_then(Value::as_bool) == Some(true) {
                writeln!(ctx.err, "there are more: give a filter, or a higher --limit")?;
            }
            Ok(())
        })
    }
}

async fn show(one: &OneJob, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
    let answer = ctx.ask_one(one, "dead-letters", None).await;
    ctx.print(answer, one.ask.output, |answer, ctx| {
        for letter in list(answer, "dead_letters") {
            writeln!(ctx.out, "{}  {}", field(letter, "code"), job(letter))?;
            for name in [
                "sentence", "runbook", "system", "step", "attempts", "run", "at", "retry", "vouched", "sealed", "bytes",
            ] {
                writeln!(ctx.out, "  {name}: {}", field(letter, name))?;
            }
        }
        Ok(())
    })
}

impl Replay {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut asked = self.filter.body(self.limit);
        if self.all {
            asked.insert("all".into(), true.into());
        }
        let answer = match (ctx.connect(&self.ask.ops), self.rate) {
            (Err(error), _) => Err(error),
            (Ok(api), None) => api.post(&["v1", "dead-letters", "replay"], Body::Json(Value::Object(asked))).await,
            (Ok(api), Some(rate)) => replay_slowly(&api, asked, rate, self.limit, ctx.err).await,
        };
        let show = |answer: &Value, ctx: &mut Context<'_>| {
            writeln!(ctx.out, "{} replayed", field(answer, "replayed"))?;
            note_more(answer, ctx.err)
        };
        ctx.print_then(answer, self.ask.output, show, |answer, ctx| {
            let unopenable @ 1.. = count(answer, "unopenable") else { return Ok(Exit::Done) };
            writeln!(ctx.err, "{unopenable} cannot be opened with the worker's keys, and stay in the queue")?;
            Ok(Exit::Failed)
        })
    }
}

/// Replays in portions, with a pause after each. A portion is finished when its answer arrives. Dead letters that
/// arrive meanwhile, for example of jobs that fail again, are not replayed.
async fn replay_slowly(
    api: &OpsApi,
    mut asked: Map<String, Value>,
    a_minute: u32,
    limit: Option<u32>,
    err: &mut dyn Write,
) -> Result<Value, ClientError> {
    asked.entry("to").or_insert_with(|| Timestamp::now().to_string().into());
    let portion = a_minute.div_ceil(60);
    let pause = Duration::from_secs(60) * portion / a_minute;
    let (mut replayed, mut left) = (0, u64::from(limit.unwrap_or(u32::MAX)));
    loop {
        asked.insert("limit".into(), u64::from(portion).min(left).into());
        let mut answer =
            match api.post(&["v1", "dead-letters", "replay"], Body::Json(Value::Object(asked.clone()))).await {
                Ok(answer) => answer,
                Err(error) => {
                    // If stderr cannot be written, the error is still returned.
                    let _ = writeln!(err, "{replayed} replayed before");
                    return Err(error);
                }
            };
        let done = count(&answer, "replayed");
        replayed += done;
        left = left.saturating_sub(done);
        if done == 0 || left == 0 || answer.get("more") != Some(&Value::Bool(true)) {
            answer["replayed"] = replayed.into();
            return Ok(answer);
        }
        tokio::time::sleep(pause).await;
    }
}

impl Discard {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut asked = self.filter.body(self.limit);
        asked.insert("reason".into(), json!(self.reason));
        asked.insert("by".into(), json!(self.by));
        let asked = Body::Json(Value::Object(asked));
        let answer = ctx.post(&self.ask.ops, &["v1", "dead-letters", "discard"], asked).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            writeln!(ctx.out, "{} discarded", field(answer, "discarded"))?;
            note_more(answer, ctx.err)
        })
    }
}

fn note_more(answer: &Value, err: &mut dyn Write) -> io::Result<()> {
    match answer.get("more").and_then(Value::as_bool) {
        Some(true) => writeln!(err, "there are more: run it again"),
        _ => Ok(()),
    }
}

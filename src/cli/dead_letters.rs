//! `dead-letters list`, `show`, `replay`, `discard`: the jobs that need a person.
//!
//! The rule it keeps: what was done is told by number, also where it was nothing.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Exit;
use super::client::{connect, count, field, job, judge, list, table, tell};
use super::common::OneJob;
use super::jobs::ask_one;
use super::ops_args::{DeadLetterFilter, DeadLettersCommand, DeadLettersDiscard, DeadLettersList, DeadLettersReplay};
use crate::config::Surroundings;
use crate::ops::client::{Body, ClientError, OpsApi};

/// Carries out a `dead-letters` command.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn dead_letters(
    command: &DeadLettersCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        DeadLettersCommand::List(args) => list_letters(args, surroundings, out, err).await,
        DeadLettersCommand::Show(args) => show(args, surroundings, out, err).await,
        DeadLettersCommand::Replay(args) => replay(args, surroundings, out, err).await,
        DeadLettersCommand::Discard(args) => discard(args, surroundings, out, err).await,
    }
}

fn named(filter: &DeadLetterFilter) -> [(&'static str, Option<String>); 6] {
    let ago = |age: Option<Duration>| age.map(|age| (Timestamp::now() - age).to_string());
    [
        ("code", filter.code.clone()),
        ("system", filter.system.clone()),
        ("tenant", filter.tenant.clone()),
        ("job_id", filter.job_id.map(|id| id.to_string())),
        ("from", ago(filter.newer_than)),
        ("to", ago(filter.older_than)),
    ]
}

fn body(filter: &DeadLetterFilter, limit: Option<u32>) -> Map<String, Value> {
    let mut body: Map<_, _> =
        named(filter).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    if let Some(limit) = limit {
        body.insert("limit".into(), limit.into());
    }
    body
}

async fn list_letters(
    args: &DeadLettersList,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async {
        let mut query = named(&args.filter).to_vec();
        query.push(("limit", Some(args.limit.to_string())));
        connect(&args.ops, surroundings)?.get(&["v1", "dead-letters"], &query).await
    };
    tell(ask.await, args.output, out, err, |answer, out, err| {
        let rows: Vec<Vec<String>> = list(answer, "dead_letters")
            .iter()
            .map(|letter| {
                let of = |name| field(letter, name);
                // Whoever may write to the queue may write such headers.
                let is_vouched = letter.get("vouched").and_then(Value::as_bool) != Some(false);
                let mark = if is_vouched { "" } else { " (not vouched for)" };
                vec![of("code"), of("reason"), of("system"), of("step"), of("run"), of("at"), job(letter) + mark]
            })
            .collect();
        table(out, &["CODE", "REASON", "SYSTEM", "STEP", "RUN", "AT", "JOB"], &rows)?;
        if answer.get("more").and_then(Value::as_bool) == Some(true) {
            writeln!(err, "there are more: give a filter, or a higher --limit")?;
        }
        Ok(())
    })
}

async fn show(
    args: &OneJob,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    tell(ask_one(args, surroundings, "dead-letters", None).await, args.output, out, err, |answer, out, _| {
        for letter in list(answer, "dead_letters") {
            writeln!(out, "{}  {}", field(letter, "code"), job(letter))?;
            for name in [
                "sentence", "runbook", "system", "step", "attempts", "run", "at", "retry", "vouched", "sealed", "bytes",
            ] {
                writeln!(out, "  {name}: {}", field(letter, name))?;
            }
        }
        Ok(())
    })
}

async fn replay(
    args: &DeadLettersReplay,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut asked = body(&args.filter, args.limit);
    if args.all {
        asked.insert("all".into(), true.into());
    }
    let ask = async {
        let api = connect(&args.ops, surroundings)?;
        match args.rate {
            None => api.post(&["v1", "dead-letters", "replay"], Body::Json(Value::Object(asked))).await,
            Some(rate) => replay_slowly(&api, asked, rate, args.limit, err).await,
        }
    };
    let answer = ask.await;
    let show = |answer: &Value, out: &mut dyn Write, err: &mut dyn Write| {
        writeln!(out, "{} replayed", field(answer, "replayed"))?;
        tell_more(answer, err)
    };
    judge(answer, args.output, out, err, show, |answer, err| {
        let unopenable @ 1.. = count(answer, "unopenable") else { return Ok(Exit::Done) };
        writeln!(err, "{unopenable} cannot be opened with the worker's keys, and stay where they are")?;
        Ok(Exit::Failed)
    })
}

/// In portions, with a pause after each. Letters that come meanwhile, jobs that fail once more among
/// them, are left for another time; each portion is done when its answer comes.
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
                    // What the error says is not lost for a terminal that cannot be written.
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

async fn discard(
    args: &DeadLettersDiscard,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut asked = body(&args.filter, args.limit);
    asked.insert("reason".into(), json!(args.reason));
    asked.insert("by".into(), json!(args.by));
    let ask = async {
        let api = connect(&args.ops, surroundings)?;
        api.post(&["v1", "dead-letters", "discard"], Body::Json(Value::Object(asked))).await
    };
    tell(ask.await, args.output, out, err, |answer, out, err| {
        writeln!(out, "{} discarded", field(answer, "discarded"))?;
        tell_more(answer, err)
    })
}

fn tell_more(answer: &Value, err: &mut dyn Write) -> io::Result<()> {
    match answer.get("more").and_then(Value::as_bool) {
        Some(true) => writeln!(err, "there are more: run it again"),
        _ => Ok(()),
    }
}

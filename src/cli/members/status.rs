//! `submit-csv --status`: how far each member of a file is, asked of the running worker.
//!
//! The rule it keeps: a member counts as erased only where the worker says so of its ended job, and
//! all is done only where that holds for every row of the file, also for those never published.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Options;
use super::arguments::Arguments;
use super::letters::Letters;
use super::reading::{self, DUPLICATE};
use super::results::{self, Outcome, Rewritten};
use super::table::{ReadError, Table};
use crate::cli::print::{field, list};
use crate::cli::{Context, Exit};
use crate::job::Reason;
use crate::ops::client::{Body, ClientError, OpsApi};

/// Jobs asked for at once.
const TOGETHER: usize = 1_000;

/// What the rows of a file came to.
#[derive(Debug, Default)]
struct Standing {
    states: BTreeMap<String, u64>,
    /// Rows that ended well.
    done: u64,
    /// Rows of members that came before with the same values: theirs is the first row's end.
    duplicates: u64,
    /// Rows whose job goes on by itself, or waits in the queue.
    under_way: u64,
    /// Rows whose job waits for a person.
    awaited: u64,
    /// Rows that ended in another way.
    not_done: u64,
    /// Rows whose job the worker refused, by the word of the code.
    refused: BTreeMap<String, u64>,
    /// Rows that were never published.
    unusable: u64,
    /// Rows of the file that the result does not tell of.
    missing: u64,
}

impl Standing {
    fn add(&mut self, outcome: &Outcome, arguments: Option<&Arguments>) {
        *self.states.entry(outcome.state.clone()).or_default() += 1;
        let is_preview = arguments.is_some_and(|arguments| arguments.get("preview").is_some());
        let counter = match outcome.state.as_str() {
            "rejected" => self.refused.entry(reason(&outcome.code)).or_default(),
            // An earlier release did not look at the other values.
            "skipped" if outcome.note.starts_with(DUPLICATE) && arguments.is_some() => &mut self.duplicates,
            "skipped" => &mut self.unusable,
            "erased" | "anonymised" | "absent" | "completed" => &mut self.done,
            "previewed" if is_preview => &mut self.done,
            "failed" | "cancelled" | "previewed" => &mut self.not_done,
            "needs_input" => &mut self.awaited,
            _ => &mut self.under_way,
        };
        *counter += 1;
    }

    fn exit(&self) -> Exit {
        let refused: u64 = self.refused.values().sum();
        if self.not_done + refused + self.unusable + self.missing > 0 || self.done + self.under_way + self.awaited == 0
        {
            Exit::Failed
        } else if self.under_way + self.awaited > 0 {
            Exit::Awaiting
        } else {
            Exit::Done
        }
    }

    /// What keeps the file from being done, in words.
    fn words(&self) -> Vec<String> {
        let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
        let refused = self.refused.iter().map(|(why, count)| format!("{} refused: {why}", rows(*count)));
        let others = [
            (self.under_way, "queued or under way: ask again later"),
            (self.awaited, "waiting for input from a person"),
            (self.not_done, "ended, and not as erased"),
            (self.unusable, "skipped: no job was made of them, see the notes in the result"),
            (self.missing, "not in the result: run it again without --status, and it goes on there"),
            (self.duplicates, "skipped as repeats, with the same values as an earlier row"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", rows(count)));
        refused.chain(others).collect()
    }
}

/// A code with its word.
fn reason(code: &str) -> String {
    match Reason::ALL.iter().find(|reason| reason.code() == code) {
        Some(reason) => format!("{} ({code})", reason.as_str()),
        None => code.to_owned(),
    }
}

/// Writes the result file anew with where each member stands, and counts them.
///
/// # Errors
/// Where the result file cannot be read or written.
pub(super) async fn status(args: &Options, ctx: &mut Context<'_>) -> Result<Exit> {
    let path = args.result.clone().unwrap_or_else(|| results::path_for(&args.file));
    let api = match ctx.connect(&args.ask.ops) {
        Ok(api) => api,
        Err(error) => return Ok(ctx.sorry(&error)?),
    };
    // Read into parts first: asking is async, reading a file is not.
    let mut standing = Standing::default();
    let (mut arguments, mut last_line, mut letters) = (None::<Arguments>, 0, None::<Letters>);
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
        if arguments.is_none() {
            arguments = part.first().and_then(Outcome::as_arguments);
            if let Some(tenant) = arguments.as_ref().and_then(|said| said.get("tenant")).filter(|t| *t != args.tenant) {
                writeln!(ctx.err, "{}: was made with --tenant {tenant}", path.display())?;
                return Ok(Exit::Usage);
            }
        }
        let unknown = match look_up(&api, &args.tenant, &mut part).await {
            Ok(unknown) => unknown,
            Err(error) => return Ok(ctx.sorry(&error)?),
        };
        if !unknown.is_empty() && letters.is_none() {
            letters = Some(ask_for_letters(&api, &args.tenant, ctx).await?);
        }
        for index in unknown {
            letters.iter().for_each(|letters| letters.tell(&mut part[index]));
        }
        for outcome in &part {
            rewritten.add(outcome)?;
            if outcome.as_arguments().is_none() {
                standing.add(outcome, arguments.as_ref());
                last_line = outcome.line;
            }
        }
    }
    reader.await?.with_context(|| path.display().to_string())?;
    rewritten.finish()?;
    let (file, columns) = (args.file.clone(), vec![args.column.clone()]);
    let digest = arguments.as_ref().and_then(|said| said.get("file")).map(str::to_owned);
    let compared = tokio::task::spawn_blocking(move || rows_after(&file, &columns, last_line, digest)).await?;
    let (missing, why_not) = match compared {
        Ok(Some(rows)) => (rows, None),
        Ok(None) => (0, Some("is not the file that the result was made from".to_owned())),
        Err(error) => (0, Some(error.to_string())),
    };
    standing.missing = missing;
    if args.ask.output.json {
        let states = &standing.states;
        let result = path.display().to_string();
        let json = json!({ "rows": states, "refused": standing.refused, "never_submitted": missing, "result": result });
        writeln!(ctx.out, "{json:#}")?;
    } else {
        let told: Vec<_> = standing.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(ctx.out, "{}", told.join(", "))?;
        standing.words().iter().try_for_each(|line| writeln!(ctx.out, "{line}"))?;
        writeln!(ctx.out, "{}", path.display())?;
    }
    if let Some(why) = why_not {
        writeln!(ctx.err, "{}: {why}: whether every row of it was submitted is not known", args.file.display())?;
        return Ok(Exit::Failed);
    }
    Ok(standing.exit())
}

/// How many rows of a file begin after a line; none where it is another file.
fn rows_after(path: &Path, columns: &[String], line: u64, digest: Option<String>) -> Result<Option<u64>, ReadError> {
    if let Some(wanted) = digest
        && wanted != super::order::file_id(&reading::digest(path)?).to_string()
    {
        return Ok(None);
    }
    let mut rows = 0;
    Table::open(path, columns)?.each(|record| {
        rows += u64::from(record.first > line);
        Ok(true)
    })?;
    Ok(Some(rows))
}

/// The dead letters, or none where they cannot be looked at.
async fn ask_for_letters(api: &OpsApi, tenant: &str, ctx: &mut Context<'_>) -> Result<Letters> {
    let letters = match Letters::ask(api, tenant).await {
        Ok(letters) => letters,
        Err(error) => {
            ctx.sorry(&error)?;
            writeln!(ctx.err, "the dead letters are not known: a row that is queued may have been refused")?;
            return Ok(Letters::default());
        }
    };
    if letters.has_more {
        writeln!(
            ctx.err,
            "there are more dead letters than one look takes: a row that is queued may have been refused"
        )?;
    }
    Ok(letters)
}

/// Asks where the jobs of these rows stand; returns the places of those that the worker does not know.
async fn look_up(api: &OpsApi, tenant: &str, part: &mut [Outcome]) -> Result<Vec<usize>, ClientError> {
    let ids: Vec<Value> = part.iter().filter_map(|outcome| outcome.job_id).map(|id| id.to_string().into()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let answer = api.post(&["v1", "jobs", tenant, "states"], Body::Json(json!({ "job_ids": ids }))).await?;
    let told: HashMap<String, &Value> = list(&answer, "jobs").iter().map(|job| (field(job, "job_id"), job)).collect();
    let mut unknown = Vec::new();
    for (index, outcome) in part.iter_mut().enumerate() {
        let Some(id) = outcome.job_id else { continue };
        // It is still in the queue, or was refused.
        let Some(job) = told.get(&id.to_string()) else {
            unknown.push(index);
            continue;
        };
        let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ended = text("target_outcome");
        let state = text("state");
        outcome.state = match state.as_str() {
            "completed" if !ended.is_empty() => ended,
            _ => state,
        };
        outcome.code = text("code");
        outcome.note.clear();
    }
    Ok(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::operators::JobStatus;

    fn stands(states: &[(&str, &str)]) -> Standing {
        let mut arguments = Arguments::default();
        arguments.add("tenant", "acme");
        let mut standing = Standing::default();
        for (state, note) in states {
            let mut outcome = Outcome::skipped(2, note);
            outcome.state = (*state).to_owned();
            standing.add(&outcome, Some(&arguments));
        }
        standing
    }

    #[test]
    fn only_a_file_whose_every_row_ended_well_is_done() {
        let good = ["erased", "anonymised", "absent", "completed"].map(|state| (state, ""));
        assert_eq!(stands(&good).exit(), Exit::Done);
        let same = ("skipped", "the same member as in line 2");
        assert_eq!(stands(&[good[0], same]).exit(), Exit::Done);
        // Every state that a job can have, and some that no release has yet.
        let states = JobStatus::ALL.map(JobStatus::as_str);
        for state in states.into_iter().chain(["queued", "skipped", "something"]).filter(|state| *state != "completed")
        {
            let exit = match state {
                "failed" | "rejected" | "cancelled" | "previewed" | "skipped" => Exit::Failed,
                _ => Exit::Awaiting,
            };
            let standing = stands(&[good[0], (state, "")]);
            assert_eq!(standing.exit(), exit, "{state}");
            assert!(standing.words().iter().any(|line| line.starts_with("1 row ")), "{state}");
            let failed = stands(&[("failed", ""), (state, "")]);
            assert_eq!(failed.exit(), Exit::Failed, "{state}");
        }
        let mut refused = Outcome::skipped(2, "refused: targets[0]");
        (refused.state, refused.code) = ("rejected".to_owned(), Reason::Invalid.code().to_owned());
        let mut standing = stands(&[good[0]]);
        standing.add(&refused, None);
        assert_eq!(
            (standing.exit(), standing.words()),
            (Exit::Failed, vec!["1 row refused: invalid (ERS-0020)".to_owned()])
        );
        let missing = Standing { missing: 2, ..stands(&good) };
        assert_eq!(missing.exit(), Exit::Failed);
        assert_eq!(missing.words(), ["2 rows not in the result: run it again without --status, and it goes on there"]);
        assert_eq!(stands(&[]).exit(), Exit::Failed, "a result without a row is no success");
    }

    #[test]
    fn a_preview_is_done_where_a_preview_was_asked_for() {
        let mut arguments = Arguments::default();
        arguments.add("preview", "yes");
        let mut outcome = Outcome::skipped(2, "");
        outcome.state = "previewed".to_owned();
        let mut standing = Standing::default();
        standing.add(&outcome, Some(&arguments));
        assert_eq!(standing.exit(), Exit::Done);
        // An earlier release does not say what it was: it is not taken for an erasure.
        let mut standing = Standing::default();
        standing.add(&outcome, None);
        standing.add(&Outcome::skipped(3, "the same member as in line 2"), None);
        assert_eq!((standing.exit(), standing.unusable), (Exit::Failed, 1));
    }
}

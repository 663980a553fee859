//! `submit-csv --status`: requests the state of each row's job from the running worker.
//!
//! The rule it keeps: a member counts as erased only if the worker reports so for its ended job. The file is done only
//! if every row ended well; a row that was never published did not.

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

/// The jobs of one request.
const BATCH: usize = 1_000;

/// The totals of a file's rows.
#[derive(Debug, Default)]
struct Totals {
    states: BTreeMap<String, u64>,
    /// Rows that ended well.
    done: u64,
    /// Rows that repeat a member with the same values: the first row's job counts.
    duplicates: u64,
    /// Rows whose job is in work or in the queue.
    under_way: u64,
    /// Rows whose job waits for a person.
    awaited: u64,
    /// Rows that ended in another way.
    not_done: u64,
    /// Rows whose job the worker refused, by reason.
    refused: BTreeMap<String, u64>,
    /// Rows that were never published.
    unusable: u64,
    /// Rows of the file that are not in the result.
    missing: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome, arguments: Option<&Arguments>) {
        *self.states.entry(outcome.state.clone()).or_default() += 1;
        let is_preview = arguments.is_some_and(|arguments| arguments.get("preview").is_some());
        let counter = match outcome.state.as_str() {
            "rejected" => self.refused.entry(reason(&outcome.code)).or_default(),
            // An earlier release did not compare the other values.
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

    /// The rows that are not done, in words.
    fn words(&self) -> Vec<String> {
        let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
        let refused = self.refused.iter().map(|(why, count)| format!("{} refused: {why}", rows(*count)));
        let others = [
            (self.under_way, "queued or under way: ask again later"),
            (self.awaited, "waiting for input from a person"),
            (self.not_done, "ended, but not as erased"),
            (self.unusable, "skipped: no job was made of them, see the notes in the result"),
            (self.missing, "not in the result: run the command again without --status to publish them"),
            (self.duplicates, "skipped as repeats, with the same values as an earlier row"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", rows(count)));
        refused.chain(others).collect()
    }
}

/// A code with its reason.
fn reason(code: &str) -> String {
    match Reason::ALL.iter().find(|reason| reason.code() == code) {
        Some(reason) => format!("{} ({code})", reason.as_str()),
        None => code.to_owned(),
    }
}

/// Rewrites the result file with each row's state, and prints the totals.
///
/// # Errors
/// The result file cannot be read or written.
pub(super) async fn status(args: &Options, ctx: &mut Context<'_>) -> Result<Exit> {
    let path = args.result.clone().unwrap_or_else(|| results::path_for(&args.file));
    let api = match ctx.connect(&args.ask.ops) {
        Ok(api) => api,
        Err(error) => return Ok(ctx.report_error(&error)?),
    };
    // A thread reads the file in parts, because the requests are async and reading is not.
    let mut totals = Totals::default();
    let (mut arguments, mut last_line, mut letters) = (None::<Arguments>, 0, None::<Letters>);
    let mut rewritten = Rewritten::begin(&path).with_context(|| path.display().to_string())?;
    let (sender, mut parts) = tokio::sync::mpsc::channel::<Vec<Outcome>>(2);
    let file = path.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut part = Vec::with_capacity(BATCH);
        let sent = |part| sender.blocking_send(part).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        results::read(&file, |outcome| {
            part.push(outcome);
            if part.len() < BATCH {
                return Ok(());
            }
            sent(std::mem::replace(&mut part, Vec::with_capacity(BATCH)))
        })?;
        sent(part)
    });
    while let Some(mut part) = parts.recv().await {
        if arguments.is_none() {
            arguments = part.first().and_then(Outcome::as_arguments);
            if let Some(tenant) =
                arguments.as_ref().and_then(|arguments| arguments.get("tenant")).filter(|t| *t != args.tenant)
            {
                writeln!(ctx.err, "{}: was made with --tenant {tenant}", path.display())?;
                return Ok(Exit::Usage);
            }
        }
        let unknown = match look_up(&api, &args.tenant, &mut part).await {
            Ok(unknown) => unknown,
            Err(error) => return Ok(ctx.report_error(&error)?),
        };
        if !unknown.is_empty() && letters.is_none() {
            letters = Some(fetch_letters(&api, &args.tenant, ctx).await?);
        }
        for index in unknown {
            letters.iter().for_each(|letters| letters.apply_to(&mut part[index]));
        }
        for outcome in &part {
            rewritten.add(outcome)?;
            if outcome.as_arguments().is_none() {
                totals.add(outcome, arguments.as_ref());
                last_line = outcome.line;
            }
        }
    }
    reader.await?.with_context(|| path.display().to_string())?;
    rewritten.finish()?;
    let (file, columns) = (args.file.clone(), vec![args.column.clone()]);
    let digest = arguments.as_ref().and_then(|arguments| arguments.get("file")).map(str::to_owned);
    let compared = tokio::task::spawn_blocking(move || rows_after(&file, &columns, last_line, digest)).await?;
    let (missing, why_not) = match compared {
        Ok(Some(rows)) => (rows, None),
        Ok(None) => (0, Some("is not the file of this result".to_owned())),
        Err(error) => (0, Some(error.to_string())),
    };
    totals.missing = missing;
    if args.ask.output.json {
        let states = &totals.states;
        let result = path.display().to_string();
        let json = json!({ "rows": states, "refused": totals.refused, "never_submitted": missing, "result": result });
        writeln!(ctx.out, "{json:#}")?;
    } else {
        let counts: Vec<_> = totals.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(ctx.out, "{}", counts.join(", "))?;
        totals.words().iter().try_for_each(|line| writeln!(ctx.out, "{line}"))?;
        writeln!(ctx.out, "{}", path.display())?;
    }
    if let Some(why) = why_not {
        writeln!(ctx.err, "{}: {why}: it is not known whether every row was submitted", args.file.display())?;
        return Ok(Exit::Failed);
    }
    Ok(totals.exit())
}

/// The number of a file's rows after a line; `None` for another file.
fn rows_after(path: &Path, columns: &[String], line: u64, digest: Option<String>) -> Result<Option<u64>, ReadError> {
    if let Some(wanted) = digest
        && wanted != super::template::file_id(&reading::digest(path)?).to_string()
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

/// The dead letters; none if they cannot be read.
async fn fetch_letters(api: &OpsApi, tenant: &str, ctx: &mut Context<'_>) -> Result<Letters> {
    let letters = match Letters::ask(api, tenant).await {
        Ok(letters) => letters,
        Err(error) => {
            ctx.report_error(&error)?;
            writeln!(ctx.err, "the dead letters could not be read: a row that is queued may have been refused")?;
            return Ok(Letters::default());
        }
    };
    if letters.has_more {
        writeln!(
            ctx.err,
            "there are more dead letters than one request returns: a row that is queued may have been refused"
        )?;
    }
    Ok(letters)
}

/// Requests the states of these rows' jobs; returns the indexes of those that the worker does not know.
async fn look_up(api: &OpsApi, tenant: &str, part: &mut [Outcome]) -> Result<Vec<usize>, ClientError> {
    let ids: Vec<Value> = part.iter().filter_map(|outcome| outcome.job_id).map(|id| id.to_string().into()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let answer = api.post(&["v1", "jobs", tenant, "states"], Body::Json(json!({ "job_ids": ids }))).await?;
    let known: HashMap<String, &Value> = list(&answer, "jobs").iter().map(|job| (field(job, "job_id"), job)).collect();
    let mut unknown = Vec::new();
    for (index, outcome) in part.iter_mut().enumerate() {
        let Some(id) = outcome.job_id else { continue };
        // The job is still in the queue, or was refused.
        let Some(job) = known.get(&id.to_string()) else {
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

    fn stands(states: &[(&str, &str)]) -> Totals {
        let mut arguments = Arguments::default();
        arguments.add("tenant", "acme");
        let mut totals = Totals::default();
        for (state, note) in states {
            let mut outcome = Outcome::skipped(2, note);
            outcome.state = (*state).to_owned();
            totals.add(&outcome, Some(&arguments));
        }
        totals
    }

    #[test]
    fn a_file_is_done_only_if_every_row_ended_well() {
        let good = ["erased", "anonymised", "absent", "completed"].map(|state| (state, ""));
        assert_eq!(stands(&good).exit(), Exit::Done);
        let same = ("skipped", "the same member as in line 2");
        assert_eq!(stands(&[good[0], same]).exit(), Exit::Done);
        // Every possible state of a job, and some unknown ones.
        let states = JobStatus::ALL.map(JobStatus::as_str);
        for state in states.into_iter().chain(["queued", "skipped", "something"]).filter(|state| *state != "completed")
        {
            let exit = match state {
                "failed" | "rejected" | "cancelled" | "previewed" | "skipped" => Exit::Failed,
                _ => Exit::Awaiting,
            };
            let totals = stands(&[good[0], (state, "")]);
            assert_eq!(totals.exit(), exit, "{state}");
            assert!(totals.words().iter().any(|line| line.starts_with("1 row ")), "{state}");
            let failed = stands(&[("failed", ""), (state, "")]);
            assert_eq!(failed.exit(), Exit::Failed, "{state}");
        }
        let mut refused = Outcome::skipped(2, "refused: targets[0]");
        (refused.state, refused.code) = ("rejected".to_owned(), Reason::Invalid.code().to_owned());
        let mut totals = stands(&[good[0]]);
        totals.add(&refused, None);
        assert_eq!(
            (totals.exit(), totals.words()),
            (Exit::Failed, vec!["1 row refused: invalid (ERS-0020)".to_owned()])
        );
        let missing = Totals { missing: 2, ..stands(&good) };
        assert_eq!(missing.exit(), Exit::Failed);
        let expected = "2 rows not in the result: run the command again without --status to publish them";
        assert_eq!(missing.words(), [expected]);
        assert_eq!(stands(&[]).exit(), Exit::Failed, "a result without a row is no success");
    }

    #[test]
    fn a_preview_is_done_only_if_a_preview_was_requested() {
        let mut arguments = Arguments::default();
        arguments.add("preview", "yes");
        let mut outcome = Outcome::skipped(2, "");
        outcome.state = "previewed".to_owned();
        let mut totals = Totals::default();
        totals.add(&outcome, Some(&arguments));
        assert_eq!(totals.exit(), Exit::Done);
        // An earlier release does not record the mode: the job is not counted as an erasure.
        let mut totals = Totals::default();
        totals.add(&outcome, None);
        totals.add(&Outcome::skipped(3, "the same member as in line 2"), None);
        assert_eq!((totals.exit(), totals.unusable), (Exit::Failed, 1));
    }
}

//! `submit-csv`: publishes a job for each row of a CSV file of members.
//!
//! The rule it keeps: every row is published or reported. Nothing is published from a damaged file without
//! `--skip-damaged`. The same file gives the same jobs again, also after an interruption.

mod arguments;
mod columns;
#[cfg(test)]
mod connectors;
#[cfg(test)]
mod damaged;
mod earlier;
mod letters;
mod options;
mod reading;
mod repeats;
mod results;
mod shape;
mod status;
mod table;
mod template;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use self::earlier::{Earlier, resume};
use self::reading::{DUPLICATE, Reading, Row};
use self::results::{Outcome, Results};
use self::table::ReadError;
use self::template::JobTemplate;
use super::submit::reach;
use super::{Context, Exit};
use crate::app;
use crate::broker::{Broker, Destination, Properties, Publication};

pub(crate) use self::columns::{Columns, shown};
pub(crate) use self::options::Names;
pub use self::options::Options;

/// The most simultaneous publishes, and the rows read ahead.
const AT_ONCE: usize = 64;
/// The time for which a failed publish is repeated.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// The most skipped rows that are printed; the result file has all.
const SHOWN: u64 = 50;

/// A row, prepared for its publish.
enum Ready {
    Job { line: u64, offset: u64, body: Zeroizing<Vec<u8>> },
    Unusable { line: u64, offset: u64, note: String },
}

/// The numbers of rows.
#[derive(Debug, Default)]
struct Count {
    queued: u64,
    duplicate: u64,
    unusable: u64,
    earlier: Earlier,
}

impl Count {
    /// The exit code of a run that has read the whole file.
    fn exit(&self) -> Exit {
        if self.unusable + self.earlier.unusable > 0 {
            return Exit::Failed;
        }
        match self.queued {
            0 if self.earlier.unrecorded.is_some() => Exit::Usage,
            0 if self.earlier.rows == 0 => Exit::Failed,
            _ => Exit::Done,
        }
    }
}

/// Publishes the members of a file, or with `--dry-run` only checks them.
async fn submit_csv(args: &Options, ctx: &mut Context<'_>) -> Result<Exit> {
    let config = ctx.load()?;
    let file = args.file.clone();
    let shown = args.file.display().to_string();
    let digest = tokio::task::spawn_blocking(move || reading::digest(&file)).await?.context(shown.clone())?;
    let about = std::fs::metadata(&args.file).context(shown.clone())?;
    let changed_at = about.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_else(Timestamp::now);
    let mut template = match JobTemplate::new(args, app::accepts(&config), &digest, changed_at) {
        Ok(template) => template,
        Err(why) => {
            writeln!(ctx.err, "{why}")?;
            return Ok(Exit::Usage);
        }
    };
    let path = args.result.clone().unwrap_or_else(|| results::path_for(&args.file));
    let earlier = match resume(&path, &mut template, args) {
        Ok(earlier) => earlier,
        Err(why) => {
            writeln!(ctx.err, "{}: {why}", path.display())?;
            return Ok(Exit::Usage);
        }
    };
    let template = Arc::new(template);
    let reading = match check_file(args).await? {
        Ok(reading) => reading,
        Err(error) => {
            writeln!(ctx.err, "{shown}: {error}")?;
            return Ok(exit_of(&error));
        }
    };
    for warning in &reading.warnings {
        writeln!(ctx.err, "warning: {warning}")?;
    }
    if reading.damaged > 0 && !args.skip_damaged {
        report_damage(args, &reading, ctx.out, ctx.err)?;
        return Ok(Exit::Failed);
    }
    if earlier.last_line > 0 {
        writeln!(ctx.err, "it goes on after line {}, the last in {}", earlier.last_line, path.display())?;
    }
    let broker: Option<Arc<dyn Broker>> = if args.dry_run {
        None
    } else {
        let broker = app::broker(&config, false).await?;
        if let Err(why) = reach(&*broker).await {
            writeln!(ctx.err, "the broker cannot be reached: {why}")?;
            return Ok(Exit::Failed);
        }
        Some(broker)
    };
    let bar = bar(about.len())?;
    let (sender, rows) = mpsc::channel(AT_ONCE);
    let reader = read_on(reading, Arc::clone(&template), earlier.last_line, sender);
    let arguments = Some(template.arguments());
    let mut results = if args.dry_run { None } else { Some(Results::open(&path, earlier.bytes, arguments)?) };
    let mut count = Count { earlier, ..Count::default() };
    let published = publish(broker.as_deref(), &template, rows, results.as_mut(), &mut count, &bar, ctx.err).await;
    bar.finish_and_clear();
    let read = reader.await?;
    if let Some(results) = results {
        results.finish()?;
    }
    if let Some(broker) = broker {
        broker.close().await;
    }
    print_summary(args, &count, &path, ctx.out)?;
    match (read, published) {
        (Err(error), _) => {
            writeln!(ctx.err, "{shown}: {error}")?;
            return Ok(exit_of(&error));
        }
        (Ok(()), Err(error)) => {
            writeln!(ctx.err, "{error:#}; run the command again: it goes on from there")?;
            return Ok(Exit::Failed);
        }
        (Ok(()), Ok(())) => {}
    }
    let now = std::fs::metadata(&args.file).context(shown.clone())?;
    if now.len() != about.len() || now.modified().ok() != about.modified().ok() {
        writeln!(ctx.err, "{shown}: was changed during the run: it is not certain which of its rows were queued")?;
        return Ok(Exit::Failed);
    }
    let exit = count.exit();
    if let (Exit::Usage, Some(what)) = (exit, &count.earlier.unrecorded) {
        writeln!(
            ctx.err,
            "{}: was written by an earlier release and does not record whether {what} was given; if it was not, \
             give another --result FILE: all rows are then published with these arguments",
            path.display()
        )?;
    }
    Ok(exit)
}

fn exit_of(error: &ReadError) -> Exit {
    match error {
        ReadError::Io(_) | ReadError::Header { .. } => Exit::Failed,
        _ => Exit::Usage,
    }
}

/// Checks the file on a thread that may block.
async fn check_file(args: &Options) -> Result<Result<Reading, ReadError>> {
    let file = args.file.clone();
    let columns: Vec<String> =
        std::iter::once(&args.column).chain(args.also.iter().map(|(_, header)| header)).cloned().collect();
    Ok(tokio::task::spawn_blocking(move || Reading::begin(&file, &columns)).await?)
}

/// Prints why nothing is published from a damaged file.
fn report_damage(
    args: &Options,
    reading: &Reading,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> io::Result<()> {
    for (line, note) in &reading.damages {
        writeln!(err, "line {line}: {note}")?;
    }
    if reading.damaged > reading.damages.len() as u64 {
        writeln!(err, "and {} more", reading.damaged - reading.damages.len() as u64)?;
    }
    writeln!(
        err,
        "the file is damaged, and nothing was published: correct these lines, or publish the other rows with \
         --skip-damaged"
    )?;
    if args.ask.output.json {
        let counts = BTreeMap::from([("queued", 0), ("damaged", reading.damaged)]);
        return writeln!(out, "{:#}", json!({ "rows": counts, "dry_run": args.dry_run, "result": null }));
    }
    writeln!(out, "0 queued: {} damaged", reading.damaged)
}

fn bar(bytes: u64) -> Result<ProgressBar> {
    // Drawn on a terminal only.
    let bar = ProgressBar::new(bytes);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent}% {msg}, {elapsed}, {eta} left")?);
    Ok(bar)
}

/// Reads the rows after `last_line`, on a thread that may block.
fn read_on(
    reading: Reading,
    template: Arc<JobTemplate>,
    last_line: u64,
    sender: mpsc::Sender<Ready>,
) -> tokio::task::JoinHandle<Result<(), ReadError>> {
    tokio::task::spawn_blocking(move || {
        reading.each(|row| row.line <= last_line || sender.blocking_send(ready(&template, row)).is_ok())
    })
}

/// Converts a row to its job.
fn ready(template: &JobTemplate, row: Row) -> Ready {
    let Row { line, values, offset, .. } = row;
    match values.and_then(|values| template.job(line, &values)) {
        Ok(body) => Ready::Job { line, offset, body },
        Err(note) => Ready::Unusable { line, offset, note },
    }
}

/// Publishes several rows at once, and records the results in the order of the file.
async fn publish(
    broker: Option<&dyn Broker>,
    template: &JobTemplate,
    rows: mpsc::Receiver<Ready>,
    mut results: Option<&mut Results>,
    count: &mut Count,
    bar: &ProgressBar,
    err: &mut (dyn Write + Send),
) -> Result<()> {
    let rows = futures_util::stream::unfold(rows, async |mut rows| rows.recv().await.map(|row| (row, rows)));
    let published = rows.map(|row| async {
        match row {
            Ready::Unusable { line, offset, note } => (offset, Ok(Outcome::skipped(line, &note))),
            Ready::Job { line, offset, body } => {
                let id = template.id(line);
                let sent = match broker {
                    Some(broker) => send(broker, id, body).await.with_context(|| format!("line {line}")),
                    None => Ok(()),
                };
                (offset, sent.map(|()| Outcome::queued(line, id)))
            }
        }
    });
    let mut published = std::pin::pin!(published.buffered(AT_ONCE));
    while let Some((offset, outcome)) = published.next().await {
        let outcome = outcome?;
        if outcome.job_id.is_some() {
            count.queued += 1;
        } else {
            let counter = if outcome.note.starts_with(DUPLICATE) { &mut count.duplicate } else { &mut count.unusable };
            *counter += 1;
            let skipped = count.duplicate + count.unusable;
            if skipped <= SHOWN {
                bar.suspend(|| writeln!(err, "line {}: {}; skipped", outcome.line, outcome.note))?;
            } else if skipped == SHOWN + 1 {
                bar.suspend(|| writeln!(err, "further skipped rows are in the result file"))?;
            }
        }
        if let Some(results) = &mut results {
            results.add(&outcome)?;
        }
        bar.set_position(offset);
        bar.set_message(format!("{} queued, {} skipped", count.queued, count.duplicate + count.unusable));
    }
    Ok(())
}

/// Publishes a job, and repeats that for a minute until it is confirmed.
async fn send(broker: &dyn Broker, id: uuid::Uuid, body: Zeroizing<Vec<u8>>) -> Result<()> {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        message_id: Some(id.to_string()),
        ..Properties::default()
    };
    let publication = Publication { to: Destination::Requests, properties, body: body.to_vec().into() };
    let began = tokio::time::Instant::now();
    loop {
        match broker.publish(publication.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn print_summary(args: &Options, count: &Count, path: &Path, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let result = (!args.dry_run).then(|| path.display().to_string());
    if args.ask.output.json {
        let counts = BTreeMap::from([
            ("queued", count.queued),
            ("queued_before", count.earlier.rows),
            ("duplicates", count.duplicate),
            ("unusable", count.unusable),
        ]);
        return writeln!(out, "{:#}", json!({ "rows": counts, "dry_run": args.dry_run, "result": result }));
    }
    let word = if args.dry_run { "would be queued" } else { "queued" };
    writeln!(
        out,
        "{} {word}, {} duplicates and {} unusable rows skipped",
        count.queued, count.duplicate, count.unusable
    )?;
    if count.earlier.rows > 0 {
        writeln!(out, "{} were queued before", count.earlier.rows)?;
    }
    if count.earlier.unusable > 0 {
        writeln!(out, "{} unusable rows were skipped before", count.earlier.unusable)?;
    }
    match result {
        Some(result) => writeln!(out, "{result}"),
        None => Ok(()),
    }
}

impl Options {
    /// Publishes the jobs, or with `--status` requests their states.
    pub(super) async fn run(&self, ctx: &mut Context<'_>) -> Result<Exit> {
        if self.status { status::status(self, ctx).await } else { submit_csv(self, ctx).await }
    }
}

//! `batch`: the engine on a file.
//!
//! The rule it keeps: the exit code is 0 only if every job of the input ended as completed or previewed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use super::run::stop_in_time;
use super::{Context, Exit};
use crate::app::{self, Worker};
use crate::broker::Broker;
use crate::broker::spool::{EventFile, Events, Source, SpoolBroker, SpoolConfig};
use crate::engine::Policy;
use crate::job::wait::Waiting;
use crate::job::{JobKey, JobRecord};
use crate::store::{Store, Table};
use crate::telemetry::lines::LastWords;

/// `batch`
#[derive(Debug, Args)]
pub struct Options {
    /// Jobs: one JSON object on each line, or each over several lines; - for stdin.
    #[arg(long, value_name = "JOBS")]
    input: PathBuf,
    /// The file for events, one JSON object on each line; - for stdout.
    #[arg(long, value_name = "OUT")]
    events: PathBuf,
}

impl Options {
    /// Works through a file of jobs.
    pub(super) async fn run(self, ctx: &Context<'_>) -> Result<Exit> {
        let config = ctx.load()?;
        let source = if self.input == Path::new("-") {
            Source::stdin()
        } else {
            Source::file(&self.input).await.context("--input")?
        };
        let events = if self.events == Path::new("-") {
            Events::Stdout
        } else {
            Events::File(EventFile::open(&self.events).context("--events")?)
        };
        let letters = config.worker.state_dir.join("dead-letters.ndjson");
        let settings = SpoolConfig {
            in_hand: config.worker.concurrency as usize,
            dead_letters: Some(letters),
            ..SpoolConfig::default()
        };
        let stop = stop_in_time(&config)?;
        // The store creates the state directory (0700), which also contains the dead letters' file.
        let store = app::store(&config).await?;
        tokio::select! {
            () = app::wait_for_time(&store) => {}
            () = stop.cancelled() => return Ok(Exit::Failed),
        }
        let spool = SpoolBroker::open(source, events, settings)?;
        // The file is the operator's own: it has no sender, so no signature is required.
        let policy = Policy { has_senders: false, ..app::policy(&config) };
        let worker = Worker::with_policy(&config, Arc::clone(&spool) as Arc<dyn Broker>, store, policy)?;
        let engine = Arc::clone(&worker.engine);
        // If events cannot be written, no job's outcome is reported: so no further job is begun.
        let mut shut = spool.shut();
        let stopping = stop.clone();
        tokio::spawn(async move {
            if shut.wait_for(Option::is_some).await.is_ok() {
                stopping.cancel();
            }
        });
        worker.run(stop).await?;
        if let Some(why) = spool.shut().borrow().clone() {
            anyhow::bail!(
                "--events: nobody reads stdout any more ({why}). No further job was begun. Run the command again with \
                 the same input and state directory: it goes on from the checkpoints"
            );
        }
        if let Some(error) = spool.input_error() {
            anyhow::bail!("--input could not be read to its end: {error}");
        }
        let waiting = awaiting_input(engine.store())?;
        let mut failed = 0;
        let mut done = 0;
        for (family, _, word, count) in engine.figures().labelled() {
            if family == "jobs_settled" {
                match word {
                    "completed" | "previewed" => done += count,
                    _ => failed += count,
                }
            }
        }
        summary(&mut LastWords, done, failed, waiting.len() as u64)?;
        Ok(match (failed, waiting.is_empty(), spool.abandoned()) {
            (0, true, 0) => Exit::Done,
            (0, false, 0) => Exit::Awaiting,
            _ => Exit::Failed,
        })
    }
}

fn summary(err: &mut (dyn Write + Send), done: u64, failed: u64, waiting: u64) -> io::Result<()> {
    // One write, because each write may wait for a reader.
    err.write_all(format!("{done} completed, {failed} not completed, {waiting} waiting for input\n").as_bytes())
}

/// The open jobs that wait for a person or an operator.
fn awaiting_input(store: &dyn Store) -> Result<Vec<JobKey>> {
    let mut keys = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(Table::Job, b"", after.as_deref(), 256)?;
        let Some((last, _)) = page.last() else { return Ok(keys) };
        after = Some(last.clone());
        for (key, value) in page {
            let waits = JobRecord::from_bytes(&value)?
                .waiting
                .is_some_and(|(why, _)| matches!(why, Waiting::Input | Waiting::Guard));
            let ended = store.get(Table::Ended, &key)?.is_some();
            if let (true, false, Some(key)) = (waits, ended, JobKey::from_bytes(&key)) {
                keys.push(key);
            }
        }
    }
}

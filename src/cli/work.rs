//! `run` and `batch`: the same engine on AMQP, and on a file.
//!
//! The rule it keeps: `batch` says 0 only where every job of its input ended well.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::args::Batch;
use crate::app::{self, Worker};
use crate::broker::Broker;
use crate::broker::amqp::AmqpBroker;
use crate::broker::spool::{EventFile, Events, Source, SpoolBroker, SpoolConfig};
use crate::config::Config;
use crate::engine::Policy;
use crate::job::wait::Waiting;
use crate::job::{JobKey, JobRecord};
use crate::service;
use crate::store::{Store, Table};
use crate::telemetry::lines;

/// Works on AMQP until a signal asks to stop.
pub async fn run(config: &Config) -> Result<Exit> {
    let stop = app::stop_signal()?;
    tokio::spawn(end_late(stop.clone(), config.worker.drain_timeout + LATE));
    tokio::spawn(lines::tell_losses());
    let prepared = tokio::select! {
        prepared = prepare(config) => prepared?,
        // Nothing was taken yet: there is nothing to drain.
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let Some((broker, worker)) = prepared else { return Ok(Exit::Usage) };
    worker.run_with_ops(config, stop).await?;
    broker.close().await;
    tracing::info!("drained");
    Ok(Exit::Done)
}

/// A stop takes at most so much longer than `worker.drain_timeout`.
const LATE: Duration = Duration::from_millis(4300);

/// How long the last line of the log has to be written.
const LAST_LINE: Duration = Duration::from_millis(200);

/// Ends the process where a stop takes too long, whatever it hangs on: what is not done is done after the
/// restart, as after a power cut.
async fn end_late(stop: CancellationToken, limit: Duration) {
    stop.cancelled().await;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!("the stop took too long; the process ends as it is");
        // For the thread that writes the line; where nobody reads it, nothing is waited for.
        std::thread::sleep(LAST_LINE);
        std::process::exit(1);
    });
}

/// Opens the store and connects; `None` where the broker cannot be used as configured.
async fn prepare(config: &Config) -> Result<Option<(Arc<AmqpBroker>, Worker)>> {
    // The store first: a worker that cannot open it must not take deliveries.
    let store = app::store(config).await?;
    app::wait_for_time(&store).await;
    service::waits("waiting for the broker");
    let broker = match app::broker(config, true).await {
        Ok(broker) => broker,
        Err(error) => {
            // Only what a person must mend ends up here; an absent broker is waited for.
            tracing::error!(error = format!("{error:#}"), "the broker cannot be used as configured");
            return Ok(None);
        }
    };
    let worker = Worker::with_store(config, Arc::clone(&broker) as Arc<dyn Broker>, store)?;
    Ok(Some((broker, worker)))
}

/// Works through a file of jobs.
pub async fn batch(args: &Batch, config: &Config, err: &mut (dyn Write + Send)) -> Result<Exit> {
    let source = if args.input == Path::new("-") {
        Source::stdin()
    } else {
        Source::file(&args.input).await.context("--input")?
    };
    let events = if args.events == Path::new("-") {
        Events::Stdout
    } else {
        Events::File(EventFile::open(&args.events).context("--events")?)
    };
    let letters = config.worker.state_dir.join("dead-letters.ndjson");
    let settings = SpoolConfig {
        in_hand: config.worker.concurrency as usize,
        dead_letters: Some(letters),
        ..SpoolConfig::default()
    };
    let stop = app::stop_signal()?;
    tokio::spawn(end_late(stop.clone(), config.worker.drain_timeout + LATE));
    tokio::spawn(lines::tell_losses());
    // The state directory is made (0700) by the store, which the dead letters' file lies beside.
    let store = app::store(config).await?;
    tokio::select! {
        () = app::wait_for_time(&store) => {}
        () = stop.cancelled() => return Ok(Exit::Failed),
    }
    let spool = SpoolBroker::open(source, events, settings)?;
    // The file is the operator's own: it has no sender who could be asked for a signature.
    let policy = Policy { has_senders: false, ..app::policy(config) };
    let worker = Worker::with_policy(config, Arc::clone(&spool) as Arc<dyn Broker>, store, policy)?;
    let engine = Arc::clone(&worker.engine);
    // Without events nobody would hear how a job ended: no further one is begun.
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
            "--events: nobody reads stdout any more ({why}). No further job was begun; run it again with the same \
             input and state directory, and it goes on from what is done"
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
    summary(err, done, failed, waiting.len() as u64)?;
    Ok(match (failed, waiting.is_empty(), spool.abandoned()) {
        (0, true, 0) => Exit::Done,
        (0, false, 0) => Exit::Awaiting,
        _ => Exit::Failed,
    })
}

fn summary(err: &mut (dyn Write + Send), done: u64, failed: u64, waiting: u64) -> io::Result<()> {
    // In one write: each may have to wait for a reader.
    err.write_all(format!("{done} completed, {failed} not completed, {waiting} waiting for input\n").as_bytes())
}

/// The open jobs that wait for a person, an operator among them.
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

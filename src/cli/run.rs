//! `run`: the engine on AMQP.
//!
//! The rule it keeps: a worker that cannot open its store takes no delivery; a stop ends in its time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::{Context, Exit};
use crate::app::{self, Worker};
use crate::broker::Broker;
use crate::broker::amqp::AmqpBroker;
use crate::config::Config;
use crate::service;
use crate::telemetry::lines;

/// Works on AMQP until a signal asks to stop.
pub(super) async fn run(ctx: &Context<'_>) -> Result<Exit> {
    let config = ctx.load()?;
    let stop = stop_in_time(&config)?;
    let prepared = tokio::select! {
        prepared = prepare(&config) => prepared?,
        // Nothing was taken yet: there is nothing to drain.
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let Some((broker, worker)) = prepared else { return Ok(Exit::Usage) };
    worker.run_with_ops(&config, stop).await?;
    broker.close().await;
    tracing::info!("drained");
    Ok(Exit::Done)
}

/// The stop that a signal asks for. The process ends soon after, whatever hangs.
pub(super) fn stop_in_time(config: &Config) -> Result<CancellationToken> {
    let stop = app::stop_signal()?;
    tokio::spawn(end_late(stop.clone(), config.worker.drain_timeout + LATE));
    tokio::spawn(lines::tell_losses());
    Ok(stop)
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

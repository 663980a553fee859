//! `run`: the engine on AMQP.
//!
//! The rule it keeps: a worker that cannot open its store takes no delivery. A stop ends within its time limit.

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

/// Works on AMQP until a signal stops it.
pub(super) async fn run(ctx: &Context<'_>) -> Result<Exit> {
    let config = ctx.load()?;
    let stop = stop_in_time(&config)?;
    let prepared = tokio::select! {
        prepared = prepare(&config) => prepared?,
        // No delivery was taken yet, so there is nothing to drain.
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let Some((broker, worker)) = prepared else { return Ok(Exit::Usage) };
    worker.run_with_ops(&config, stop).await?;
    broker.close().await;
    tracing::info!("drained");
    Ok(Exit::Done)
}

/// The token that a signal cancels. The process then ends within its time limit, whatever hangs.
pub(super) fn stop_in_time(config: &Config) -> Result<CancellationToken> {
    let stop = app::stop_signal()?;
    tokio::spawn(end_late(stop.clone(), config.worker.drain_timeout + LATE));
    tokio::spawn(lines::report_losses());
    Ok(stop)
}

/// The longest time that a stop takes beyond `worker.drain_timeout`.
const LATE: Duration = Duration::from_millis(4300);

/// The time for writing the last line of the log.
const LAST_LINE: Duration = Duration::from_millis(200);

/// Ends the process if a stop takes too long, whatever hangs. The rest of the work is done after the restart, as after a
/// power cut.
async fn end_late(stop: CancellationToken, limit: Duration) {
    stop.cancelled().await;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!("the stop took too long; the process ends now, and the next start goes on from the store");
        // Time for the thread that writes the line. If nobody reads the log, the process ends all the same.
        std::thread::sleep(LAST_LINE);
        std::process::exit(1);
    });
}

/// Opens the store and connects; `None` if the broker cannot be used as configured.
async fn prepare(config: &Config) -> Result<Option<(Arc<AmqpBroker>, Worker)>> {
    // The store first: a worker that cannot open it must not take deliveries.
    let store = app::store(config).await?;
    app::wait_for_time(&store).await;
    service::waits("waiting for the broker");
    let broker = match app::broker(config, true).await {
        Ok(broker) => broker,
        Err(error) => {
            // Only a fault that a person must correct is an error here; an unreachable broker is waited for.
            tracing::error!(error = format!("{error:#}"), "the broker cannot be used as configured");
            return Ok(None);
        }
    };
    let worker = Worker::with_store(config, Arc::clone(&broker) as Arc<dyn Broker>, store)?;
    Ok(Some((broker, worker)))
}

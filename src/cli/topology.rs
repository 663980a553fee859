//! `topology`: declare the AMQP names, or write them down for the broker's operator.
//!
//! The rule it keeps: a difference on the broker is reported, and nothing is deleted.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use super::common::Output;
use super::{Context, Exit};
use crate::app;
use crate::broker::amqp::AmqpBroker;
use crate::broker::topology::Topology;
use crate::config::Config;

/// `topology`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Declare everything on the configured broker.
    #[command(after_help = "Example:\n  erasure-worker topology apply --config erasure-worker.toml")]
    Apply(Output),
    /// Print definitions.json, as `rabbitmqctl import_definitions` takes it.
    #[command(after_help = "Example:\n  erasure-worker topology export > definitions.json")]
    Export,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let config = ctx.load()?;
        let settings = app::amqp(&config, false)?;
        let topology = Topology::new(&settings.prefix);
        match self {
            Command::Export => {
                writeln!(ctx.out, "{:#}", topology.definitions(&vhost(&config)))?;
                Ok(Exit::Done)
            }
            Command::Apply(output) => {
                if let Err(error) = AmqpBroker::declare_topology(&settings).await {
                    let exit = if error.is_permanent() { Exit::Usage } else { Exit::Failed };
                    tracing::error!(%error, "the topology could not be declared");
                    return Ok(exit);
                }
                let names: Vec<_> = topology.exchanges.iter().map(|exchange| &exchange.name).collect();
                let queues: Vec<_> = topology.queues.iter().map(|queue| &queue.name).collect();
                if output.json {
                    writeln!(ctx.out, "{:#}", json!({ "exchanges": names, "queues": queues }))?;
                } else {
                    writeln!(ctx.out, "declared {} exchanges and {} queues", names.len(), queues.len())?;
                    for name in names.iter().chain(&queues) {
                        writeln!(ctx.out, "  {name}")?;
                    }
                }
                Ok(Exit::Done)
            }
        }
    }
}

/// The virtual host in the configured URL; `/` if there is none.
fn vhost(config: &Config) -> String {
    let path = config.broker().ok().and_then(|amqp| {
        let url = url::Url::parse(secrecy::ExposeSecret::expose_secret(&amqp.url)).ok()?;
        Some(percent_encoding::percent_decode_str(url.path().trim_start_matches('/')).decode_utf8_lossy().into_owned())
    });
    path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned())
}

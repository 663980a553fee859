//! `zeta-import export`, `zeta-import settle`: the Loyalty platform's deletion file and its result.
//!
//! The rule it keeps: the file's content is never printed, because it names people.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::common::Ask;
use super::print::{field, list};
use super::{Context, Exit};
use crate::ops::client::{Body, ClientError, OpsApi};

/// `zeta-import`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Close the open deletion file, so that it can be uploaded to the platform.
    #[command(after_help = "Example:\n  erasure-worker zeta-import export --system loyalty")]
    Export(Export),
    /// Read the platform's result file: each member's job goes on with its result.
    #[command(after_help = "Example:\n  erasure-worker zeta-import settle result.csv")]
    Settle(Settle),
}

/// `zeta-import export`
#[derive(Debug, Args)]
pub struct Export {
    /// The Loyalty system; needed if several are configured.
    #[arg(long, value_name = "NAME")]
    system: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// `zeta-import settle`
#[derive(Debug, Args)]
pub struct Settle {
    /// The result file, as downloaded.
    #[arg(value_name = "RESULT.csv")]
    result: PathBuf,
    /// The Loyalty system; needed if several are configured.
    #[arg(long, value_name = "NAME")]
    system: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Export(options) => options.run(ctx).await,
            Command::Settle(options) => options.run(ctx).await,
        }
    }
}

impl Export {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let ask = async {
            let api = ctx.connect(&self.ask.ops)?;
            let system = system(&api, self.system.as_deref()).await?;
            api.post(&["v1", "zeta-import", &system, "export"], Body::Empty).await
        };
        let answer = ask.await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let of = |name| field(answer, name);
            writeln!(ctx.out, "{}", of("path"))?;
            writeln!(ctx.out, "file {}, {} member(s): upload it, then settle its result", of("batch"), of("rows"))
        })
    }
}

impl Settle {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let ask = async {
            let csv = std::fs::read(&self.result).map_err(|error| {
                ClientError::Setting(format!("{}: cannot be read: {}", self.result.display(), error.kind()))
            })?;
            let api = ctx.connect(&self.ask.ops)?;
            let system = system(&api, self.system.as_deref()).await?;
            api.post(&["v1", "zeta-import", &system, "settle"], Body::Csv(csv)).await
        };
        let answer = ask.await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let of = |name| field(answer, name);
            writeln!(ctx.out, "file {}: {} deleted, {} skipped", of("batch"), of("deleted"), of("skipped"))?;
            writeln!(ctx.out, "{} missing ({} with an unknown status)", of("missing"), of("doubtful"))?;
            writeln!(
                ctx.out,
                "{} rows of the result are in no exported deletion file that waits for its result",
                of("unknown")
            )
        })
    }
}

/// The named system, else the only system with an import.
async fn system(api: &OpsApi, named: Option<&str>) -> Result<String, ClientError> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let answer = api.get(&["v1", "systems"], &[]).await?;
    let by_import = |system: &&Value| system.get("import").and_then(Value::as_bool) == Some(true);
    let names: Vec<String> =
        list(&answer, "systems").iter().filter(by_import).map(|system| field(system, "name")).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ClientError::Setting("the worker has no Loyalty system that works by import".to_owned())),
        several => {
            let names = several.join(", ");
            Err(ClientError::Setting(format!("several systems work by import; name one with --system: {names}")))
        }
    }
}

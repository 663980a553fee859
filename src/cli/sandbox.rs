//! `sandbox`: the stand-ins on a port of this machine, with people to erase.
//!
//! The rule it keeps: the stand-ins know the person of the example job that `init` writes.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use erasure_connector::Connector;
use jiff::Timestamp;
use serde_json::json;

use super::connector::load_with_text;
use super::{Context, Exit};
use crate::config::example::SANDBOX_ADDRESS;
use crate::kit;
use crate::sandbox::{Described as _, EXAMPLE_NUMBER, KINDS, RunningSandbox, Sandbox};

/// People besides the one of the example job.
const PEOPLE: std::ops::Range<u64> = 1000..1100;

/// The system's name of the first connector file's stand-in.
const CONNECTOR: &str = "connector";

/// `sandbox`
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = SANDBOX_ADDRESS)]
    listen: SocketAddr,
    /// Also serve a stand-in made from a connector file; may be given several times.
    #[arg(long, value_name = "FILE")]
    connector: Vec<PathBuf>,
}

impl Options {
    /// Serves until a signal stops it.
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let running = Sandbox::start(self.listen).await?;
        let mut served = Vec::new();
        for (place, path) in self.connector.iter().enumerate() {
            let Some((file, _)) = load_with_text(path, ctx)? else { return Ok(Exit::Usage) };
            // The first one has the plain name.
            let name = if place == 0 { CONNECTOR.to_owned() } else { format!("{CONNECTOR}@{}", file.name) };
            let file = Arc::new(file);
            running.sandbox().world(|world| world.describe(&name, Box::new(kit::served(&file))));
            served.push((name, path.display().to_string(), file));
        }
        running.sandbox().add_example_person();
        running.sandbox().add_people(PEOPLE);
        listing(&running, ctx.out)?;
        for (place, (name, path, file)) in served.iter().enumerate() {
            described(&running, (place + 1, name), path, file, ctx.out)?;
        }
        tokio::signal::ctrl_c().await?;
        running.stop().await;
        Ok(Exit::Done)
    }
}

/// The configuration and an example job for a connector file's stand-in.
fn described(
    running: &RunningSandbox,
    (number, name): (usize, &str),
    path: &str,
    file: &Arc<Connector>,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    let mut example = kit::served(file);
    example.add_person(EXAMPLE_NUMBER);
    let system = file.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    writeln!(out, "\n# {path}: configuration\n[systems.{system}]\n{}", example.table(&running.url(name), path))?;
    if let Some(target) = example.target(&system, EXAMPLE_NUMBER) {
        let job = json!({
            "schema": "erasure.job/v1",
            "job_id": format!("00000000-0000-4000-8000-{number:012}"),
            // That of the configuration that `init` writes.
            "environment": "sandbox",
            "requested_at": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "targets": [target],
        });
        writeln!(out, "# {path}: a job\n{job}")?;
    }
    out.flush()
}

fn listing(running: &RunningSandbox, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    writeln!(out, "stand-ins on http://{}", running.addr)?;
    for path in KINDS.iter().flat_map(|kind| kind.paths) {
        writeln!(out, "  {}", running.url(path))?;
    }
    writeln!(out, "ledger: {}  people: {}", running.url("_sandbox/ledger"), running.url("_sandbox/state"))?;
    out.flush()
}

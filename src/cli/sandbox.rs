//! `sandbox`: the stand-ins on a port of this machine, with people to erase.
//!
//! The rule it keeps: the stand-ins know the person of the example job that `init` writes.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};
use crate::config::example::SANDBOX_ADDRESS;
use crate::sandbox::{KINDS, RunningSandbox, Sandbox};

/// People besides the one of the example job.
const PEOPLE: std::ops::Range<u64> = 1000..1100;

/// `sandbox`
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = SANDBOX_ADDRESS)]
    listen: SocketAddr,
}

impl Options {
    /// Serves until a signal stops it.
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> Result<Exit> {
        let running = Sandbox::start(self.listen).await?;
        running.sandbox().add_example_person();
        running.sandbox().add_people(PEOPLE);
        listing(&running, ctx.out)?;
        tokio::signal::ctrl_c().await?;
        running.stop().await;
        Ok(Exit::Done)
    }
}

fn listing(running: &RunningSandbox, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    writeln!(out, "stand-ins on http://{}", running.addr)?;
    for path in KINDS.iter().flat_map(|kind| kind.paths) {
        writeln!(out, "  {}", running.url(path))?;
    }
    writeln!(out, "ledger: {}  people: {}", running.url("_sandbox/ledger"), running.url("_sandbox/state"))?;
    out.flush()
}

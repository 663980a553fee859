//! `sandbox`: the stand-ins on a port of this machine, with people to erase.
//!
//! The rule it keeps: the person of the example job that `init` writes is among them.

use std::io::Write;

use anyhow::Result;

use super::Exit;
use super::args;
use crate::sandbox::{KINDS, RunningSandbox, Sandbox};

/// People beside the one of the example job.
const PEOPLE: std::ops::Range<u64> = 1000..1100;

/// Serves until a signal asks to stop.
pub async fn sandbox(args: &args::Sandbox, out: &mut (dyn Write + Send)) -> Result<Exit> {
    let running = Sandbox::start(args.listen).await?;
    running.sandbox().add_example_person();
    running.sandbox().add_people(PEOPLE);
    listing(&running, out)?;
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(Exit::Done)
}

fn listing(running: &RunningSandbox, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    writeln!(out, "stand-ins on http://{}", running.addr)?;
    for path in KINDS.iter().flat_map(|kind| kind.paths) {
        writeln!(out, "  {}", running.url(path))?;
    }
    writeln!(out, "ledger: {}  people: {}", running.url("_sandbox/ledger"), running.url("_sandbox/state"))?;
    out.flush()
}

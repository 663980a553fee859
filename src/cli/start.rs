//! Arguments → command → exit code.
//!
//! The rule it keeps: results on stdout, everything else on stderr; 0 done, 1 failed, 2 usage or
//! configuration, 3 input awaited.

use std::io::{BufReader, stderr, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use super::{Cli, Context, Exit};
use crate::config::{ConfigError, Surroundings};
use crate::telemetry::lines::last_words;
use crate::{app, crash, process, telemetry};

/// Carries out what the process's arguments ask for.
pub fn start() -> ExitCode {
    let cli = Cli::parse();
    let telemetry = match telemetry::init() {
        Ok(telemetry) => telemetry,
        Err(error) => {
            last_words(&format!("erasure-worker: {error}"));
            return Exit::Usage.into();
        }
    };
    if let Err(error) = crash::check() {
        last_words(&format!("erasure-worker: {error}"));
        return Exit::Usage.into();
    }
    if let Err(error) = process::keep_memory_private() {
        tracing::warn!(%error, "this process could leave an image of its memory behind");
    }
    app::install_tls();
    let result =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from).and_then(
            |runtime| {
                let done = runtime.block_on(command(cli));
                // A look-up of a name, say, may take longer than anybody waits for.
                runtime.shutdown_timeout(Duration::from_secs(1));
                done
            },
        );
    // The lines of the log come before what is said last.
    drop(telemetry);
    match result {
        Ok(exit) => exit.into(),
        // Whoever read the result has seen enough of it.
        Err(error) if is_shut(&error) => Exit::Failed.into(),
        Err(error) => {
            let exit = if error.is::<ConfigError>() { Exit::Usage } else { Exit::Failed };
            last_words(&format!("erasure-worker: {error:#}"));
            exit.into()
        }
    }
}

/// True for a write to stdout that nobody reads any more. A call's error is wrapped in others.
fn is_shut(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn command(cli: Cli) -> anyhow::Result<Exit> {
    let mut ctx = Context {
        config: cli.config,
        surroundings: Surroundings::of_process(),
        input: &mut BufReader::new(stdin()),
        out: &mut stdout(),
        err: &mut stderr(),
    };
    cli.command.run(&mut ctx).await
}

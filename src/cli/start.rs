//! The process's start: from its arguments to its exit code.
//!
//! The rule it keeps: results on stdout, everything else on stderr; exit codes as [`Exit`] lists them.

use std::io::{BufReader, stderr, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use futures_util::FutureExt as _;

use super::{Cli, Context, Exit};
use crate::config::{ConfigError, Surroundings};
use crate::telemetry::lines::last_words;
use crate::{app, crash, process, telemetry};

/// Runs the command of the process's arguments.
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
        tracing::warn!(%error, "core dumps could not be disabled: a crash may write this process's memory to disk");
    }
    app::install_tls();
    let result =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from).and_then(
            |runtime| {
                // Boxed: the runtime's code exists once for each kind of future, and with it a copy of all commands.
                let done = runtime.block_on(command(cli).boxed_local());
                // A blocking task, for example a name lookup, may take too long to wait for.
                runtime.shutdown_timeout(Duration::from_secs(1));
                done
            },
        );
    // All log lines are written before the last message.
    drop(telemetry);
    match result {
        Ok(exit) => exit.into(),
        // The reader of stdout has closed it: no message is needed.
        Err(error) if is_shut(&error) => Exit::Failed.into(),
        Err(error) => {
            let exit = if error.is::<ConfigError>() { Exit::Usage } else { Exit::Failed };
            last_words(&format!("erasure-worker: {error:#}"));
            exit.into()
        }
    }
}

/// True for a write to a closed stdout. The error of a call to a system is not one: it is wrapped in another error.
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

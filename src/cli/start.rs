//! Arguments → command → exit code.
//!
//! The rule it keeps: results on stdout, everything else on stderr; 0 done, 1 failed, 2 usage or
//! configuration, 3 input awaited.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use super::args::{ConfigCommand, KeysCommand, SystemsCommand};
use super::ops_args::{JobsCommand, ReceiptCommand};
use super::{Cli, Command, Exit};
use crate::config::{Config, ConfigError, Surroundings};
use crate::telemetry::lines::{LastWords, last_words};
use crate::{app, crash, process, telemetry};
use clap::Parser as _;

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
    let surroundings = Surroundings::of_process();
    let load = || Config::load(cli.config.as_deref(), &surroundings).and_then(app::usable);
    let (mut out, mut err) = (stdout(), stderr());
    Ok(match &cli.command {
        Command::Init(args) => super::init::init(args, jiff::Timestamp::now(), &mut out, &mut err)?,
        Command::Demo(args) => super::demo::demo(args, &mut out).await?,
        Command::Run => super::work::run(&load()?).await?,
        Command::Batch(args) => super::work::batch(args, &load()?, &mut LastWords).await?,
        Command::Submit(args) => super::submit::submit(args, &load()?, &mut out, &mut err).await?,
        Command::Topology(args) => super::topology::topology(args, &load()?, &mut out).await?,
        Command::Systems(SystemsCommand::Check { systems, output }) => {
            super::systems::check(systems, output.json, &load()?, &mut out).await?
        }
        Command::Systems(asked @ (SystemsCommand::List(_) | SystemsCommand::Release { .. })) => {
            super::systems::ask(asked, &surroundings, &mut out, &mut err).await?
        }
        Command::Sandbox(args) => super::sandbox::sandbox(args, &mut out).await?,
        Command::Config(ConfigCommand::Check(output)) => {
            super::check::config_check(cli.config.as_deref(), &surroundings, output.json, &mut out)?
        }
        Command::Keys(KeysCommand::New { file }) => super::keys::new_key(file.as_deref(), &mut out, &mut err)?,
        Command::Keys(KeysCommand::Public) => {
            writeln!(out, "{:#}", app::keyring(&load()?)?.all_public_keys())?;
            Exit::Done
        }
        Command::Completions(args) => super::pages::completions(args, &mut out)?,
        Command::Man(args) => super::pages::man(args, &mut out, &mut err)?,
        Command::Jobs(JobsCommand::Find(args)) => {
            let mut input = std::io::BufReader::new(std::io::stdin());
            super::find::find(args, &load()?, &surroundings, &mut input, &mut out, &mut err).await?
        }
        Command::Jobs(args) => super::jobs::jobs(args, &surroundings, &mut out, &mut err).await?,
        Command::DeadLetters(args) => {
            super::dead_letters::dead_letters(args, &surroundings, &mut out, &mut err).await?
        }
        Command::Approvals(args) => super::approvals::approvals(args, &surroundings, &mut out, &mut err).await?,
        Command::Guard(args) => super::guard::guard(args, &surroundings, &mut out, &mut err).await?,
        Command::ZetaImport(args) => super::zeta_import::zeta_import(args, &surroundings, &mut out, &mut err).await?,
        Command::Schema(args) => super::schema::schema(args, &mut out)?,
        Command::Receipt(ReceiptCommand::Verify(args)) => {
            let ours = || Ok(app::keyring(&load()?)?.public_keys());
            super::receipt::verify(args, ours, &mut out, &mut err)?
        }
        Command::Receipt(ReceiptCommand::Export(args)) => {
            super::receipt::export(args, &surroundings, &mut out, &mut err).await?
        }
        Command::SubmitCsv(args) => super::members::run(args, load, &surroundings, &mut out, &mut err).await?,
    })
}

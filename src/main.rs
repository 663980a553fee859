//! Arguments → command → exit code.
//!
//! The rule it keeps: results on stdout, everything else on stderr; 0 done, 1 failed, 2 usage or
//! configuration, 3 input awaited.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use erasure_worker::cli::args::{ConfigCommand, KeysCommand, SystemsCommand};
use erasure_worker::cli::ops_args::{JobsCommand, ReceiptCommand};
use erasure_worker::cli::{self, Cli, Command, Exit};
use erasure_worker::config::{Config, ConfigError, Surroundings};
use erasure_worker::telemetry::lines::{LastWords, last_words};
use erasure_worker::{app, crash, process, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
        Command::Init(args) => cli::init::init(args, jiff::Timestamp::now(), &mut out, &mut err)?,
        Command::Demo(args) => cli::demo::demo(args, &mut out).await?,
        Command::Run => cli::work::run(&load()?).await?,
        Command::Batch(args) => cli::work::batch(args, &load()?, &mut LastWords).await?,
        Command::Submit(args) => cli::submit::submit(args, &load()?, &mut out, &mut err).await?,
        Command::Topology(args) => cli::topology::topology(args, &load()?, &mut out).await?,
        Command::Systems(SystemsCommand::Check { systems, output }) => {
            cli::systems::check(systems, output.json, &load()?, &mut out).await?
        }
        Command::Systems(asked @ (SystemsCommand::List(_) | SystemsCommand::Release { .. })) => {
            cli::systems::ask(asked, &surroundings, &mut out, &mut err).await?
        }
        Command::Sandbox(args) => cli::sandbox::sandbox(args, &mut out).await?,
        Command::Config(ConfigCommand::Check(output)) => {
            cli::check::config_check(cli.config.as_deref(), &surroundings, output.json, &mut out)?
        }
        Command::Keys(KeysCommand::New { file }) => cli::keys::new_key(file.as_deref(), &mut out, &mut err)?,
        Command::Keys(KeysCommand::Public) => {
            writeln!(out, "{:#}", app::keyring(&load()?)?.all_public_keys())?;
            Exit::Done
        }
        Command::Completions(args) => cli::pages::completions(args, &mut out)?,
        Command::Man(args) => cli::pages::man(args, &mut out, &mut err)?,
        Command::Jobs(JobsCommand::Find(args)) => {
            let mut input = std::io::BufReader::new(std::io::stdin());
            cli::find::find(args, &load()?, &surroundings, &mut input, &mut out, &mut err).await?
        }
        Command::Jobs(args) => cli::jobs::jobs(args, &surroundings, &mut out, &mut err).await?,
        Command::DeadLetters(args) => cli::dead_letters::dead_letters(args, &surroundings, &mut out, &mut err).await?,
        Command::Approvals(args) => cli::approvals::approvals(args, &surroundings, &mut out, &mut err).await?,
        Command::Guard(args) => cli::guard::guard(args, &surroundings, &mut out, &mut err).await?,
        Command::ZetaImport(args) => cli::zeta_import::zeta_import(args, &surroundings, &mut out, &mut err).await?,
        Command::Schema(args) => cli::schema::schema(args, &mut out)?,
        Command::Receipt(ReceiptCommand::Verify(args)) => {
            let ours = || Ok(app::keyring(&load()?)?.public_keys());
            cli::receipt::verify(args, ours, &mut out, &mut err)?
        }
        Command::Receipt(ReceiptCommand::Export(args)) => {
            cli::receipt::export(args, &surroundings, &mut out, &mut err).await?
        }
        Command::SubmitCsv(args) => cli::members::run(args, load, &surroundings, &mut out, &mut err).await?,
    })
}

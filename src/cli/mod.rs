//! The command line: a file for each command, with its arguments and its work.
//!
//! The rule it keeps: arguments that cannot be right are refused before anything is done, with exit code 2. Results go
//! to the context's `out` (stdout), everything else to its `err`. A command ends with an [`Exit`]. Each command's help
//! ends with an example.

mod approvals;
mod batch;
mod check;
mod common;
mod connector;
mod context;
mod dead_letters;
mod demo;
mod find;
mod guard;
mod init;
mod jobs;
mod keys;
mod members;
mod pages;
mod pausing;
mod print;
mod receipt;
mod run;
mod sandbox;
mod schema;
mod start;
mod store;
mod submit;
mod systems;
mod topology;
mod zeta_import;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use context::Context;
pub use start::start;

/// Carries out erasure requests (GDPR, CCPA) from a queue, durably, and reports only what is proven.
#[derive(Debug, Parser)]
#[command(name = "erasure-worker", version, max_term_width = 100, after_help = START)]
pub struct Cli {
    /// The configuration [default: ./erasure-worker.toml, else the user's, else /etc/erasure-worker/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "ERASURE_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const START: &str = "Example, from nothing to an erasure against the stand-ins:
  erasure-worker init trial
  erasure-worker sandbox &
  erasure-worker batch --config trial/erasure-worker.toml --input trial/job.json --events -

Exit codes: 0 done, 1 the work failed, 2 usage or configuration, 3 input is awaited.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration for the sandbox, a master key and an example job.
    #[command(after_help = "Example:\n  erasure-worker init trial")]
    Init(init::Options),
    /// Run a demonstration: stand-ins of the four systems, a queue, jobs, a summary.
    #[command(after_help = "Examples:\n  erasure-worker demo --jobs 200
  erasure-worker demo --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f")]
    Demo(demo::Options),
    /// Work on the jobs of the AMQP queue until SIGTERM or SIGINT, then drain.
    #[command(after_help = "Example:\n  erasure-worker run --config /etc/erasure-worker/config.toml")]
    Run,
    /// Work on jobs from a file, without a broker; if run again after a crash, it goes on.
    #[command(after_help = "Example:\n  erasure-worker batch --input jobs.ndjson --events events.ndjson")]
    Batch(batch::Options),
    /// Check jobs and publish them with confirms.
    #[command(after_help = "Examples:\n  erasure-worker submit --preview job.json
  erasure-worker submit --preview --requested-by ann job.json
  jq -c . *.json | erasure-worker submit -")]
    Submit(submit::Options),
    /// Publish a job for each line of a CSV file; the same file again gives the same jobs.
    #[command(after_help = "Examples:
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" --dry-run members.csv
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" members.csv
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" --status members.csv
  erasure-worker submit-csv --system cleeng --key customer_id --column Id --also customer_email=E-mail customers.csv
  erasure-worker submit-csv --system helpdesk --key user_id --column Id --also email=E-mail users.csv

For a connector, a database or a webhook, --key and --also take the names of its identifiers; a proof is an --also, too.

The result file has one row for each member: line, job_id, state, code, note. It has no identifiers.
A second run goes on where the first one ended; --status updates the states.")]
    SubmitCsv(Box<members::Options>),
    /// The deletion file for the Loyalty platform, and its result.
    #[command(
        subcommand,
        after_help = "Examples:\n  erasure-worker zeta-import export
  erasure-worker zeta-import settle result.csv"
    )]
    ZetaImport(zeta_import::Command),
    /// Ask a running worker about its jobs.
    #[command(subcommand, after_help = "Example:\n  erasure-worker jobs list --state failed")]
    Jobs(jobs::Command),
    /// List the jobs that need a person, and decide about them.
    #[command(subcommand, after_help = "Example:\n  erasure-worker dead-letters list --system cleeng")]
    DeadLetters(dead_letters::Command),
    /// List the erasures that wait for a second operator's approval, and decide about them.
    #[command(subcommand, after_help = "Example:\n  erasure-worker approvals report")]
    Approvals(approvals::Command),
    /// List the jobs above a ceiling, and release or end them.
    #[command(subcommand, after_help = "Example:\n  erasure-worker guard list")]
    Guard(guard::Command),
    /// Check or export the signed receipts.
    #[command(subcommand, after_help = "Example:\n  erasure-worker receipt verify receipt.jws")]
    Receipt(receipt::Command),
    /// Make a master key, or print the public keys: for checking receipts, and for sealing proofs.
    #[command(subcommand, after_help = "Example:\n  erasure-worker keys new master.key")]
    Keys(keys::Command),
    /// Declare the exchanges and queues, or print them for the broker's operator.
    #[command(subcommand, after_help = "Example:\n  erasure-worker topology export > definitions.json")]
    Topology(topology::Command),
    /// Probe the configured systems; or list their states, and end a hold.
    #[command(subcommand, after_help = "Example:\n  erasure-worker systems check cleeng")]
    Systems(systems::Command),
    /// Move a worker's store from its folder into a database.
    #[command(subcommand, after_help = "Example:\n  erasure-worker store copy --to postgres")]
    Store(store::Command),
    /// Serve stand-ins of the four systems, with faults on request.
    #[command(after_help = "Example:\n  erasure-worker sandbox --listen 127.0.0.1:8470")]
    Sandbox(sandbox::Options),
    /// Check the configuration.
    #[command(subcommand, after_help = "Example:\n  erasure-worker config check --config erasure-worker.toml")]
    Config(check::Command),
    /// Check connector files, show what one does, try them against stand-ins, or draft one for a database.
    #[command(subcommand, after_help = "Example:\n  erasure-worker connector check connectors/helpdesk.toml")]
    Connector(connector::Command),
    /// Print the JSON Schema of a message.
    #[command(after_help = "Example:\n  erasure-worker schema job > job.schema.json")]
    Schema(schema::Options),
    /// Print a completion script.
    #[command(after_help = "Example:
  erasure-worker completions bash > /etc/bash_completion.d/erasure-worker")]
    Completions(pages::Completions),
    /// Print a manual page, or write all of them.
    #[command(after_help = "Examples:\n  erasure-worker man | man -l -
  erasure-worker man dead-letters replay | man -l -
  erasure-worker man --out /usr/local/share/man/man1")]
    Man(pages::Man),
}

impl Command {
    /// Carries the command out.
    ///
    /// # Errors
    /// The command failed, or its results cannot be written.
    pub async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Init(options) => options.run(ctx),
            Command::Demo(options) => options.run(ctx).await,
            Command::Run => run::run(ctx).await,
            Command::Batch(options) => options.run(ctx).await,
            Command::Submit(options) => options.run(ctx).await,
            Command::SubmitCsv(options) => options.run(ctx).await,
            Command::ZetaImport(command) => command.run(ctx).await,
            Command::Jobs(command) => command.run(ctx).await,
            Command::DeadLetters(command) => command.run(ctx).await,
            Command::Approvals(command) => command.run(ctx).await,
            Command::Guard(command) => command.run(ctx).await,
            Command::Receipt(command) => command.run(ctx).await,
            Command::Keys(command) => command.run(ctx),
            Command::Topology(command) => command.run(ctx).await,
            Command::Systems(command) => command.run(ctx).await,
            Command::Store(command) => command.run(ctx).await,
            Command::Sandbox(options) => options.run(ctx).await,
            Command::Config(command) => command.run(ctx),
            Command::Connector(command) => command.run(ctx).await,
            Command::Schema(options) => options.run(ctx),
            Command::Completions(options) => options.run(ctx),
            Command::Man(options) => options.run(ctx),
        }
    }
}

/// The end of a command; the number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did its work.
    Done = 0,
    /// The work failed; for `batch`: a job did not complete.
    Failed = 1,
    /// The arguments or the configuration are wrong; nothing was done.
    Usage = 2,
    /// Input is awaited from a person.
    Awaiting = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

//! Every command with its flags.
//!
//! The rule it keeps: what can be judged from the arguments alone is refused here, with exit code
//! 2, and each command's help ends with an example.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::approvals_args::ApprovalsCommand;
use super::common::{AskOnly, OpsClient, Output};
use super::csv_args::SubmitCsv;
use super::guard_args::GuardCommand;
use super::ops_args::{DeadLettersCommand, JobsCommand, ReceiptCommand};
use crate::config::example::SANDBOX_ADDRESS;

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
    Init(Init),
    /// Show the whole story: stand-ins of the four systems, a queue, jobs, a summary.
    #[command(after_help = "Examples:\n  erasure-worker demo --jobs 200
  erasure-worker demo --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f")]
    Demo(Demo),
    /// Work on the jobs of the AMQP queue until SIGTERM or SIGINT, then drain.
    #[command(after_help = "Example:\n  erasure-worker run --config /etc/erasure-worker/config.toml")]
    Run,
    /// Work on jobs from a file, without a broker; run again after a crash, it goes on.
    #[command(after_help = "Example:\n  erasure-worker batch --input jobs.ndjson --events events.ndjson")]
    Batch(Batch),
    /// Check jobs and publish them with confirms.
    #[command(after_help = "Examples:\n  erasure-worker submit --preview job.json
  erasure-worker submit --preview --requested-by ann job.json
  jq -c . *.json | erasure-worker submit -")]
    Submit(Submit),
    /// Make a job of each line of a CSV file and publish them; the same file again gives the same jobs.
    #[command(after_help = "Examples:
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" --dry-run members.csv
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" members.csv
  erasure-worker submit-csv --system loyalty --key integration_id --column \"Integration ID\" --status members.csv
  erasure-worker submit-csv --system cleeng --key customer_id --column Id --also customer_email=E-mail customers.csv

The result file has one row a member: line, job_id, state, code, note. No identifier stands in it.
A second run goes on where the first one ended; --status brings the states up to date.")]
    SubmitCsv(Box<SubmitCsv>),
    /// The deletion file for the Loyalty platform, and its result.
    #[command(
        subcommand,
        after_help = "Examples:\n  erasure-worker zeta-import export
  erasure-worker zeta-import settle result.csv"
    )]
    ZetaImport(ZetaImportCommand),
    /// Ask a running worker about its jobs.
    #[command(subcommand, after_help = "Example:\n  erasure-worker jobs list --state failed")]
    Jobs(JobsCommand),
    /// Look at the jobs that need a person, and decide.
    #[command(subcommand, after_help = "Example:\n  erasure-worker dead-letters list --system cleeng")]
    DeadLetters(DeadLettersCommand),
    /// Look at what waits for a second operator's approval, and decide.
    #[command(subcommand, after_help = "Example:\n  erasure-worker approvals report")]
    Approvals(ApprovalsCommand),
    /// Look at the jobs above a ceiling, and let them go on or end them.
    #[command(subcommand, after_help = "Example:\n  erasure-worker guard list")]
    Guard(GuardCommand),
    /// Check or export the signed receipts.
    #[command(subcommand, after_help = "Example:\n  erasure-worker receipt verify receipt.jws")]
    Receipt(ReceiptCommand),
    /// Make a master key, or show the public keys: of the receipts, and to seal proofs for.
    #[command(subcommand, after_help = "Example:\n  erasure-worker keys new master.key")]
    Keys(KeysCommand),
    /// Declare the exchanges and queues, or write them down for the broker's operator.
    #[command(subcommand, after_help = "Example:\n  erasure-worker topology export > definitions.json")]
    Topology(TopologyCommand),
    /// Try the configured systems; or ask how they are doing, and end a hold.
    #[command(subcommand, after_help = "Example:\n  erasure-worker systems check cleeng")]
    Systems(SystemsCommand),
    /// Serve stand-ins of the four systems, with faults on request.
    #[command(after_help = "Example:\n  erasure-worker sandbox --listen 127.0.0.1:8470")]
    Sandbox(Sandbox),
    /// Check the configuration.
    #[command(subcommand, after_help = "Example:\n  erasure-worker config check --config erasure-worker.toml")]
    Config(ConfigCommand),
    /// Print the JSON Schema of a message.
    #[command(after_help = "Example:\n  erasure-worker schema job > job.schema.json")]
    Schema(Schema),
    /// Print a completion script.
    #[command(after_help = "Example:
  erasure-worker completions bash > /etc/bash_completion.d/erasure-worker")]
    Completions(Completions),
    /// Print a manual page, or write all of them.
    #[command(after_help = "Examples:\n  erasure-worker man | man -l -
  erasure-worker man dead-letters replay | man -l -
  erasure-worker man --out /usr/local/share/man/man1")]
    Man(Man),
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to write to; made where it is missing.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where the sandbox will listen.
    #[arg(long, value_name = "IP:PORT", default_value = SANDBOX_ADDRESS)]
    pub sandbox: SocketAddr,
}

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// How many jobs.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,
    /// A RabbitMQ to use instead of the embedded queue.
    #[arg(long, value_name = "URL")]
    pub amqp_url: Option<String>,
    /// Makes faults and their order repeatable.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Keep the events and the public keys in this folder, for `receipt verify`.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `batch`
#[derive(Debug, Args)]
pub struct Batch {
    /// Jobs, one JSON object a line, or each over several lines; - for stdin.
    #[arg(long, value_name = "JOBS")]
    pub input: PathBuf,
    /// Where events go, one JSON object a line; - for stdout.
    #[arg(long, value_name = "OUT")]
    pub events: PathBuf,
}

/// `submit`
#[derive(Debug, Args)]
pub struct Submit {
    /// Publish the jobs in preview mode: reads only, nothing is erased.
    #[arg(long)]
    pub preview: bool,
    /// Keep the preview for a second operator's approval, which erases exactly what it found: your name.
    #[arg(long, value_name = "WHO", requires = "preview")]
    pub requested_by: Option<String>,
    /// One job, or one a line; - for stdin. With one fault nothing is published; the fault names its line.
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `zeta-import`
#[derive(Debug, Subcommand)]
pub enum ZetaImportCommand {
    /// Close the open deletion file, so that it can be handed to the platform.
    #[command(after_help = "Example:\n  erasure-worker zeta-import export --system loyalty")]
    Export(ZetaExport),
    /// Read the platform's result file: each member's job goes on by what it says.
    #[command(after_help = "Example:\n  erasure-worker zeta-import settle result.csv")]
    Settle(ZetaSettle),
}

/// `zeta-import export`
#[derive(Debug, Args)]
pub struct ZetaExport {
    /// The Loyalty system; needed where several are configured.
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `zeta-import settle`
#[derive(Debug, Args)]
pub struct ZetaSettle {
    /// The result file, as downloaded.
    #[arg(value_name = "RESULT.csv")]
    pub result: PathBuf,
    /// The Loyalty system; needed where several are configured.
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a master key: 32 random bytes as hexadecimal digits.
    #[command(after_help = "Examples:\n  erasure-worker keys new /etc/erasure-worker/master.key
  erasure-worker keys new | secret-store put erasure-master-key")]
    New {
        /// A new file for it, readable by its owner only; without it, stdout.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the public keys as a JWK set: those of the receipts (use: sig), and the one to seal proofs for (use: enc).
    #[command(after_help = "Example:\n  erasure-worker keys public > jwks.json")]
    Public,
}

/// `topology`
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Declare everything on the configured broker.
    #[command(after_help = "Example:\n  erasure-worker topology apply --config erasure-worker.toml")]
    Apply(Output),
    /// Print definitions.json, as `rabbitmqctl import_definitions` takes it.
    #[command(after_help = "Example:\n  erasure-worker topology export > definitions.json")]
    Export,
}

/// `systems`
#[derive(Debug, Subcommand)]
pub enum SystemsCommand {
    /// One harmless read a system: address, credential, region. Nothing is erased.
    #[command(after_help = "Example:\n  erasure-worker systems check --json")]
    Check {
        /// Only these systems.
        #[arg(value_name = "NAME")]
        systems: Vec<String>,
        /// Printing.
        #[command(flatten)]
        output: Output,
    },
    /// Ask the running worker how each system is doing.
    #[command(after_help = "Example:\n  erasure-worker systems list")]
    List(AskOnly),
    /// End a hold at once, once its cause is mended.
    #[command(after_help = "Example:\n  erasure-worker systems release cleeng")]
    Release {
        /// The system.
        #[arg(value_name = "NAME", value_parser = super::common::name)]
        system: String,
        /// The worker.
        #[command(flatten)]
        ops: OpsClient,
        /// Printing.
        #[command(flatten)]
        output: Output,
    },
}

/// `sandbox`
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = SANDBOX_ADDRESS)]
    pub listen: SocketAddr,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List every fault, or every setting with its source; secrets are never shown.
    #[command(after_help = "Example:\n  erasure-worker config check --config erasure-worker.toml")]
    Check(Output),
}

/// Which message a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// What publishers send.
    Job,
    /// What the worker publishes.
    Event,
}

/// `schema`
#[derive(Debug, Args)]
pub struct Schema {
    /// The message.
    #[arg(value_name = "MESSAGE")]
    pub of: SchemaOf,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write all pages to this folder instead.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub out: Option<PathBuf>,
    /// The command whose page to print.
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

//! The commands that ask a running worker's ops API.
//!
//! The rule it keeps: nothing is replayed or discarded without saying which dead letters are meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use uuid::Uuid;

use super::common::{AskOnly, OneJob, OpsClient, Output, age, instant, limit, name};
use super::find::FindJobs;
use super::pausing::{PauseJobs, ResumeJobs};

/// `jobs`
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs.
    #[command(after_help = "Example:\n  erasure-worker jobs list --state needs_input --json")]
    List(JobsList),
    /// Show one job: its targets, steps and waits, without personal data.
    #[command(after_help = "Example:\n  erasure-worker jobs show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Find the jobs about a person, by an identifier that is typed in here and never sent.
    ///
    /// Any one identifier finds the jobs that wait or have failed, whatever else they name. A job that
    /// ended otherwise keeps only a pseudonym of all that it named: it is found where this was one
    /// identifier (--system and --key), or by the whole job (--job).
    #[command(after_help = "Examples:\n  erasure-worker jobs find --tenant acme
  erasure-worker jobs find --tenant acme --system easycms --key email
  erasure-worker jobs find --job job.json")]
    Find(FindJobs),
    /// Let the jobs of a system or a tenant wait until they are resumed, also over a restart.
    #[command(
        after_help = "Examples:\n  erasure-worker jobs pause --system cleeng --reason \"contract ends\" --by operations
  erasure-worker jobs pause --tenant acme --reason \"wrong list sent\" --by operations"
    )]
    Pause(PauseJobs),
    /// Let them go on.
    #[command(after_help = "Example:\n  erasure-worker jobs resume --system cleeng")]
    Resume(ResumeJobs),
    /// List what is paused, by whom and why.
    #[command(after_help = "Example:\n  erasure-worker jobs paused --json")]
    Paused(AskOnly),
    /// Tell which open jobs will be late at the present pace, and because of which system.
    #[command(after_help = "Example:\n  erasure-worker jobs forecast

Exit codes: 0 none will be late; 1 some are or will be, or the worker cannot be reached; 2 usage.")]
    Forecast(AskOnly),
    /// End a job before its first destructive call.
    #[command(after_help = "Example:
  erasure-worker jobs cancel 6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 --tenant acme")]
    Cancel(OneJob),
}

/// `jobs list`
#[derive(Debug, Args)]
pub struct JobsList {
    /// Only jobs in this state: open, waiting, needs_input, completed, failed, cancelled or previewed.
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only jobs that concern this system.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub system: Option<String>,
    /// Only this tenant's jobs.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
    /// Go on where the list before ended: the cursor that it printed.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit())]
    pub limit: u32,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters; looking changes nothing.
    #[command(after_help = "Example:\n  erasure-worker dead-letters list --code ERS-0012")]
    List(DeadLettersList),
    /// Show the dead letter of one job, without its body.
    #[command(after_help = "Example:\n  erasure-worker dead-letters show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Let jobs go on from their checkpoints, as a new run.
    #[command(after_help = "Examples:\n  erasure-worker dead-letters replay --system cleeng --code ERS-0012
  erasure-worker dead-letters replay --all --limit 100")]
    Replay(DeadLettersReplay),
    /// Give jobs up: the dead letter and the job's sealed data are removed, and it is written down who said so.
    #[command(after_help = "Example:\n  erasure-worker dead-letters discard \
        --job-id 6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 --reason \"erased by hand, ticket 7\" --by operations")]
    Discard(DeadLettersDiscard),
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "filter", multiple = true)]
pub struct DeadLetterFilter {
    /// Only those with this error code.
    #[arg(long, value_name = "ERS-NNNN")]
    pub code: Option<String>,
    /// Only those that failed at this system.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub system: Option<String>,
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
    /// Only this job's.
    #[arg(long, value_name = "ID")]
    pub job_id: Option<Uuid>,
    /// Only those that have been there for longer: 90s, 15m, 12h, 7d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Only those that came within this time: 90s, 15m, 12h, 7d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub newer_than: Option<Duration>,
}

/// `dead-letters list`
#[derive(Debug, Args)]
pub struct DeadLettersList {
    /// Which.
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit())]
    pub limit: u32,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `dead-letters replay`
#[derive(Debug, Args)]
#[command(group = which(&["code", "system", "tenant", "job_id", "all"]))]
pub struct DeadLettersReplay {
    /// Which.
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// All of them; needed where no filter is given.
    #[arg(long, conflicts_with_all = ["code", "system", "tenant", "job_id"])]
    pub all: bool,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = limit())]
    pub limit: Option<u32>,
    /// At most so many a minute; it can be stopped at any time and run again.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `dead-letters discard`
#[derive(Debug, Args)]
#[command(group = which(&["code", "system", "tenant", "job_id", "older_than", "newer_than"]))]
pub struct DeadLettersDiscard {
    /// Which; at least one filter.
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// Why, without personal data; kept with the job.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decided; kept with the job.
    #[arg(long, value_name = "WHO")]
    pub by: String,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = limit())]
    pub limit: Option<u32>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `receipt`
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Check signatures and the chain: events, receipts or an audit pack; nobody is asked.
    #[command(after_help = "Examples:\n  erasure-worker receipt verify --keys jwks.json events.ndjson
  erasure-worker receipt verify --keys jwks.json --partial --jobs job.json receipt.jws
  erasure-worker receipt verify --keys jwks.json pack.json

Exit codes: 0 all of it holds, 1 a link is missing, altered or broken, 2 the input cannot be used.")]
    Verify(ReceiptVerify),
    /// Get the signed audit pack of a time span: log of requests and answers, receipts, keys.
    #[command(
        after_help = "Examples:\n  erasure-worker receipt export --from 2026-01-01 --to 2026-04-01 --out audit-q1
  erasure-worker receipt export --from 2026-01-01 > pack.json"
    )]
    Export(ReceiptExport),
}

/// `receipt verify`
#[derive(Debug, Args)]
pub struct ReceiptVerify {
    /// Events or receipts, one a line, or an audit pack (its file or folder); - for stdin.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The public keys (a JWK set, as `keys public` prints); without it, those of the configuration.
    #[arg(long, value_name = "JWKS")]
    pub keys: Option<PathBuf>,
    /// Only some of a chain's receipts are given: absent numbers are no fault.
    #[arg(long)]
    pub partial: bool,
    /// Jobs as they were published, one a line: each must open its receipt's commitment.
    #[arg(long = "jobs", value_name = "JOBS")]
    pub jobs: Vec<PathBuf>,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `receipt export`
#[derive(Debug, Args)]
pub struct ReceiptExport {
    /// From this time on: RFC 3339, or a date (midnight UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub from: Option<Timestamp>,
    /// Before this time: RFC 3339, or a date (midnight UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub to: Option<Timestamp>,
    /// A new folder for the pack's files; without it, the pack goes to stdout as one JSON document.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
}

/// At least one of these must be given.
fn which(args: &[&'static str]) -> ArgGroup {
    ArgGroup::new("which").required(true).multiple(true).args(args)
}

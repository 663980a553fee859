//! `receipt verify` and `receipt export`.
//!
//! The rule it keeps: `verify` needs no worker and no network: it reads the given files and the public keys. Its exit
//! code is 0 only if it finds no fault.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use super::common::{OpsClient, Output, instant};
use super::{Context, Exit};
use crate::app;
use crate::receipt::opening::Offered;
use crate::receipt::pack::{self, Pack};
use crate::receipt::{Checker, PublicKeys, Report, input};

/// `receipt`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check signatures and the chain: events, receipts or an audit pack; needs no worker.
    #[command(after_help = "Examples:\n  erasure-worker receipt verify --keys jwks.json events.ndjson
  erasure-worker receipt verify --keys jwks.json --partial --jobs job.json receipt.jws
  erasure-worker receipt verify --keys jwks.json pack.json

Exit codes: 0 all of it holds, 1 a link is missing, altered or broken, 2 the input cannot be used.")]
    Verify(Verify),
    /// Get the signed audit pack of a time span: log of requests and answers, receipts, keys.
    #[command(
        after_help = "Examples:\n  erasure-worker receipt export --from 2026-01-01 --to 2026-04-01 --out audit-q1
  erasure-worker receipt export --from 2026-01-01 > pack.json"
    )]
    Export(Export),
}

/// `receipt verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Events or receipts, one on each line, or an audit pack (its file or folder); - for stdin.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The public keys (a JWK set, as `keys public` prints); without it, those of the configuration.
    #[arg(long, value_name = "JWKS")]
    keys: Option<PathBuf>,
    /// Only some of a chain's receipts are given: absent numbers are not a fault.
    #[arg(long)]
    partial: bool,
    /// Jobs as published, one on each line: each must open its receipt's commitment.
    #[arg(long = "jobs", value_name = "JOBS")]
    jobs: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// `receipt export`
#[derive(Debug, Args)]
pub struct Export {
    /// From this time on: RFC 3339, or a date (midnight UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(super) from: Option<Timestamp>,
    /// Before this time: RFC 3339, or a date (midnight UTC).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Timestamp>,
    /// A new folder for the pack's files; without it, the pack goes to stdout as one JSON document.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ops: OpsClient,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Verify(options) => Ok(options.run(ctx)?),
            Command::Export(options) => Ok(options.run(ctx).await?),
        }
    }
}

impl Verify {
    fn run(self, ctx: &mut Context<'_>) -> io::Result<Exit> {
        let ours = || Ok(app::keyring(&ctx.load()?)?.public_keys());
        let report = match check(&self, ours) {
            Ok(report) => report,
            Err(why) => {
                writeln!(ctx.err, "{why}")?;
                return Ok(Exit::Usage);
            }
        };
        if self.output.json {
            writeln!(ctx.out, "{:#}", serde_json::to_value(&report)?)?;
        } else {
            print(&report, ctx.out)?;
        }
        Ok(if report.valid { Exit::Done } else { Exit::Failed })
    }
}

/// `ours` returns the public keys of the configuration, for a check without a key file.
fn check(args: &Verify, ours: impl FnOnce() -> anyhow::Result<Value>) -> Result<Report, String> {
    let set = match &args.keys {
        Some(path) => serde_json::from_str(&text(path)?).map_err(|_| format!("{}: is not JSON", path.display()))?,
        None => ours().map_err(|why| format!("without --keys the configuration's keys are used, but {why:#}"))?,
    };
    let keys = PublicKeys::read(&set).map_err(|why| format!("--keys: {why}"))?;
    let mut checker = Checker::new(&keys, args.partial);
    for path in &args.jobs {
        for (number, line) in text(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{}:{}", path.display(), number + 1);
            let job = Offered::new(place.clone(), line.as_bytes());
            checker.offer(job.ok_or_else(|| format!("{place}: expected a job, one JSON object a line"))?);
        }
    }
    let mut packs = 0;
    for path in &args.files {
        let place = path.display().to_string();
        if path.is_dir() {
            folder(path)?.check(&place, &mut checker);
            packs += 1;
            continue;
        }
        let text = text(path)?;
        packs += usize::from(text.contains(pack::FORMAT));
        input::read(&place, &text, &mut checker);
    }
    let report = checker.finish();
    if report.receipts == 0 && report.valid && packs == 0 {
        return Err("there is no receipt in the input".to_owned());
    }
    Ok(report)
}

fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => io::stdin().read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map(|_| text).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

impl Export {
    async fn run(self, ctx: &mut Context<'_>) -> io::Result<Exit> {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let span = [("from", time(self.from)), ("to", time(self.to))];
        let answer = match ctx.get(&self.ops, &["v1", "receipts"], &span).await {
            Ok(answer) => answer,
            Err(error) => return ctx.report_error(&error),
        };
        let Some(dir) = &self.out else {
            writeln!(ctx.out, "{answer}")?;
            return Ok(Exit::Done);
        };
        let Some(pack) = Pack::from_json(&answer) else {
            writeln!(ctx.err, "the worker's answer is not an audit pack that this release can read")?;
            return Ok(Exit::Failed);
        };
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                writeln!(ctx.err, "{} exists and is not overwritten; name a new folder", dir.display())?;
                return Ok(Exit::Usage);
            }
            made => made?,
        }
        // Only a pack's known files: the worker's answer never decides a path.
        for name in pack::FILES {
            std::fs::write(dir.join(name), pack.0.get(name).map_or("", String::as_str))?;
        }
        writeln!(ctx.out, "{}", dir.display())?;
        Ok(Exit::Done)
    }
}

/// Reads a pack from a folder.
fn folder(path: &Path) -> Result<Pack, String> {
    pack::FILES
        .into_iter()
        .map(|name| Ok((name.to_owned(), text(&path.join(name))?)))
        .collect::<Result<_, _>>()
        .map(Pack)
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for chain in &report.chains {
        write!(
            out,
            "chain {} of worker {}: {} receipts, {} to {}",
            chain.chain, chain.worker, chain.receipts, chain.first, chain.last
        )?;
        if let Some(through) = chain.removed_through {
            write!(out, "; links up to {through} were removed by retention")?;
        }
        if let Some(started) = &chain.started {
            write!(out, "; began with a {}", started.replace('_', " "))?;
        }
        writeln!(out)?;
    }
    for fault in &report.faults {
        let place = fault.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        writeln!(out, "{}: {place}{}", fault.kind.as_str().replace('_', " "), fault.detail)?;
    }
    if report.opened > 0 {
        writeln!(out, "{} commitments opened", report.opened)?;
    }
    if !report.valid && report.faults.iter().all(|fault| fault.kind == crate::receipt::FaultKind::Missing) {
        writeln!(out, "all given receipts are valid; with --partial absent receipts are not a fault")?;
    }
    let verdict = if report.valid { "valid" } else { "NOT valid" };
    writeln!(out, "{verdict}: {} receipts, {} faults", report.receipts, report.faults.len())
}

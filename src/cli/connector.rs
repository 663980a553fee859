//! `connector check`, `connector show`, `connector test` and `connector schema`.
//!
//! The rule it keeps: they need no worker, no configuration and no network. A file with a fault ends with exit code 2,
//! and every fault of every file is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand};
use erasure_connector::{Connector, read, schema, show};

use super::print::plain;
use super::{Context, Exit};
use crate::kit;

/// `connector`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check connector files: refuse what could report an erasure without proof.
    #[command(after_help = "Example:\n  erasure-worker connector check connectors/helpdesk.toml

Each fault is one line on stderr: FILE:LINE: place: what is wrong; what to write instead.
Exit codes: 0 every file loads, 2 a file has a fault.")]
    Check(Check),
    /// Show in words what a connector file reads, destroys and takes as proof.
    #[command(after_help = "Example:\n  erasure-worker connector show connectors/helpdesk.toml")]
    Show(Show),
    /// Try connector files against stand-ins: faults at every call, the process ending at every entry, changed replies.
    #[command(after_help = "Examples:\n  erasure-worker connector test connectors/helpdesk.toml
  erasure-worker connector test --seed 7 --report report.html connectors/helpdesk.toml

The same file and seed give the same findings. No vendor is called.
Exit codes: 0 every promise holds, 1 a promise is broken or too many slips are not noticed, 2 a file does not load.")]
    Test(Test),
    /// Print the JSON Schema of a connector file, for editors.
    #[command(after_help = "Example:\n  erasure-worker connector schema > connector.v1.json")]
    Schema,
}

/// `connector check`
#[derive(Debug, Args)]
pub struct Check {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// `connector show`
#[derive(Debug, Args)]
pub struct Show {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `connector test`
#[derive(Debug, Args)]
pub struct Test {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// For the trials by chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the findings as one HTML file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Check(options) => options.run(ctx),
            Command::Show(options) => options.run(ctx),
            Command::Test(options) => options.run(ctx).await,
            Command::Schema => {
                ctx.out.write_all(schema::TEXT.as_bytes())?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Check {
    fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for path in &self.files {
            match load(path, ctx)? {
                Some(file) => writeln!(
                    ctx.out,
                    "{}: {}: {} reads, {} acts, ends as {}; {} recorded replies",
                    path.display(),
                    file.name,
                    file.reads.len(),
                    file.acts.len(),
                    file.outcome.word(),
                    file.examples.len()
                )?,
                None => exit = Exit::Usage,
            }
        }
        Ok(exit)
    }
}

impl Show {
    fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let Some(file) = load(&self.file, ctx)? else { return Ok(Exit::Usage) };
        ctx.out.write_all(show::show(&file).as_bytes())?;
        Ok(Exit::Done)
    }
}

impl Test {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut files = Vec::new();
        for path in &self.files {
            if let Some(file) = load_with_text(path, ctx)? {
                files.push(file);
            }
        }
        if files.len() < self.files.len() {
            return Ok(Exit::Usage);
        }
        let mut reports = Vec::new();
        for (file, text) in files {
            let began = Instant::now();
            let options = kit::Options { seed: self.seed, ..kit::Options::default() };
            let mut report = kit::test(&Arc::new(file), &text, options).await;
            report.took = began.elapsed();
            write!(ctx.out, "{report}")?;
            ctx.out.flush()?;
            writeln!(ctx.err, "{}: {:.1} s", report.name, report.took.as_secs_f64())?;
            reports.push(report);
        }
        if let Some(path) = &self.report
            && let Err(error) = std::fs::write(path, kit::page(&reports))
        {
            writeln!(ctx.err, "{}: cannot be written: {}", path.display(), error.kind())?;
            return Ok(Exit::Failed);
        }
        Ok(if reports.iter().all(kit::Report::holds) { Exit::Done } else { Exit::Failed })
    }
}

/// Reads a file; prints its faults if it does not load.
fn load(path: &Path, ctx: &mut Context<'_>) -> anyhow::Result<Option<Connector>> {
    Ok(load_with_text(path, ctx)?.map(|(file, _)| file))
}

/// Reads a file with its text; prints its faults if it does not load.
pub(super) fn load_with_text(path: &Path, ctx: &mut Context<'_>) -> anyhow::Result<Option<(Connector, String)>> {
    let bytes = match read::bytes_of(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(ctx.err, "{}: cannot be read: {error}", path.display())?;
            return Ok(None);
        }
    };
    match erasure_connector::load(&bytes) {
        Ok(file) => Ok(Some((file, String::from_utf8_lossy(&bytes).into_owned()))),
        Err(faults) => {
            for fault in &faults.0 {
                writeln!(ctx.err, "{}:{}", path.display(), plain(&fault.to_string()))?;
            }
            Ok(None)
        }
    }
}

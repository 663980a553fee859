//! `connector check`, `connector show` and `connector schema`.
//!
//! The rule it keeps: they need no worker, no configuration and no network. A file with a fault ends with exit code 2,
//! and every fault of every file is printed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use erasure_connector::{File, read, schema, show, sql};

use super::print::plain;
use super::{Context, Exit};

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

impl Command {
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Check(options) => options.run(ctx),
            Command::Show(options) => options.run(ctx),
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
                Some(File::Sql(file)) => writeln!(
                    ctx.out,
                    "{}: {}: {}, {} statements, {} counts",
                    path.display(),
                    file.name,
                    file.database.title(),
                    file.acts.iter().map(|act| act.changes.len()).sum::<usize>(),
                    file.reads.iter().map(|read| read.counts.len()).sum::<usize>()
                )?,
                Some(File::Calls(file)) => writeln!(
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
        let text = match &file {
            File::Calls(file) => show::show(file),
            File::Sql(file) => sql::show(file),
        };
        ctx.out.write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

/// Reads a file; prints its faults if it does not load.
fn load(path: &Path, ctx: &mut Context<'_>) -> anyhow::Result<Option<File>> {
    let bytes = match read::bytes_of(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(ctx.err, "{}: cannot be read: {error}", path.display())?;
            return Ok(None);
        }
    };
    match erasure_connector::load_file(&bytes) {
        Ok(file) => Ok(Some(file)),
        Err(faults) => {
            for fault in &faults.0 {
                writeln!(ctx.err, "{}:{}", path.display(), plain(&fault.to_string()))?;
            }
            Ok(None)
        }
    }
}

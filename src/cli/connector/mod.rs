//! `connector check`, `connector show`, `connector test`, `connector draft` and `connector schema`.
//!
//! The rule it keeps: they need no worker and no configuration, and only `draft` calls somebody: a database. A file with
//! a fault ends with exit code 2, and every fault of every file is printed.

mod draft;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use erasure_connector::{Connector, File, read, schema, show, sql};

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
    /// Try connector files against stand-ins: faults at every call, the process ending at every entry, changed replies.
    #[command(after_help = "Examples:\n  erasure-worker connector test connectors/helpdesk.toml
  erasure-worker connector test --seed 7 --report report.html connectors/helpdesk.toml

The same file and seed give the same findings. No vendor is called.
Exit codes: 0 every promise holds, 1 a promise is broken or too many slips are not noticed, 2 a file does not load.")]
    Test(test::Test),
    /// Write a first file for a database, from its foreign keys. Its gaps are marked FILL.
    #[command(after_help = "Example:
  erasure-worker connector draft --url-env SHOP_URL --table users --key id > shop.toml

The database is only read. Exit codes: 0 a draft, 1 the database cannot be read, 2 there is no such table or column.")]
    Draft(draft::Draft),
    /// Print the JSON Schema of a connector file, for editors.
    #[command(after_help = "Examples:\n  erasure-worker connector schema > connector.v1.json
  erasure-worker connector schema --sql > sql.v1.json")]
    Schema {
        /// Of a file for a database.
        #[arg(long)]
        sql: bool,
    },
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
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Check(options) => options.run(ctx),
            Command::Show(options) => options.run(ctx),
            Command::Test(options) => options.run(ctx).await,
            Command::Draft(options) => options.run(ctx).await,
            Command::Schema { sql } => {
                ctx.out.write_all(if sql { schema::SQL } else { schema::TEXT }.as_bytes())?;
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
    Ok(read(path, ctx)?.map(|(file, _)| file))
}

/// Reads a file of calls, with its text; prints its faults if it does not load.
pub(super) fn load_with_text(path: &Path, ctx: &mut Context<'_>) -> anyhow::Result<Option<(Connector, String)>> {
    match read(path, ctx)? {
        Some((File::Calls(file), text)) => Ok(Some((*file, text))),
        Some((File::Sql(_), _)) => {
            writeln!(ctx.err, "{}: is about a database, which has no stand-in", path.display())?;
            Ok(None)
        }
        None => Ok(None),
    }
}

fn read(path: &Path, ctx: &mut Context<'_>) -> anyhow::Result<Option<(File, String)>> {
    let bytes = match read::bytes_of(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(ctx.err, "{}: cannot be read: {error}", path.display())?;
            return Ok(None);
        }
    };
    match erasure_connector::load_file(&bytes) {
        Ok(file) => Ok(Some((file, String::from_utf8_lossy(&bytes).into_owned()))),
        Err(faults) => {
            for fault in &faults.0 {
                writeln!(ctx.err, "{}:{}", path.display(), plain(&fault.to_string()))?;
            }
            Ok(None)
        }
    }
}

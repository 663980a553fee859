//! `connector check`, `connector show`, `connector schema` and `connector draft`.
//!
//! The rule it keeps: they need no worker and no configuration, and only `draft` calls somebody: a database. A file with
//! a fault ends with exit code 2, and every fault of every file is printed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use erasure_connector::{File, read, schema, show, sql};
use secrecy::SecretString;

use super::print::plain;
use super::{Context, Exit};
use crate::systems;

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
    /// Write a first file for a database, from its foreign keys. Its gaps are marked FILL.
    #[command(after_help = "Example:
  erasure-worker connector draft --url-env SHOP_URL --table users --key id > shop.toml

The database is only read. Exit codes: 0 a draft, 1 the database cannot be read, 2 there is no such table or column.")]
    Draft(Draft),
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

/// `connector draft`
#[derive(Debug, Args)]
#[group(skip)]
pub struct Draft {
    /// The variable with the database's address, postgresql://USER:PASSWORD@HOST/DATABASE or mysql://…
    #[arg(long, value_name = "NAME", required_unless_present = "url_file", conflicts_with = "url_file")]
    url_env: Option<String>,
    /// The file with the database's address.
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The certificate authority, if it is not a public one.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The table with a row for each person: SCHEMA.TABLE, or TABLE in the schema public (PostgreSQL) or in the address's (MySQL).
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// The column that jobs name: id, email.
    #[arg(long, value_name = "COLUMN")]
    key: String,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::Draft(options) => options.run(ctx).await,
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

impl Draft {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let url = match (&self.url_env, &self.url_file) {
            (Some(name), _) => std::env::var(name).map_err(|_| format!("{name} is not set")),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
            }
            (None, None) => Err("no address is given".to_owned()),
        };
        let url = match url {
            Ok(url) => SecretString::from(url.trim().to_owned()),
            Err(problem) => {
                writeln!(ctx.err, "{problem}")?;
                return Ok(Exit::Usage);
            }
        };
        let (database, catalogue) = match systems::sql::catalogue(&url, self.ca_file.as_deref()).await {
            Ok(read) => read,
            Err(problem) => {
                writeln!(ctx.err, "{problem}")?;
                return Ok(Exit::Failed);
            }
        };
        let table = match &catalogue.home {
            Some(home) if !self.table.contains('.') => format!("{home}.{}", self.table),
            _ => self.table.clone(),
        };
        let Some(text) = sql::draft(database, &catalogue, &table, &self.key) else {
            let tables: Vec<_> = catalogue.tables.iter().map(|table| table.name.as_str()).collect();
            let known = plain(&tables.join(", "));
            writeln!(ctx.err, "no table {table} with a column {}; the tables are {known}", self.key)?;
            return Ok(Exit::Usage);
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

//! `connector draft`.
//!
//! The rule it keeps: the database is only read.

use std::path::PathBuf;

use clap::Args;
use erasure_connector::sql;
use secrecy::SecretString;

use crate::cli::print::plain;
use crate::cli::{Context, Exit};
use crate::systems;

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

impl Draft {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
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

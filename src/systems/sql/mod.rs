//! A database of one's own: reads the person, changes the rows in one transaction for each act, and counts what is
//! left. See `docs/sql.md`.
//!
//! The rule it keeps: one call is one connection. Nothing that was not committed counts, and no value of a row leaves
//! this module.

mod database;
mod mysql;
mod person;
mod plan;
mod postgres;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use erasure_connector::model::IdentifierForm;
use erasure_connector::sql::statement::{Select, Sql, Table};
use erasure_connector::sql::{Act, Catalogue, Database as Kinds, SqlFile, uncovered};
use secrecy::{ExposeSecret as _, SecretString};

use self::database::{Acted, Bound, Change, Checked, Database, ours};
use self::mysql::Mysql;
use self::plan::Place;
use self::postgres::Postgres;
pub use self::settings::SqlSettings;
use super::evidence::NotFound;
use super::http::BuildError;
use super::zeta::KeyedDigest;
use super::{Call, Credential, System};
use crate::job::reading::{Means, Reading};
use crate::job::{Answer, Failure, FailureKind, Identity, Kind, Reason, Spec, Step, StepName};
use crate::store::postgres::Address;

/// Time limits.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Of a whole call.
    pub call: Duration,
    /// Of connecting.
    pub connect: Duration,
    /// Of a wait for a lock.
    pub lock: Duration,
}

/// The client of one database.
pub struct SqlSystem {
    name: String,
    file: Arc<SqlFile>,
    shape: u32,
    database: Box<dyn Database>,
    digest: KeyedDigest,
    credential: Credential,
}

impl SqlSystem {
    /// Builds the client; nothing is called. `digest` is for the ledger's rows.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(
        name: &str,
        settings: &SqlSettings,
        timeouts: &Timeouts,
        digest: KeyedDigest,
    ) -> Result<SqlSystem, BuildError> {
        let file = Arc::clone(&settings.file);
        let (kind, database) = open(&settings.url, settings.ca_file.as_deref(), timeouts, &tables(&file))?;
        if kind != file.database {
            return Err(BuildError::Setting { key: "url", problem: "is of another kind of database than the file" });
        }
        let shape = settings.plan.shape();
        // The probe looks whether the person's table has a row.
        Ok(SqlSystem { name: name.to_owned(), file, shape, database, digest, credential: Credential::new(true) })
    }

    fn bound(&self, sql: &Sql, named: &BTreeMap<String, SecretString>) -> Result<Bound, Failure> {
        let value = |name: &String| {
            let is_digits = self.file.identifiers.get(name).is_some_and(|of| of.form == IdentifierForm::Digits);
            let begins_with_0 = |value: &SecretString| value.expose_secret().starts_with('0');
            if self.file.database == Kinds::Mysql && is_digits && named.get(name).is_some_and(begins_with_0) {
                // There a number is compared by its characters, so it would be missed.
                let rejected = Failure::new(FailureKind::Rejected, Reason::RequestRejected);
                return Err(rejected.with_note("a number begins with 0"));
            }
            named.get(name).cloned().ok_or_else(|| {
                Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("an identifier is missing")
            })
        };
        let values = sql.binds.iter().map(value).collect::<Result<_, _>>()?;
        Ok(Bound { text: sql.text.clone(), values })
    }

    fn counts<'c>(
        &self,
        counts: impl IntoIterator<Item = &'c Select>,
        named: &BTreeMap<String, SecretString>,
    ) -> Result<Vec<Bound>, Failure> {
        counts.into_iter().map(|count| self.bound(&count.sql(self.file.database), named)).collect()
    }

    async fn person(&self, named: &BTreeMap<String, SecretString>) -> Result<Answer, Failure> {
        let person = self.bound(&self.file.person_sql(), named)?;
        let counts: Vec<&Select> = self.file.reads.iter().flat_map(|read| &read.counts).collect();
        let seen = self.database.person(&person, &self.counts(counts.iter().copied(), named)?).await?;
        // Rows by an identifier that no row has confirmed may be another person's.
        let finder = self.file.person.condition.bound_to();
        let is_by_another = |count: &Select| !count.condition.bound_to().iter().any(|name| finder.contains(name));
        let strangers = counts.iter().zip(&seen.left).any(|(count, left)| *left > 0 && is_by_another(count));
        match &seen.rows[..] {
            // Rows of the person without the person's own row: they are erased, and nobody can be compared.
            [] if strangers => Err(unconfirmed()),
            [] if seen.left.iter().any(|left| *left > 0) => Ok(self.reading(Means::Found(Identity::Unreadable), false)),
            [] => Ok(match self.credential.vouched(NotFound::reported()) {
                Some(absence) => self.reading(Means::Gone(absence), false),
                None => Answer::Unclear(Reason::Unproven),
            }),
            [row] => {
                self.credential.prove();
                let verdict = person::compare(&self.file, row, named);
                if verdict == Identity::Unreadable && person::acts_on_empty(&self.file, row) {
                    return Err(unconfirmed());
                }
                Ok(self.reading(Means::Found(verdict), false))
            }
            _ => {
                Err(Failure::new(FailureKind::Refused, Reason::IdentityMismatch).with_note("two rows, not one person"))
            }
        }
    }

    async fn read_back(&self, call: &Call<'_>, named: &BTreeMap<String, SecretString>) -> Result<Answer, Failure> {
        match plan::place(&self.file, call.step.place()) {
            Some(Place::Person) => self.person(named).await,
            Some(Place::Counts(read)) => {
                let counts = self.file.reads.get(read).map(|read| &read.counts[..]).unwrap_or_default();
                let left = self.database.count(&self.counts(counts, named)?).await?;
                // An absence of rows, which counts only where the person was seen.
                Ok(self.reading(if left == 0 { Means::Done } else { Means::NotDone }, left == 0))
            }
            Some(Place::Ledger(act)) => {
                let text = self.file.noted_sql().ok_or_else(not_a_step)?;
                let noted = self.database.count(&[Bound { text, values: vec![self.entry(call, act)] }]).await?;
                Ok(self.reading(if noted > 0 { Means::Done } else { Means::NotDone }, false))
            }
            None => Err(not_a_step()),
        }
    }

    async fn act(&self, call: &Call<'_>, named: &BTreeMap<String, SecretString>) -> Result<Answer, Failure> {
        let act = self.file.acts.get(call.step.place()).ok_or_else(not_a_step)?;
        let mut changes = Vec::new();
        for (place, change) in act.changes.iter().enumerate() {
            changes.push(Change {
                statement: self.bound(&change.statement.sql(self.file.database), named)?,
                rows: change.rows,
                proofs: self.counts(self.file.proofs_after(act, place), named)?,
            });
        }
        let note = self.file.note_sql().map(|text| Bound { text, values: vec![self.entry(call, act)] });
        match self.database.act(&changes, note.as_ref()).await? {
            Acted::Committed => Ok(self.reading(Means::Done, false)),
            Acted::Before => Ok(self.reading(Means::DoneBefore, false)),
            // Perhaps another session has removed the rows: the counts decide.
            Acted::TooFew => Ok(Answer::Unclear(Reason::Precondition)),
        }
    }

    /// The ledger's digest of an act of a job's target.
    fn entry(&self, call: &Call<'_>, act: &Act) -> SecretString {
        let key = &call.job.key;
        let parts = [key.tenant.to_string(), key.job_id.to_string(), call.index.to_string(), act.name.clone()];
        let parts: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        SecretString::from(hex::encode((self.digest)(format!("sql-ledger {}", parts.concat()).as_bytes())))
    }

    fn reading(&self, means: Means, is_bare: bool) -> Answer {
        Answer::Connector(Reading { shape: self.shape, means, is_bare, facts: Vec::new() })
    }

    fn checked(&self) -> Checked {
        let database = self.file.database;
        let changes = self.file.acts.iter().flat_map(|act| &act.changes).map(|change| change.statement.sql(database));
        let counts = self.file.reads.iter().flat_map(|read| &read.counts).map(|count| count.sql(database));
        let empty = |sql: Sql| Bound { values: vec![SecretString::default(); sql.binds.len()], text: sql.text };
        let mut statements: Vec<Bound> = changes.chain(counts).chain([self.file.person_sql()]).map(empty).collect();
        let ledger = [self.file.note_sql(), self.file.noted_sql()].into_iter().flatten();
        statements.extend(ledger.map(|text| Bound { text, values: vec![SecretString::default()] }));
        Checked {
            statements,
            any_person: self.file.any_person_sql(),
            changed: changed(&self.file),
            ledger: self.file.ledger.as_ref().map(part),
            watch: self.file.watch.iter().cloned().collect(),
        }
    }
}

/// A table's schema, if the file names one, and its name.
fn part(table: &Table) -> (Option<String>, String) {
    (table.schema.as_ref().map(|schema| schema.0.clone()), table.name.0.clone())
}

/// Every table of a statement or a count, each once.
fn tables(file: &SqlFile) -> Vec<(Option<String>, String)> {
    file.tables().into_iter().map(part).collect()
}

/// The tables that acts change, each once.
fn changed(file: &SqlFile) -> Vec<(Option<String>, String)> {
    let tables = file.acts.iter().flat_map(|act| &act.changes).map(|change| part(change.statement.table()));
    tables.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The kind of database at an address, its tables and its foreign keys: for a draft.
///
/// # Errors
/// The problem, in fixed words.
pub async fn catalogue(url: &SecretString, ca_file: Option<&Path>) -> Result<(Kinds, Catalogue), String> {
    let limit = Duration::from_secs(30);
    let timeouts = Timeouts { call: limit, connect: limit, lock: limit };
    let (kind, database) = open(url, ca_file, &timeouts, &[]).map_err(|error| error.to_string())?;
    let catalogue = database.catalogue().await.map_err(|failure| failure.to_string())?;
    Ok((kind, catalogue))
}

/// The client for an address; nothing is called.
fn open(
    url: &SecretString,
    ca_file: Option<&Path>,
    timeouts: &Timeouts,
    tables: &[(Option<String>, String)],
) -> Result<(Kinds, Box<dyn Database>), BuildError> {
    let url = url.expose_secret();
    if url.starts_with("mysql://") {
        let address = mysql::read_url(url, ca_file)?;
        return Ok((Kinds::Mysql, Box::new(Mysql::new(address, timeouts, tables))));
    }
    let address = postgres::read_url(url, ca_file, None)?;
    Ok((Kinds::Postgresql, Box::new(Postgres::new(address, timeouts, tables))))
}

/// The certificates of the store's database.
#[derive(Debug, Clone, Default)]
pub struct StoreFiles {
    /// The only authority to trust; otherwise the system's.
    pub ca_file: Option<PathBuf>,
    /// The worker's own certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// The address of the store's database; nothing is called.
///
/// # Errors
/// The key that is wrong, and the problem.
pub fn store_address(url: &SecretString, files: &StoreFiles) -> Result<Address, (&'static str, String)> {
    let setting = |error: BuildError| match error {
        BuildError::Setting { key, problem } => (key, problem.to_owned()),
        error => ("url", error.to_string()),
    };
    let client = files.client_cert.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let address = postgres::read_url(url.expose_secret(), files.ca_file.as_deref(), client).map_err(setting)?;
    if !address.is_private() {
        return Err((
            "url",
            "must be encrypted, unless the database is on this machine: remove sslmode=disable".into(),
        ));
    }
    Ok(address)
}

/// True if nobody on a network can read along.
fn is_private(url: &SecretString, ca_file: Option<&Path>) -> Result<bool, BuildError> {
    let url = url.expose_secret();
    if url.starts_with("mysql://") {
        return mysql::read_url(url, ca_file).map(|address| address.is_private());
    }
    postgres::read_url(url, ca_file, None).map(|address| address.is_private())
}

fn unconfirmed() -> Failure {
    Failure::new(FailureKind::Refused, Reason::IdentityMismatch)
        .with_note("rows are found by an identifier that the person's row does not confirm")
}

fn not_a_step() -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of this file")
}

#[async_trait]
impl System for SqlSystem {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Sql
    }

    fn endpoints(&self, _spec: &Spec, _step: Step) -> &[&'static str] {
        &["all"]
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let Spec::Connector { identifiers, .. } = &call.target.spec else { return Err(not_a_step()) };
        match call.step.name {
            StepName::Resolve => self.person(identifiers).await,
            StepName::ConnectorReadBack => self.read_back(&call, identifiers).await,
            StepName::ConnectorAct => self.act(&call, identifiers).await,
            _ => Err(not_a_step()),
        }
    }

    /// Role, tables and statements; and whether the person's table has a row, which proves that persons can be found.
    async fn probe(&self) -> Result<(), Failure> {
        if !self.database.check(&self.checked()).await? {
            return Err(ours("the person's table is empty: is it the right database?"));
        }
        self.credential.prove();
        Ok(())
    }

    async fn survey(&self) -> Result<Vec<String>, Failure> {
        Ok(uncovered(&self.file, &self.database.catalogue().await?))
    }
}

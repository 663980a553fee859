//! PostgreSQL.
//!
//! The rule it keeps: only a COMMIT that was answered is a commit. Until a COMMIT is sent, an end of the connection
//! rolls back.

mod catalogue;
mod error;
mod settings;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use erasure_connector::sql::Catalogue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::database::{Acted, Bound, Change, Checked, Database, Seen, ambiguous, ours, unavailable};
use crate::job::Failure;
use crate::store::postgres::Address;
pub(super) use settings::read_url;

/// A database of PostgreSQL.
pub(super) struct Postgres {
    address: Address,
    timeout: Duration,
    lock_timeout: Duration,
    /// Every table of the file, in full and in quotes.
    tables: Vec<String>,
}

impl Postgres {
    /// Its client; nothing is called.
    pub(super) fn new(address: Address, timeouts: &super::Timeouts, tables: &[(Option<String>, String)]) -> Postgres {
        let mut address = address;
        address.config.application_name("erasure-worker").connect_timeout(timeouts.connect);
        let tables = tables.iter().map(catalogue::full).collect();
        Postgres { address, timeout: timeouts.call, lock_timeout: timeouts.lock, tables }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A new connection with a transaction on the primary.
    async fn begin(&self, how: &str) -> Result<Session, Failure> {
        let (client, task) = self.address.connect().await.map_err(|error| connecting(&error))?;
        let session = Session { client, task };
        // A pooler may give the connection another server between transactions: settings hold for this one. Tables
        // without a schema are the public ones, never a temporary one. With row_security off, a policy that would hide
        // rows is an error.
        let (call, lock) = (self.timeout.as_millis(), self.lock_timeout.as_millis());
        let begin = format!(
            "begin {how}; set local statement_timeout = {call}; set local lock_timeout = {lock}; set local \
             idle_in_transaction_session_timeout = {call}; set local search_path = public, pg_temp; set local \
             row_security = off; set local standard_conforming_strings = on; select set_config('synchronous_commit', \
             'on', true) where current_setting('synchronous_commit') = 'off'; select pg_is_in_recovery()"
        );
        let messages = session.client.simple_query(&begin).await.map_err(|error| error::before_commit(&error))?;
        let last = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        match last {
            Some("f") => Ok(session),
            Some("t") => Err(ours("the database is a standby, which may lag: the address must be the primary's")),
            _ => Err(unavailable("the database does not say whether it is the primary")),
        }
    }

    /// A new connection with a snapshot of the primary.
    async fn snapshot(&self) -> Result<Session, Failure> {
        self.begin("isolation level repeatable read read only").await
    }

    async fn change(&self, changes: &[Change], note: Option<&Bound>) -> Result<Result<Session, Acted>, Failure> {
        let session = self.begin("isolation level read committed").await?;
        catalogue::are_tables(&session, &self.tables).await?;
        if let Some(note) = note {
            // The row of another transaction that is not committed yet makes this one wait for its end.
            let written = session.execute(note).await.map_err(|error| error::before_commit(&error))?;
            let proofs: Vec<Bound> = changes.iter().flat_map(|change| change.proofs.clone()).collect();
            if written == 0 && session.sum(&proofs).await? == 0 {
                return Ok(Err(Acted::Before));
            }
        }
        for (number, change) in (1..).zip(changes) {
            let rows = session.execute(&change.statement).await.map_err(|error| error::before_commit(&error))?;
            if !change.is_enough(number, rows)? {
                return Ok(Err(Acted::TooFew));
            }
            change.is_complete(number, session.sum(&change.proofs).await?)?;
        }
        Ok(Ok(session))
    }
}

#[async_trait]
impl Database for Postgres {
    async fn person(&self, person: &Bound, counts: &[Bound]) -> Result<Seen, Failure> {
        let read = async {
            let session = self.snapshot().await?;
            catalogue::are_tables(&session, &self.tables).await?;
            let rows = session.rows(person, 2).await?;
            let mut left = Vec::new();
            for count in counts.iter().filter(|_| rows.is_empty()) {
                left.push(session.sum(std::slice::from_ref(count)).await?);
            }
            Ok(Seen { rows, left })
        };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }

    async fn count(&self, counts: &[Bound]) -> Result<u64, Failure> {
        let read = async { self.snapshot().await?.sum(counts).await };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }

    async fn act(&self, changes: &[Change], note: Option<&Bound>) -> Result<Acted, Failure> {
        let deadline = self.deadline();
        let changed = timeout_at(deadline, self.change(changes, note)).await.unwrap_or_else(|_| Err(late()))?;
        let session = match changed {
            Ok(session) => session,
            Err(acted) => return Ok(acted),
        };
        match timeout_at(deadline, session.client.batch_execute("commit")).await {
            Ok(Ok(())) => Ok(Acted::Committed),
            Ok(Err(error)) => Err(error::at_commit(&error)),
            Err(_) => Err(ambiguous("no answer to the COMMIT in time")),
        }
    }

    async fn check(&self, checked: &Checked) -> Result<bool, Failure> {
        let read = async {
            let session = self.snapshot().await?;
            catalogue::are_tables(&session, &self.tables).await?;
            catalogue::check(&session, checked).await
        };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }

    async fn catalogue(&self) -> Result<Catalogue, Failure> {
        let read = async { catalogue::read(&self.snapshot().await?).await };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }
}

fn late() -> Failure {
    unavailable("no answer in time, and no COMMIT was sent")
}

fn connecting(error: &tokio_postgres::Error) -> Failure {
    if error.code().is_some() { error::before_commit(error) } else { unavailable("no connection to the database") }
}

/// A connection with an open transaction. Its end without a COMMIT rolls back.
struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise the task would wait for a server that does not answer.
        self.task.abort();
    }
}

impl Session {
    async fn execute(&self, bound: &Bound) -> Result<u64, tokio_postgres::Error> {
        let values: Vec<Text<'_>> = bound.values.iter().map(|value| Text(Some(value.expose_secret()))).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.client.execute(&bound.text, &values).await
    }

    /// Rows as texts.
    async fn rows(&self, bound: &Bound, most: usize) -> Result<Vec<Vec<Option<SecretString>>>, Failure> {
        let values: Vec<Text<'_>> = bound.values.iter().map(|value| Text(Some(value.expose_secret()))).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let text = format!("{} limit {most}", bound.text);
        let rows = self.client.query(&text, &values).await.map_err(|error| error::before_commit(&error))?;
        let unreadable = |_| ours("a column of the person cannot be read as a text");
        let cell = |row: &tokio_postgres::Row, place: usize| {
            let value = row.try_get::<_, Option<String>>(place).map_err(unreadable)?;
            Ok(value.map(SecretString::from))
        };
        rows.iter().map(|row| (0..row.len()).map(|place| cell(row, place)).collect()).collect()
    }

    async fn sum(&self, counts: &[Bound]) -> Result<u64, Failure> {
        let mut sum = 0_u64;
        for bound in counts {
            let values: Vec<Text<'_>> = bound.values.iter().map(|value| Text(Some(value.expose_secret()))).collect();
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            let row = self.client.query_one(&bound.text, &values).await.map_err(|error| match error.code() {
                Some(_) => error::before_commit(&error),
                None => unavailable("the connection was lost"),
            })?;
            let count = row.try_get::<_, i64>(0).ok().and_then(|count| u64::try_from(count).ok());
            sum = sum.saturating_add(count.ok_or_else(|| unavailable("a count is not a number"))?);
        }
        Ok(sum)
    }
}

/// A value in its text form: the server reads it as the type of the column with which it is compared.
struct Text<'a>(Option<&'a str>);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The library logs its parameters.
        f.write_str("withheld")
    }
}

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

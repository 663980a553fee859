//! MySQL and MariaDB.
//!
//! The rule it keeps: only tables that can be rolled back are changed, and only a COMMIT that was answered is a commit.

mod catalogue;
mod error;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use erasure_connector::sql::Catalogue;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, Params, Row, Value};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout, timeout_at};

use super::database::{Acted, Bound, Change, Checked, Database, Seen, ambiguous, ours, unavailable};
use crate::job::Failure;
pub(super) use settings::{Address, read_url};

/// A database of MySQL or MariaDB.
pub(super) struct Mysql {
    opts: Opts,
    schema: String,
    timeout: Duration,
    connect_timeout: Duration,
    lock_timeout: Duration,
    /// Every table of the file: schema and name.
    tables: Vec<(String, String)>,
}

impl Mysql {
    /// Its client; nothing is called.
    pub(super) fn new(address: Address, timeouts: &super::Timeouts, tables: &[(Option<String>, String)]) -> Mysql {
        let Address { opts, schema } = address;
        let full = |(of, name): &(Option<String>, String)| (of.clone().unwrap_or_else(|| schema.clone()), name.clone());
        Mysql {
            opts,
            tables: tables.iter().map(full).collect(),
            schema,
            timeout: timeouts.call,
            connect_timeout: timeouts.connect,
            lock_timeout: timeouts.lock,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A new connection with a transaction on the primary.
    async fn begin(&self, how: &str) -> Result<Session, Failure> {
        let connected = timeout(self.connect_timeout, Conn::new(self.opts.clone())).await;
        let conn = connected.map_err(|_| unavailable("no connection to the database in time"))?;
        let mut session = Session { conn: conn.map_err(|error| connecting(&error))? };
        // Whole seconds, one at least.
        let seconds = |limit: Duration| limit.as_millis().div_ceil(1000).max(1);
        let (call, lock) = (seconds(self.timeout), seconds(self.lock_timeout));
        let is_mariadb: Option<i64> =
            session.conn.query_first("select version() like '%MariaDB%'").await.map_err(|error| failed(&error))?;
        let slow = match is_mariadb {
            Some(1) => format!("set session max_statement_time = {call}"),
            _ => format!("set session max_execution_time = {}", call * 1000),
        };
        // Without this mode a text with other characters is cut to a number, and a wrong value is stored.
        let mode = "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', foreign_key_checks = 1, \
                    completion_type = 'NO_CHAIN'";
        let locks = format!("set session innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}");
        for statement in [mode, &slow, &locks, how] {
            session.run(statement).await?;
        }
        match session.conn.query_first::<i64, _>("select @@global.read_only").await.map_err(|error| failed(&error))? {
            Some(0) => Ok(session),
            Some(_) => Err(ours("the database only reads: the address must be the primary's")),
            None => Err(unavailable("the database does not say whether it is the primary")),
        }
    }

    /// A new connection with a snapshot of the primary.
    async fn snapshot(&self) -> Result<Session, Failure> {
        let mut session = self.begin("set session transaction isolation level repeatable read").await?;
        session.run("start transaction with consistent snapshot, read only").await?;
        Ok(session)
    }

    async fn change(&self, changes: &[Change], note: Option<&Bound>) -> Result<Result<Session, Acted>, Failure> {
        let mut session = self.begin("set session transaction isolation level read committed").await?;
        // A table of an engine without transactions would keep what a rollback takes back elsewhere.
        catalogue::can_roll_back(&mut session, &self.tables).await?;
        session.run("start transaction").await?;
        if let Some(note) = note {
            // The row of another transaction that is not committed yet makes this one wait for its end.
            let written = session.execute(note).await?;
            let proofs: Vec<Bound> = changes.iter().flat_map(|change| change.proofs.clone()).collect();
            if written == 0 && session.sum(&proofs).await? == 0 {
                return Ok(Err(Acted::Before));
            }
        }
        for (number, change) in (1..).zip(changes) {
            let rows = session.execute(&change.statement).await?;
            if !change.is_enough(number, rows)? {
                return Ok(Err(Acted::TooFew));
            }
            change.is_complete(number, session.sum(&change.proofs).await?)?;
        }
        Ok(Ok(session))
    }
}

#[async_trait]
impl Database for Mysql {
    async fn person(&self, person: &Bound, counts: &[Bound]) -> Result<Seen, Failure> {
        let read = async {
            let mut session = self.snapshot().await?;
            // A view hides rows: they would be neither found nor counted.
            catalogue::can_roll_back(&mut session, &self.tables).await?;
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
        let mut session = match changed {
            Ok(session) => session,
            Err(acted) => return Ok(acted),
        };
        match timeout_at(deadline, session.conn.query_drop("commit")).await {
            Ok(Ok(())) => Ok(Acted::Committed),
            Ok(Err(error)) => Err(error::at_commit(&error)),
            Err(_) => Err(ambiguous("no answer to the COMMIT in time")),
        }
    }

    async fn check(&self, checked: &Checked) -> Result<bool, Failure> {
        let read = async {
            // The plan of a change is refused in a transaction that only reads.
            let mut session = self.begin("start transaction").await?;
            catalogue::check(&mut session, checked, &self.schema, &self.tables).await
        };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }

    async fn catalogue(&self) -> Result<Catalogue, Failure> {
        let read = async { catalogue::read(&mut self.snapshot().await?, &self.schema).await };
        timeout_at(self.deadline(), read).await.unwrap_or_else(|_| Err(late()))
    }
}

fn late() -> Failure {
    unavailable("no answer in time, and no COMMIT was sent")
}

fn failed(error: &mysql_async::Error) -> Failure {
    error::before_commit(error)
}

fn connecting(error: &mysql_async::Error) -> Failure {
    match error {
        mysql_async::Error::Server(_) => failed(error),
        _ => unavailable("no connection to the database"),
    }
}

/// A connection with an open transaction. Its end without a COMMIT rolls back.
struct Session {
    conn: Conn,
}

impl Session {
    /// A statement without values and rows.
    async fn run(&mut self, statement: &str) -> Result<(), Failure> {
        self.conn.query_drop(statement).await.map_err(|error| failed(&error))
    }

    async fn query(&mut self, text: &str, values: Vec<Value>) -> Result<Vec<Row>, Failure> {
        let values = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        self.conn.exec(text, values).await.map_err(|error| failed(&error))
    }

    async fn execute(&mut self, bound: &Bound) -> Result<u64, Failure> {
        self.query(&bound.text, values(bound)).await?;
        Ok(self.conn.affected_rows())
    }

    /// Rows as texts.
    async fn rows(&mut self, bound: &Bound, most: usize) -> Result<Vec<Vec<Option<SecretString>>>, Failure> {
        let rows = self.query(&format!("{} limit {most}", bound.text), values(bound)).await?;
        let cell = |value: Value| match value {
            Value::NULL => Ok(None),
            Value::Bytes(bytes) => String::from_utf8(bytes)
                .map(|text| Some(SecretString::from(text)))
                .map_err(|_| ours("a column of the person cannot be read as a text")),
            _ => Err(ours("a column of the person cannot be read as a text")),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect()).collect()
    }

    async fn sum(&mut self, counts: &[Bound]) -> Result<u64, Failure> {
        let mut sum = 0_u64;
        for bound in counts {
            let rows = self.query(&bound.text, values(bound)).await?;
            let count = match rows.first().and_then(|row| row.as_ref(0)) {
                Some(Value::Int(count)) => u64::try_from(*count).ok(),
                Some(Value::UInt(count)) => Some(*count),
                _ => None,
            };
            sum = sum.saturating_add(count.ok_or_else(|| unavailable("a count is not a number"))?);
        }
        Ok(sum)
    }
}

fn values(bound: &Bound) -> Vec<Value> {
    bound.values.iter().map(|value| Value::from(value.expose_secret())).collect()
}

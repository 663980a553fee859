//! Connections to the database, and what its errors mean.
//!
//! The rule it keeps: only the SQLSTATE of an error counts; messages may repeat values. A connection that failed or
//! did not answer in time is never used again.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;

/// The database's address.
#[derive(Clone)]
pub struct Address {
    /// Hosts, user, password, database.
    pub config: Config,
    /// `None`: without encryption.
    pub tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// True if nobody on a network can read along.
    pub fn is_private(&self) -> bool {
        let is_here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        };
        self.tls.is_some() || self.config.get_hosts().iter().all(is_here)
    }

    /// A connection, and the task that carries its bytes.
    ///
    /// # Errors
    /// The library's; its text may repeat values.
    pub async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok((client, tokio::spawn(drive(connection))))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                Ok((client, tokio::spawn(drive(connection))))
            }
        }
    }

    /// The hosts and the database, for errors and logs.
    pub(super) fn shown(&self) -> String {
        let ports = self.config.get_ports();
        let host = |(index, host): (usize, &Host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => path.display().to_string(),
            }
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or("?"))
    }
}

/// The meaning of a failed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing is known about the statement; it may be repeated later.
    Away(String),
    /// The database's disk is full: nothing was written.
    Full,
    /// The database refuses the statement, now and later.
    Refused(String),
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Trouble {
        let Some(code) = error.code().map(|state| state.code()) else {
            // The library's words for a value of another type; it has no other sign.
            let is_ours = ["error serializing", "error deserializing", "invalid column"];
            let words = error.to_string();
            return match is_ours.iter().any(|beginning| words.starts_with(beginning)) {
                true => Trouble::Refused("a value has another type than its column".to_owned()),
                false => Trouble::Away("no connection".to_owned()),
            };
        };
        match (code.get(..2).unwrap_or_default(), code) {
            (_, "53100") => Trouble::Full,
            // A restart, a failover, a time limit, too many connections, a conflict of transactions; a changed password.
            ("08" | "57" | "53" | "58" | "40" | "55" | "28", _) | (_, "25006" | "3D000") => {
                Trouble::Away(format!("the database reports SQLSTATE {code}"))
            }
            _ => Trouble::Refused(format!("SQLSTATE {code}")),
        }
    }
}

impl Trouble {
    /// The store's error, with the words for its database.
    pub(super) fn at(self, shown: &str) -> StoreError {
        match self {
            Trouble::Away(why) => StoreError::Away { why: format!("{shown}: {why}") },
            Trouble::Full => StoreError::Full { path: shown.to_owned(), free: 0, needed: 1 },
            Trouble::Refused(why) => StoreError::Broken(format!("the store's database refuses a statement: {why}")),
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Commits that are durable when they are answered.
    Durable,
    /// Reads, and notes that need not survive a crash of the database.
    Loose,
}

/// One connection to the primary.
pub(super) struct Session {
    pub(super) client: Client,
    task: JoinHandle<()>,
    prepared: std::sync::Mutex<HashMap<String, Statement>>,
}

impl Session {
    /// A statement that this connection prepares once.
    async fn prepared(&self, text: &str) -> Result<Statement, Error> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(text).await?;
        self.client.query(&statement, values).await
    }

    /// The number of rows that a statement changed.
    pub(super) async fn execute(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let statement = self.prepared(text).await?;
        self.client.execute(&statement, values).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise the task would wait for a server that does not answer.
        self.task.abort();
    }
}

/// Connects, and sets up the session.
pub(super) async fn connect(address: &Address, of: Use, limit: Duration) -> Result<Session, Trouble> {
    let late = |_| Trouble::Away("no answer in time".to_owned());
    tokio::time::timeout(limit * 2, async {
        let (client, task) = address.connect().await.map_err(|error| Trouble::of(&error))?;
        let session = Session { client, task, prepared: std::sync::Mutex::default() };
        let durable = if of == Use::Durable { "on" } else { "off" };
        let limit = limit.as_millis();
        let set = format!(
            "set statement_timeout = {limit}; set lock_timeout = {limit}; set synchronous_commit = {durable}; set \
             idle_in_transaction_session_timeout = {limit}; set search_path = pg_catalog, pg_temp; set row_security = off"
        );
        session.client.batch_execute(&set).await.map_err(|error| Trouble::of(&error))?;
        let standby = session.client.query_one("select pg_is_in_recovery()", &[]).await;
        match standby.and_then(|row| row.try_get(0)).map_err(|error| Trouble::of(&error))? {
            false => Ok(session),
            true => Err(Trouble::Away("the database is a standby".to_owned())),
        }
    })
    .await
    .map_err(late)?
}

/// Carries the connection's bytes. The server's notices are dropped: they may repeat rows, and the library's own loop
/// would log them.
async fn drive<S, T>(mut connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
}

/// A connection that is made again after a failure. Its statements go one after another, in the order of their start.
pub(super) struct Link {
    address: Address,
    of: Use,
    limit: Duration,
    session: Mutex<Option<Arc<Session>>>,
}

impl Link {
    pub(super) fn new(address: Address, of: Use, limit: Duration) -> Link {
        Link { address, of, limit, session: Mutex::new(None) }
    }

    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        *session = None;
        let new = Arc::new(connect(&self.address, self.of, self.limit).await?);
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Carries out statements on the connection, within the time limit of a statement and a little more.
    pub(super) async fn run<T>(&self, work: impl AsyncFnOnce(&Session) -> Result<T, Error>) -> Result<T, Trouble> {
        let session = self.session().await?;
        match tokio::time::timeout(self.limit * 2, work(&session)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if error.code().is_none() || session.client.is_closed() {
                    self.drop(&session).await;
                }
                Err(Trouble::of(&error))
            }
            Err(_) => {
                self.drop(&session).await;
                Err(Trouble::Away("no answer in time".to_owned()))
            }
        }
    }

    async fn drop(&self, failed: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, failed)) {
            *session = None;
        }
        failed.task.abort();
    }
}

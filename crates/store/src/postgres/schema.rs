//! The tables, the checks of the database before it is trusted, and the taking of the store.
//!
//! The rule it keeps: a database that could forget what it has acknowledged is refused, and one process owns a store.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::sled::{CREATED_KEY, VERSION, VERSION_KEY};
use super::super::{StoreError, TARGET, Table};
use super::link::{Session, Trouble, Use, connect};
use super::{Address, Options};

/// The version of the tables.
pub(super) const TABLES: i32 = 1;
/// The oldest release of PostgreSQL.
const OLDEST: i32 = 130_000;

/// The tables of a new store. `slice`: the part of the jobs; a store with one worker has slice 0 only. `last_batch`: the
/// number of the owner's last group.
const CREATE: &str = "
create table SCHEMA.version (version int not null);
create table SCHEMA.slice (
    slice int primary key, epoch bigint not null, last_batch bigint not null, incarnation text not null,
    until timestamptz not null) with (fillfactor = 10);
create table SCHEMA.entry (
    slice int, tab smallint, key bytea, value bytea not null, primary key (slice, tab, key)) with (fillfactor = 80);
create table SCHEMA.note (slice int, key bytea, value bytea not null, primary key (slice, key)) with (fillfactor = 80);
insert into SCHEMA.version values (1);
";

const TAKE: &str = "
insert into SCHEMA.slice as s values ($1, 1, 0, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (slice) do update
    set epoch = s.epoch + 1, last_batch = 0, incarnation = excluded.incarnation, until = excluded.until
    where s.until < clock_timestamp()
returning epoch";

/// The next process need not wait for the end of the lease.
pub(super) const GIVE_BACK: &str =
    "update SCHEMA.slice set until = '-infinity' where slice = $1 and epoch = $2 and incarnation = $3";

/// A store that this process has taken.
pub(super) struct Taken {
    pub(super) epoch: i64,
    pub(super) is_new: bool,
}

/// The statement in a schema.
pub(super) fn of(schema: &str, statement: &str) -> String {
    statement.replace("SCHEMA", &format!("\"{schema}\""))
}

/// Checks the database, makes missing tables, and takes the store. Waits for the end of a dead owner's lease.
pub(super) async fn open(address: &Address, options: &Options, incarnation: &str) -> Result<Taken, StoreError> {
    let shown = options.shown(address);
    let unfit = |why: String| StoreError::Unfit { path: shown.clone(), why };
    let failed = |trouble: Trouble| match trouble {
        Trouble::Refused(why) => unfit(format!("{why}; the role needs the schema {:?} for itself", options.schema)),
        trouble => trouble.at(&shown),
    };
    let session = connect(address, Use::Durable, options.statement_timeout).await.map_err(failed)?;
    let by = |error: tokio_postgres::Error| failed(Trouble::of(&error));
    check(&session.client).await.map_err(by)?.map_err(unfit)?;
    let second = connect(address, Use::Durable, options.statement_timeout).await.map_err(failed)?;
    own_sessions(&session, &second).await.map_err(by)?.map_err(unfit)?;
    drop(second);
    let is_new = match tables(&session.client, &options.schema).await.map_err(by)? {
        Version::New => true,
        Version::Known => false,
        Version::Newer(found) => {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(StoreError::Newer { path: shown, found, known: TABLES.unsigned_abs() });
        }
    };
    let epoch = take(&session.client, options, incarnation, &shown).await?.map_err(by)?;
    Ok(Taken { epoch, is_new })
}

/// The settings on which the store's promises rest.
async fn check(client: &Client) -> Result<Result<(), String>, tokio_postgres::Error> {
    let text = "select current_setting('server_version_num')::int, current_setting('fsync'), \
                current_setting('synchronous_commit'), current_setting('full_page_writes')";
    let row = client.query_one(text, &[]).await?;
    let (version, fsync): (i32, &str) = (row.try_get(0)?, row.try_get(1)?);
    let (commit, pages): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    Ok(match (fsync, commit, pages) {
        _ if version < OLDEST => Err(format!("it is older than PostgreSQL {}: upgrade it", OLDEST / 10_000)),
        ("off", ..) => Err("fsync is off, so a power cut loses acknowledged commits: set fsync = on".to_owned()),
        (_, "on", "on") => Ok(()),
        (_, "on", _) => Err("full_page_writes is off, so a power cut may damage it: set it on".to_owned()),
        _ => Err("synchronous_commit cannot be set on for this role: allow it".to_owned()),
    })
}

/// Finds a pooler that lends one server connection to several sessions: settings and prepared statements of one would
/// be another one's. It lends the connection that it used last.
async fn own_sessions(first: &Session, second: &Session) -> Result<Result<(), String>, tokio_postgres::Error> {
    const MARK: &str = "erasure.session";
    first.client.batch_execute(&format!("set {MARK} = 'first'")).await?;
    second.client.batch_execute("begin").await?;
    let row = second.client.query_one("select coalesce(current_setting($1, true), '')", &[&MARK]).await?;
    let seen: String = row.try_get(0)?;
    let row = first.client.query_one("select coalesce(current_setting($1, true), '')", &[&MARK]).await?;
    let kept: String = row.try_get(0)?;
    second.client.batch_execute("rollback").await?;
    Ok(match (seen.as_str(), kept.as_str()) {
        ("", "first") => Ok(()),
        _ => Err("a pooler shares its connections (transaction mode): name the server itself, or a pool in session \
                  mode"
            .to_owned()),
    })
}

enum Version {
    New,
    Known,
    Newer(i32),
}

/// Makes the tables if there are none. Two processes may begin at the same time.
async fn tables(client: &Client, schema: &str) -> Result<Version, tokio_postgres::Error> {
    for attempt in 0.. {
        let found = client.query_one("select to_regclass($1) is not null", &[&of(schema, "SCHEMA.version")]).await?;
        if found.try_get(0)? {
            let row = client.query_one(&of(schema, "select max(version) from SCHEMA.version"), &[]).await?;
            let version: i32 = row.try_get(0)?;
            return Ok(if version > TABLES { Version::Newer(version) } else { Version::Known });
        }
        match create(client, schema).await {
            Ok(()) => return Ok(Version::New),
            Err(error) if attempt < 5 && is_race(&error) => {}
            Err(error) => return Err(error),
        }
        client.batch_execute("rollback").await?;
    }
    Ok(Version::Known)
}

fn is_race(error: &tokio_postgres::Error) -> bool {
    let races = [&SqlState::UNIQUE_VIOLATION, &SqlState::DUPLICATE_TABLE, &SqlState::DUPLICATE_SCHEMA];
    error.code().is_some_and(|code| races.contains(&code))
}

async fn create(client: &Client, schema: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    let has_schema = client.query_one("select to_regnamespace($1) is not null", &[&format!("\"{schema}\"")]).await?;
    if !has_schema.try_get::<_, bool>(0)? {
        client.batch_execute(&of(schema, "create schema SCHEMA")).await?;
    }
    client.batch_execute(&of(schema, CREATE)).await?;
    let put = of(schema, "insert into SCHEMA.entry values (0, $1, $2, $3)");
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let meta = Table::Meta as i16;
    client.execute(&put, &[&meta, &VERSION_KEY, &VERSION.to_be_bytes().as_slice()]).await?;
    client.execute(&put, &[&meta, &CREATED_KEY, &now.as_secs().to_be_bytes().as_slice()]).await?;
    client.batch_execute("commit").await
}

/// Takes the store. A dead process's lease ends; a living process renews its lease.
async fn take(
    client: &Client,
    options: &Options,
    incarnation: &str,
    shown: &str,
) -> Result<Result<i64, tokio_postgres::Error>, StoreError> {
    let text = of(&options.schema, "select until::text, incarnation from SCHEMA.slice where slice = $1");
    let statement = of(&options.schema, TAKE);
    let seconds = options.lease.as_secs_f64();
    let mut first: Option<(String, String)> = None;
    loop {
        let taken = client.query_opt(&statement, &[&super::SLICE, &incarnation, &seconds]).await;
        match taken.and_then(|row| row.map(|row| row.try_get::<_, i64>(0)).transpose()) {
            Ok(Some(epoch)) => return Ok(Ok(epoch)),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let row = match client.query_opt(&text, &[&super::SLICE]).await {
            Ok(row) => row,
            Err(error) => return Ok(Err(error)),
        };
        let owner = row.and_then(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)));
        match (&first, owner) {
            (None, owner) => {
                tracing::warn!(
                    target: TARGET,
                    "the store is leased to another process; if that one is dead, the lease ends within {} seconds",
                    options.lease.as_secs()
                );
                first = owner;
            }
            (Some(first), Some(owner)) if *first != owner => {
                return Err(StoreError::Held { path: shown.to_owned() });
            }
            (Some(_), _) => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

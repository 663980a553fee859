//! A store on disk moves into the database.
//!
//! The rule it keeps: all rows arrive, or none.

use tokio_postgres::Client;

use super::super::{Store, StoreError, Table};
use super::link::{Trouble, Use, connect};
use super::schema::{self, GIVE_BACK, of};
use super::{Address, Options, SLICE, incarnation};

/// Rows of one statement.
const PAGE: usize = 1_000;

/// The copied rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Open and failed jobs.
    pub jobs: u64,
    /// Ended jobs that are remembered.
    pub ended: u64,
    /// All rows and notes.
    pub rows: u64,
}

/// Copies a store into an empty one, in one transaction. Blocks.
///
/// # Errors
/// Those of [`super::PostgresStore::open`]; [`StoreError::Unfit`] if the store there is not empty.
pub fn copy(from: &dyn Store, address: &Address, options: &Options) -> Result<Copied, StoreError> {
    let failed = |error: std::io::Error| StoreError::Broken(format!("a thread cannot be started: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let incarnation = incarnation();
        let taken = schema::open(address, options, &incarnation).await?;
        let shown = options.shown(address);
        let session = connect(address, Use::Durable, options.statement_timeout).await;
        let session = session.map_err(|trouble| trouble.at(&shown))?;
        let by = |error: tokio_postgres::Error| Trouble::of(&error).at(&shown);
        let copied = whole(from, &session.client, options, taken.epoch, &incarnation, &shown).await;
        // A failed transaction is over first.
        session.client.batch_execute("rollback").await.map_err(by)?;
        let give_back = of(&options.schema, GIVE_BACK);
        session.client.execute(&give_back, &[&SLICE, &taken.epoch, &incarnation]).await.map_err(by)?;
        copied?.map_err(by)
    })
}

async fn whole(
    from: &dyn Store,
    client: &Client,
    options: &Options,
    epoch: i64,
    incarnation: &str,
    shown: &str,
) -> Result<Result<Copied, tokio_postgres::Error>, StoreError> {
    // A statement for each page; the store on disk is read in between.
    macro_rules! answered {
        ($answer:expr) => {
            match $answer {
                Ok(done) => done,
                Err(error) => return Ok(Err(error)),
            }
        };
    }
    answered!(client.batch_execute("begin; set local idle_in_transaction_session_timeout = 0").await);
    let is_empty = of(
        &options.schema,
        "select not exists (select from SCHEMA.entry where slice = $1 and not (tab = $2 and key in ($3, $4))) and not \
         exists (select from SCHEMA.note where slice = $1)",
    );
    let (meta, version, created) = (Table::Meta as i16, super::super::VERSION_KEY, super::super::CREATED_KEY);
    let empty = answered!(client.query_one(&is_empty, &[&SLICE, &meta, &version, &created]).await);
    if !answered!(empty.try_get::<_, bool>(0)) {
        let why = "it has rows: copy into an empty schema".to_owned();
        return Err(StoreError::Unfit { path: shown.to_owned(), why });
    }
    let put = of(
        &options.schema,
        "insert into SCHEMA.entry (slice, tab, key, value) select $1, $2, new.key, new.value from unnest($3::bytea[], \
         $4::bytea[]) as new (key, value) on conflict (slice, tab, key) do update set value = excluded.value",
    );
    let put = answered!(client.prepare(&put).await);
    let mut copied = Copied::default();
    for table in Table::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = from.scan(table, b"", after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) =
                page.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).unzip();
            answered!(client.execute(&put, &[&SLICE, &(table as i16), &keys, &values]).await);
            let count = page.len() as u64;
            copied.rows += count;
            match table {
                Table::Job => copied.jobs += count,
                Table::Ended => copied.ended += count,
                _ => {}
            }
        }
    }
    let note = of(&options.schema, "insert into SCHEMA.note values ($1, $2, $3)");
    for (key, value) in from.notes()? {
        answered!(client.execute(&note, &[&SLICE, &key, &value]).await);
        copied.rows += 1;
    }
    // Nobody has taken the store meanwhile.
    let still = of(
        &options.schema,
        "update SCHEMA.slice set until = clock_timestamp() where slice = $1 and epoch = $2 and incarnation = $3",
    );
    if answered!(client.execute(&still, &[&SLICE, &epoch, &incarnation]).await) != 1 {
        return Err(StoreError::Fenced);
    }
    answered!(client.batch_execute("commit").await);
    Ok(Ok(copied))
}

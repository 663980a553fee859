//! The store in PostgreSQL: for a worker without a disk.
//!
//! The rule it keeps: the same promises as the store on disk. One process owns it, by a lease that every commit
//! renews; a write of any other process counts for nothing. The rows are the same bytes: what is sealed stays sealed.
//!
//! In reading order: `schema` (tables, checks, the taking of the store), `link` (connections, errors), `sink` (the
//! committer's groups), `cache` (rows in memory), `copy` (a store on disk moves here).

mod cache;
mod copy;
mod link;
mod schema;
mod sink;

use std::fmt;
use std::ops::Bound;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio::sync::watch;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::cache::{Cache, Rows};
pub use self::copy::{Copied, copy};
pub use self::link::Address;
use self::link::{Link, Trouble, Use};
use self::schema::{GIVE_BACK, of};
use self::sink::{Groups, Owner};
use super::committer::{Committer, Health};
use super::layout::{flat, start};
use super::{Batch, DurableStore, Pair, Store, StoreError, StoreStats, TARGET, Table, Ticket, Wanted};

/// The part of the jobs: a store with one worker has this one only.
const SLICE: i32 = 0;
/// The pause between renewals of the lease while nothing is committed.
const RENEW: Duration = Duration::from_secs(5);
/// The renewals between two looks at the standbys and the size.
const LOOKS: u32 = 6;
/// Rows of a page, when all rows below a prefix are read.
const ALL: i64 = i64::MAX;

/// The store's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema with the store's tables.
    pub schema: String,
    /// The connections: one for commits, one for the lease, the others for reads.
    pub connections: usize,
    /// The time limit of a statement.
    pub statement_timeout: Duration,
    /// The time without a sign of life after which another process may take the store over. It must be longer than
    /// the longest call to a system.
    pub lease: Duration,
    /// False: the operator vouches that a failover loses nothing, although a standby streams asynchronously.
    pub checks_standbys: bool,
}

impl Options {
    fn shown(&self, address: &Address) -> String {
        format!("{} (schema {})", address.shown(), self.schema)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The store, ready for use.
    pub store: PostgresStore,
    /// True if there was no store: this one is empty.
    pub is_new: bool,
}

/// The store in a database. One process owns it; its drop commits everything submitted and gives it back.
pub struct PostgresStore {
    committer: Committer,
    shared: Arc<Shared>,
    health: Health,
    /// `None` after the drop began.
    runtime: Option<Runtime>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("committer", &self.committer).finish_non_exhaustive()
    }
}

/// The parts that readers, committer and keeper share.
struct Shared {
    options: Options,
    owner: Owner,
    shown: String,
    readers: Vec<Link>,
    next_reader: AtomicUsize,
    cache: Mutex<Cache>,
    /// The end of the lease, in milliseconds since the machine's start.
    until: AtomicI64,
    away: Mutex<Option<(Instant, String)>>,
    is_closing: AtomicBool,
    may_forget: AtomicBool,
    bytes: AtomicU64,
    /// Reads for which a thread waited.
    trips: AtomicU64,
}

/// Milliseconds since the machine's start, its sleep included.
fn since_boot() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease was renewed by a statement that was sent at this time.
    fn renewed(&self, sent_at: i64) {
        let lease = i64::try_from(self.options.lease.as_millis()).unwrap_or(i64::MAX);
        self.until.fetch_max(sent_at.saturating_add(lease), AcqRel);
    }

    /// Another process owns the store.
    fn lost(&self) {
        self.until.store(i64::MIN, Release);
    }

    fn is_away(&self, why: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_none() {
            tracing::error!(
                target: TARGET,
                why,
                "the store's database is away: no new job is taken; answers of systems wait in memory until it is back"
            );
        }
        *away = Some((away.as_ref().map_or_else(Instant::now, |(since, _)| *since), why.to_owned()));
    }

    fn is_back(&self) {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((since, _)) = away {
            tracing::info!(target: TARGET, seconds = since.elapsed().as_secs(), "the store's database is back");
        }
    }

    fn away(&self) -> StoreError {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let why = away.as_ref().map_or_else(|| "no connection".to_owned(), |(_, why)| why.clone());
        Trouble::Away(why).at(&self.shown)
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Acquire)
    }

    fn reader(&self) -> &Link {
        &self.readers[self.next_reader.fetch_add(1, Relaxed) % self.readers.len()]
    }

    /// Runs a statement on a connection for reads; on another one if the first was lost meanwhile.
    async fn query(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.reader().run(async |session| session.query(text, values).await).await {
                Err(Trouble::Away(_)) if tries < 2 => {}
                done => return done,
            }
        }
    }

    /// A row by its flat key, from memory if it is there.
    async fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        let reading = {
            let mut cache = self.cache();
            // Asked and begun under one lock: a row that arrives in between would be neither here nor read.
            if let Some(here) = cache.get(key) {
                return Ok(here);
            }
            Reading { shared: self, rows: cache.begin(vec![key.to_vec()]), below: Vec::new() }
        };
        Ok(self.carry_out(reading).await?.remove(key))
    }

    /// Brings rows, and the rows below prefixes, into memory, if they are not there.
    async fn read(&self, rows: Vec<Vec<u8>>, below: Vec<Vec<u8>>) -> Result<(), Trouble> {
        let reading = {
            let mut cache = self.cache();
            Reading { shared: self, rows: cache.begin(rows), below: cache.begin_below(below) }
        };
        if reading.rows.is_empty() && reading.below.is_empty() {
            return Ok(());
        }
        self.carry_out(reading).await.map(drop)
    }

    /// Reads from the database, and keeps the rows in memory. Returns them.
    async fn carry_out(&self, reading: Reading<'_>) -> Result<Rows, Trouble> {
        let tables = |keys: &[Vec<u8>]| keys.iter().map(|key| i16::from(key[0])).collect::<Vec<_>>();
        let single: Vec<&[u8]> = reading.rows.iter().map(|key| &key[1..]).collect();
        let from: Vec<&[u8]> = reading.below.iter().map(|key| &key[1..]).collect();
        let to: Vec<Option<Vec<u8>>> = reading.below.iter().map(|key| after_prefix(&key[1..])).collect();
        let text = of(
            &self.options.schema,
            "select e.tab, e.key, e.value from unnest($2::smallint[], $3::bytea[]) as r (tab, key) join SCHEMA.entry e \
             on e.slice = $1 and e.tab = r.tab and e.key = r.key \
             union all select e.tab, e.key, e.value from unnest($4::smallint[], $5::bytea[], $6::bytea[]) as b (tab, low, \
             high) join SCHEMA.entry e on e.slice = $1 and e.tab = b.tab and e.key >= b.low and (b.high is null or e.key \
             < b.high)",
        );
        let found =
            self.query(&text, &[&SLICE, &tables(&reading.rows), &single, &tables(&reading.below), &from, &to]).await?;
        let mut all = Rows::new();
        for row in &found {
            let pair =
                (|| Ok::<_, tokio_postgres::Error>((row.try_get::<_, i16>(0)?, row.try_get(1)?, row.try_get(2)?)))();
            let (table, key, value): (i16, Vec<u8>, Vec<u8>) = pair.map_err(|error| Trouble::of(&error))?;
            let table = u8::try_from(table).unwrap_or_default();
            all.insert([&[table], &key[..]].concat(), value);
        }
        reading.end(&all);
        Ok(all)
    }
}

/// The first key after all keys with this prefix; `None` if there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

/// Rows that are being read. Dropped in the middle, they are not in memory.
struct Reading<'a> {
    shared: &'a Shared,
    rows: Vec<Vec<u8>>,
    below: Vec<Vec<u8>>,
}

impl Reading<'_> {
    fn end(mut self, found: &Rows) {
        let mut cache = self.shared.cache();
        for key in std::mem::take(&mut self.rows) {
            cache.end(&key, Some(found.get(&key).cloned()));
        }
        for prefix in std::mem::take(&mut self.below) {
            let rows = found.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let rows = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
            cache.end_below(&prefix, Some(rows));
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut cache = self.shared.cache();
        self.rows.iter().for_each(|key| cache.end(key, None));
        self.below.iter().for_each(|prefix| cache.end_below(prefix, None));
    }
}

impl PostgresStore {
    /// Opens the store in a database, and makes its tables if there are none. Waits for the end of a dead process's
    /// lease. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another process owns the store, [`StoreError::Newer`] if a newer release made its
    /// tables, [`StoreError::Unfit`] if the database could forget what it acknowledges, or the role has too few
    /// rights, [`StoreError::Away`] if it cannot be reached.
    pub fn open(address: &Address, options: Options) -> Result<Opened, StoreError> {
        let failed = |error: std::io::Error| StoreError::Broken(format!("a thread cannot be started: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-postgres")
            .enable_all()
            .build()
            .map_err(failed)?;
        let mut address = address.clone();
        address.config.application_name("erasure-worker store").connect_timeout(options.statement_timeout);
        let incarnation = incarnation();
        let asked_at = since_boot();
        let taken = blocking(runtime.handle(), {
            let (address, options, incarnation) = (address.clone(), options.clone(), incarnation.clone());
            async move { schema::open(&address, &options, &incarnation).await }
        })?;
        let link = |of| Link::new(address.clone(), of, options.statement_timeout);
        let shared = Arc::new(Shared {
            shown: options.shown(&address),
            owner: Owner { epoch: taken.epoch, incarnation },
            readers: (0..options.connections.saturating_sub(2).max(1)).map(|_| link(Use::Loose)).collect(),
            next_reader: AtomicUsize::new(0),
            cache: Mutex::default(),
            until: AtomicI64::new(i64::MIN),
            away: Mutex::default(),
            is_closing: AtomicBool::new(false),
            may_forget: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            trips: AtomicU64::new(0),
            options: options.clone(),
        });
        // The wait for another process's lease may have been long: the next commit, or the keeper, renews it in time.
        shared.renewed(asked_at);
        let health = Health::new();
        let groups = Groups {
            handle: runtime.handle().clone(),
            link: link(Use::Durable),
            shared: Arc::clone(&shared),
            health: health.clone(),
            last: 0,
        };
        let keeper = Keeper { link: link(Use::Durable), shared: Arc::clone(&shared), health: health.clone() };
        let first = blocking(runtime.handle(), async move {
            let first = keeper.renew().await.and(keeper.look().await);
            tokio::spawn(keeper.keep());
            first
        });
        first.map_err(|trouble| trouble.at(&shared.shown))?;
        let committer = Committer::start(groups, health.clone()).map_err(failed)?;
        let store = PostgresStore { committer, shared, health, runtime: Some(runtime) };
        Ok(Opened { store, is_new: taken.is_new })
    }

    /// The reads for which a thread waited: no row in memory answered them.
    pub fn trips(&self) -> u64 {
        self.shared.trips.load(Relaxed)
    }

    fn handle(&self) -> Result<&Handle, StoreError> {
        self.runtime.as_ref().map(Runtime::handle).ok_or(StoreError::Closed)
    }

    fn spawn(&self, work: impl Future<Output = Result<(), Trouble>> + Send + 'static) -> Ticket {
        let handle = match self.health.check().and_then(|()| self.handle()) {
            Ok(handle) => handle,
            Err(error) => return Ticket::settled(Err(error)),
        };
        let (reply, ticket) = Ticket::new();
        let shared = Arc::clone(&self.shared);
        handle.spawn(async move {
            let _ = reply.send(work.await.map_err(|trouble| trouble.at(&shared.shown)));
        });
        ticket
    }

    /// Waits for a read, not on a thread that other tasks need.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.health.check()?;
        self.shared.trips.fetch_add(1, Relaxed);
        let done = blocking(self.handle()?, work);
        done.map_err(|trouble| match trouble.at(&self.shared.shown) {
            StoreError::Broken(why) => self.health.fail(&why),
            error => error,
        })
    }
}

/// Waits for a task of the store's own threads.
fn blocking<T: Send + 'static>(handle: &Handle, work: impl Future<Output = T> + Send + 'static) -> T {
    let (reply, answer) = std::sync::mpsc::sync_channel(1);
    handle.spawn(async move {
        let _ = reply.send(work.await);
    });
    let wait = || answer.recv();
    let answer = match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    };
    match answer {
        Ok(answer) => answer,
        // The task panicked: so does its caller, as in the same thread.
        Err(_) => std::panic::resume_unwind(Box::new("a task of the store panicked")),
    }
}

fn incarnation() -> String {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store for PostgresStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = flat(table, key);
        if let Some(here) = self.shared.cache().get(&key) {
            return self.health.check().map(|()| here);
        }
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.row(&key).await })
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        if let Some(here) = self.shared.cache().scan(&flat(table, prefix), start(table, prefix, after), limit) {
            return self.health.check().map(|()| here);
        }
        let (low, is_first) = match start(table, prefix, after) {
            Bound::Excluded(key) => (key[1..].to_vec(), false),
            Bound::Included(key) => (key[1..].to_vec(), true),
            Bound::Unbounded => (Vec::new(), true),
        };
        let high = after_prefix(prefix);
        let limit = i64::try_from(limit).unwrap_or(ALL);
        let text = of(
            &self.shared.options.schema,
            "select key, value from SCHEMA.entry where slice = $1 and tab = $2 and key >= $3 and ($4 or key > $3) and \
             ($5::bytea is null or key < $5) order by key limit $6",
        );
        let (shared, table) = (Arc::clone(&self.shared), table as i16);
        self.wait(async move {
            let rows = shared.query(&text, &[&SLICE, &table, &low, &is_first, &high, &limit]).await?;
            pairs(&rows)
        })
    }

    fn submit(&self, batch: Batch) -> Ticket {
        self.committer.submit(batch, false)
    }

    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket {
        let (shared, key, value) = (Arc::clone(&self.shared), key.to_vec(), value.map(<[u8]>::to_vec));
        self.spawn(async move {
            // Only the owner's note counts.
            let owned = "(select slice from SCHEMA.slice where slice = $1 and epoch = $2 and incarnation = $3)";
            let text = match value {
                Some(_) => format!(
                    "insert into SCHEMA.note (slice, key, value) select slice, $4, $5 from {owned} as owner on conflict \
                     (slice, key) do update set value = excluded.value"
                ),
                None => format!("delete from SCHEMA.note where slice = {owned} and key = $4 and $5::bytea is null"),
            };
            let owner = &shared.owner;
            let text = of(&shared.options.schema, &text);
            shared.query(&text, &[&SLICE, &owner.epoch, &owner.incarnation, &key, &value]).await.map(drop)
        })
    }

    fn notes(&self) -> Result<Vec<Pair>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move {
            let text = of(&shared.options.schema, "select key, value from SCHEMA.note where slice = $1");
            pairs(&shared.query(&text, &[&SLICE]).await?)
        })
    }

    fn warm(&self, rows: &dyn Fn() -> Wanted) -> Option<Ticket> {
        let Wanted { rows, below } = rows();
        let flat = |keys: Vec<(Table, Vec<u8>)>| keys.into_iter().map(|(table, key)| flat(table, &key)).collect();
        let (shared, rows, below) = (Arc::clone(&self.shared), flat(rows), flat(below));
        Some(self.spawn(async move { shared.read(rows, below).await }))
    }

    fn vouched_for(&self) -> Option<Duration> {
        let left = self.shared.until.load(Acquire).saturating_sub(since_boot());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    fn ailments(&self) -> Vec<(&'static str, String)> {
        let mut ailments = Vec::new();
        if let Some((since, why)) = &*self.shared.away.lock().unwrap_or_else(PoisonError::into_inner) {
            let seconds = since.elapsed().as_secs();
            ailments.push((AWAY, format!("the store's database is away for {seconds} seconds: {why}")));
        }
        if self.shared.may_forget.load(Relaxed) {
            let detail = "a standby of the store's database streams asynchronously, so a failover may forget \
                          acknowledged commits: name it in synchronous_standby_names, or vouch for it with \
                          store.postgres.durability = \"trusted\"";
            ailments.push((MAY_FORGET, detail.to_owned()));
        }
        ailments
    }

    fn check(&self) -> Ticket {
        self.committer.submit(Batch::new(), true)
    }

    fn stats(&self) -> StoreStats {
        self.committer.counts.stats(self.shared.bytes.load(Relaxed))
    }
}

/// The words of [`Store::ailments`].
pub const AWAY: &str = "store_away";
/// See [`AWAY`].
pub const MAY_FORGET: &str = "store_may_forget";

fn pairs(rows: &[Row]) -> Result<Vec<Pair>, Trouble> {
    let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect::<Result<_, _>>().map_err(|error| Trouble::of(&error))
}

impl DurableStore for PostgresStore {
    fn broken(&self) -> watch::Receiver<Option<String>> {
        self.health.subscribe()
    }

    /// The keeper does.
    fn check_presence(&self) {}

    /// Gives the store back, so that the next process need not wait. A database that is away is waited for a few
    /// seconds only.
    fn close(&self) {
        self.shared.is_closing.store(true, Release);
        self.committer.close();
        if let (Ok(()), Ok(handle)) = (self.health.check(), self.handle()) {
            let shared = Arc::clone(&self.shared);
            let given_back = blocking(handle, async move {
                let text = of(&shared.options.schema, GIVE_BACK);
                let owner = &shared.owner;
                let values: [&(dyn ToSql + Sync); 3] = [&SLICE, &owner.epoch, &owner.incarnation];
                shared.query(&text, &values).await.map(drop)
            });
            if let Err(trouble) = given_back {
                tracing::warn!(target: TARGET, ?trouble, "the store was not given back: the next start waits for the lease's end");
            }
            self.shared.lost();
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if self.vouched_for() != Some(Duration::ZERO) {
            self.close();
        }
        self.committer.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Renews the lease while nothing is committed, and looks at the database.
struct Keeper {
    link: Link,
    shared: Arc<Shared>,
    health: Health,
}

impl Keeper {
    async fn keep(self) {
        for round in 1_u32.. {
            tokio::time::sleep(RENEW).await;
            if self.shared.is_closing() {
                return;
            }
            let looked = async {
                self.renew().await?;
                if round % LOOKS == 0 { self.look().await } else { Ok(()) }
            };
            match looked.await {
                Ok(()) => {}
                Err(Trouble::Refused(why)) => {
                    let _ = self.health.fail(&format!("the store's database refuses a statement: {why}"));
                    return;
                }
                Err(Trouble::Full) => {}
                // The committer tells, if there is something to commit.
                Err(Trouble::Away(why)) => tracing::debug!(target: TARGET, why, "the lease could not be renewed"),
            }
        }
    }

    async fn renew(&self) -> Result<(), Trouble> {
        let sent_at = since_boot();
        let (owner, options) = (&self.shared.owner, &self.shared.options);
        let text = of(
            &options.schema,
            "update SCHEMA.slice set until = clock_timestamp() + make_interval(secs => $4) where slice = $1 and epoch = $2 \
             and incarnation = $3",
        );
        let seconds = options.lease.as_secs_f64();
        let values: [&(dyn ToSql + Sync); 4] = [&SLICE, &owner.epoch, &owner.incarnation, &seconds];
        let rows = self.link.run(async |session| session.execute(&text, &values).await).await?;
        if rows == 1 {
            self.shared.renewed(sent_at);
        } else if !self.shared.is_closing() {
            self.shared.lost();
            let _ = self.health.fail(&StoreError::Fenced.to_string());
        }
        Ok(())
    }

    /// Whether an asynchronous standby could be promoted; the store's size.
    async fn look(&self) -> Result<(), Trouble> {
        const STANDBYS: &str = "select current_setting('synchronous_standby_names') = '' and exists (select from \
                                pg_stat_replication where coalesce(state, 'streaming') = 'streaming')";
        let size = of(
            &self.shared.options.schema,
            "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c where c.oid in \
             ('SCHEMA.entry'::regclass, 'SCHEMA.note'::regclass, 'SCHEMA.slice'::regclass)",
        );
        let (may_forget, bytes): (bool, i64) = self
            .link
            .run(async |session| {
                let standbys = session.client.query_one(STANDBYS, &[]).await?;
                let size = session.client.query_one(&size, &[]).await?;
                Ok((standbys.try_get(0)?, size.try_get(0)?))
            })
            .await?;
        let may_forget = may_forget && self.shared.options.checks_standbys;
        if may_forget && !self.shared.may_forget.swap(true, Relaxed) {
            tracing::warn!(
                target: TARGET,
                "a standby of the store's database streams asynchronously: a failover may forget acknowledged commits"
            );
        }
        self.shared.may_forget.store(may_forget, Relaxed);
        self.shared.bytes.store(u64::try_from(bytes).unwrap_or_default(), Relaxed);
        Ok(())
    }
}

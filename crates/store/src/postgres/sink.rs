//! The committer's part: each group is one statement.
//!
//! The rule it keeps: a group counts only with the owner's epoch, incarnation and the next number. After a lost
//! connection the same group is sent with the same number until the database says what became of it; meanwhile its
//! tickets wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::super::committer::{CommitError, Health, Sink};
use super::super::layout::{Change, Changes};
use super::super::{StoreError, TARGET};
use super::link::{Link, Trouble};
use super::schema::of;
use super::{SLICE, Shared};

const COMMIT: &str = "
with owner as (
    update SCHEMA.slice set last_batch = $4::bigint, until = clock_timestamp() + make_interval(secs => $5)
    where slice = $1 and epoch = $2 and incarnation = $3 and last_batch = $4::bigint - 1 returning slice),
put as (
    insert into SCHEMA.entry (slice, tab, key, value)
    select owner.slice, new.tab, new.key, new.value
    from owner, unnest($6::smallint[], $7::bytea[], $8::bytea[]) as new (tab, key, value)
    on conflict (slice, tab, key) do update set value = excluded.value),
gone as (
    delete from SCHEMA.entry using owner, unnest($9::smallint[], $10::bytea[]) as old (tab, key)
    where entry.slice = owner.slice and entry.tab = old.tab and entry.key = old.key)
select count(*) from owner";

const OWNER: &str = "select epoch, incarnation, last_batch from SCHEMA.slice where slice = $1";

/// The first pause before a group is sent again, and the longest: it doubles.
const AGAIN: Duration = Duration::from_millis(10);
const AGAIN_MOST: Duration = Duration::from_secs(1);
/// For so long a stop waits for a database that is away: its end must not need longer than the process has.
const STOP_WAITS: Duration = Duration::from_millis(500);

/// Who may write.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) epoch: i64,
    pub(super) incarnation: String,
}

/// What became of a group.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Committed,
    /// Another process owns the store.
    Fenced,
    /// The database has forgotten groups that it had acknowledged.
    Forgotten,
}

/// The destination of the committer's groups.
pub(super) struct Groups {
    pub(super) handle: Handle,
    pub(super) link: Link,
    pub(super) shared: Arc<Shared>,
    pub(super) health: Health,
    pub(super) last: i64,
}

#[derive(Default)]
struct Columns<'a> {
    put: (Vec<i16>, Vec<&'a [u8]>, Vec<&'a [u8]>),
    gone: (Vec<i16>, Vec<&'a [u8]>),
}

fn columns(changes: &Changes) -> Columns<'_> {
    let mut columns = Columns::default();
    for (key, change) in changes {
        let (table, key) = (i16::from(key[0]), &key[1..]);
        match change {
            Change::Put(value) => {
                columns.put.0.push(table);
                columns.put.1.push(key);
                columns.put.2.push(value);
            }
            Change::Removed | Change::Archived => {
                columns.gone.0.push(table);
                columns.gone.1.push(key);
            }
        }
    }
    columns
}

impl Groups {
    async fn send(&self, number: i64, changes: &Changes) -> Result<Became, Trouble> {
        let (shared, owner) = (&self.shared, &self.shared.owner);
        let columns = columns(changes);
        let asked_at = super::since_boot();
        let seconds = shared.options.lease.as_secs_f64();
        let (commit, who) = (of(&shared.options.schema, COMMIT), of(&shared.options.schema, OWNER));
        let became = self
            .link
            .run(async |session| {
                let rows = session
                    .query(
                        &commit,
                        &[
                            &SLICE,
                            &owner.epoch,
                            &owner.incarnation,
                            &number,
                            &seconds,
                            &columns.put.0,
                            &columns.put.1,
                            &columns.put.2,
                            &columns.gone.0,
                            &columns.gone.1,
                        ],
                    )
                    .await?;
                if rows.iter().any(|row| matches!(row.try_get(0), Ok(1_i64))) {
                    return Ok(Became::Committed);
                }
                let rows = session.query(&who, &[&SLICE]).await?;
                let Some(row) = rows.first() else { return Ok(Became::Forgotten) };
                let (epoch, incarnation, last): (i64, String, i64) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                Ok(match (epoch == owner.epoch && incarnation == owner.incarnation, last) {
                    (true, last) if last == number => Became::Committed,
                    (true, _) => Became::Forgotten,
                    // The owner's own epoch was given out later than the database remembers.
                    (false, _) if epoch < owner.epoch => Became::Forgotten,
                    (false, _) => Became::Fenced,
                })
            })
            .await?;
        if became == Became::Committed {
            shared.renewed(asked_at);
        }
        Ok(became)
    }

    /// Repeats until the database answers, or the store is closed while it is away.
    fn until_answered<T>(&self, what: impl AsyncFn() -> Result<T, Trouble>) -> Result<T, StoreError> {
        let (mut stopping, mut pause): (Option<Instant>, _) = (None, AGAIN);
        loop {
            let trouble = match self.handle.block_on(what()) {
                Ok(done) => {
                    self.shared.is_back();
                    return Ok(done);
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Away(why) => self.shared.is_away(&why),
                answered => {
                    self.shared.is_back();
                    return Err(match answered.at(&self.shared.shown) {
                        StoreError::Broken(why) => self.health.fail(&why),
                        error => error,
                    });
                }
            }
            self.health.check()?;
            if self.shared.is_closing() && stopping.get_or_insert_with(Instant::now).elapsed() >= STOP_WAITS {
                tracing::error!(target: TARGET, "the store's database is away, and the worker stops without it");
                return Err(self.shared.away());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(AGAIN_MOST);
        }
    }
}

impl Sink for Groups {
    fn room(&self, _bytes: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.until_answered(async || self.shared.row(key).await)
    }

    fn in_tree(&self, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        Ok(self.get(key)?.map(Some))
    }

    fn commit(&mut self, changes: Changes) -> Result<(), CommitError> {
        let number = self.last + 1;
        let became = self.until_answered(async || self.send(number, &changes).await).map_err(CommitError::Refused)?;
        match became {
            Became::Committed => {
                self.last = number;
                self.shared.cache().apply(&changes);
                Ok(())
            }
            Became::Fenced => {
                self.shared.lost();
                Err(CommitError::Broken(StoreError::Fenced.to_string()))
            }
            Became::Forgotten => {
                self.shared.lost();
                Err(CommitError::Broken(
                    "the store's database has forgotten what it had acknowledged (a failover to a standby that was \
                     behind?): the next start reads every open job's state from the systems again"
                        .to_owned(),
                ))
            }
        }
    }
}

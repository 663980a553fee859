//! The store on disk: one sled tree, written by the committer alone, and the archive beside it.
//!
//! The rule it keeps: sled's own `flush` does not flush the device's cache, so every group ends with a `sync_data` of
//! the log file before it is reported as durable. The tree's value of a key counts before the archive's.

use std::cmp::Ordering;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::watch;

use super::archive::Archive;
use super::archiver::{Archiver, Mover, Resting, bed};
use super::committer::{CommitError, Committer, Health, Sink};
use super::folder::{Mark, StateDir, sync_dir};
use super::layout::{self, Change, Changes, Cuts, GROUP_KEY, flat, is_archived};
use super::notes::Notes;
use super::opening::{Found, read};
use super::options::{FreeSpace, LogFile, Options, Syncer};
use super::presence::Presence;
use super::value::{Failure, value_of, whole_value};
use super::{Batch, DurableStore, Pair, Store, StoreError, StoreStats, TARGET, Table, Ticket};

/// The version of the records that this release writes. It also reads version 1, which has no archive.
pub const VERSION: u32 = 2;
/// The key in [`Table::Meta`] that holds the version, four bytes, big-endian.
pub const VERSION_KEY: &[u8] = b"version";
/// The key in [`Table::Meta`] with the time of the store's creation: seconds since 1970, eight bytes, big-endian. A
/// store of an earlier release has none.
pub const CREATED_KEY: &[u8] = b"created";

/// An open store, and the new place of a damaged one, if there was one.
#[derive(Debug)]
pub struct Opened {
    /// The store, ready for use.
    pub store: SledStore,
    /// The folder with the damaged store; the open one started empty.
    pub moved_aside: Option<PathBuf>,
    /// True if there was no store: this one is empty.
    pub is_new: bool,
}

/// The store on disk. One process owns it; its drop commits everything submitted and closes it.
pub struct SledStore {
    // Dropped in this order: the threads end, sled and redb close their files, the directory is unlocked.
    committer: Committer,
    archiver: Archiver,
    db: sled::Db,
    archive: Arc<Archive>,
    whole: Arc<RwLock<()>>,
    health: Health,
    notes: Notes,
    presence: Arc<Presence>,
    state: StateDir,
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("committer", &self.committer).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in a state directory, and creates what is missing. Reads every record once, so that damage
    /// shows at the opening and not in the middle of a job. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another process owns the directory, [`StoreError::Newer`] if a newer release wrote it
    /// (nothing is changed), [`StoreError::Full`] if there is no room for a new store, [`StoreError::Unreadable`] if
    /// sled itself has another format, [`StoreError::Broken`] if the disk fails. Damage is no error: the store is
    /// moved aside and a new one opened.
    pub fn open(state_dir: &Path, options: Options) -> Result<Opened, StoreError> {
        let state = StateDir::take(state_dir)?;
        let failed = |error: io::Error| StoreError::Broken(format!("the state directory failed: {error}"));
        let mut moved_aside = None;
        let (tree, archive) = match read(&state, &options)? {
            Found::Sound(tree, archive) => (tree, archive),
            Found::Damaged(why) => {
                let aside = state.move_aside().map_err(failed)?;
                tracing::error!(target: TARGET, moved_to = %aside.display(), why, "the store was damaged and is moved aside; a new one starts empty");
                moved_aside = Some(aside);
                match read(&state, &options)? {
                    Found::Sound(tree, archive) => (tree, archive),
                    Found::Damaged(why) => return Err(StoreError::Broken(format!("a new store is damaged: {why}"))),
                }
            }
        };
        let log = OpenOptions::new().read(true).write(true).open(state.store().join("db")).map_err(failed)?;
        let db = tree.db;
        let whole = Arc::new(RwLock::new(()));
        let (resting, bed) = bed(options.archive_after);
        let own = state.own().into_iter().chain([state.store(), state.store().join("db")]);
        let presence = Arc::new(Presence::of(own).map_err(failed)?);
        let is_new = tree.version.is_none();
        let mut disk = Disk {
            presence: Arc::clone(&presence),
            db: db.clone(),
            archive: archive.clone(),
            resting,
            cuts: tree.cuts,
            group: tree.group,
            mark: tree.mark,
            syncer: (options.wrap_syncer)(LogFile(log)),
            whole: whole.clone(),
            path: state.store(),
            shown: state.shown(),
            min_free: options.min_free,
            free_space: options.free_space.clone(),
        };
        if is_new {
            tracing::warn!(
                target: TARGET,
                path = state.shown(),
                "there was no store here: a new one is made, which remembers nothing. Where a worker has run before, \
                 its state directory was lost or another one is configured"
            );
        }
        if tree.version != Some(VERSION) {
            disk.room(0)?;
            let version = (flat(Table::Meta, VERSION_KEY), Change::Put(VERSION.to_be_bytes().to_vec()));
            let mut changes = Changes::from([version]);
            if is_new {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                changes.insert(flat(Table::Meta, CREATED_KEY), Change::Put(now.to_be_bytes().to_vec()));
            }
            match disk.commit(changes) {
                Ok(()) => {}
                Err(CommitError::Broken(why)) => return Err(StoreError::Broken(why)),
                Err(CommitError::Refused(error)) => return Err(error),
            }
            File::open(state.store().join("conf")).and_then(|conf| conf.sync_all()).map_err(failed)?;
            sync_dir(&state.store()).map_err(failed)?;
        }
        let notes = Notes::open(&state.store()).map_err(failed)?;
        disk.resting.add(tree.resting);
        let health = Health::new();
        let committer = Committer::start(disk, health.clone()).map_err(failed)?;
        let mover = Mover {
            db: db.clone(),
            archive: archive.clone(),
            whole: whole.clone(),
            orders: committer.orders(),
            health: health.clone(),
            path: state.store(),
            min_free: options.min_free,
            free_space: options.free_space,
        };
        let archiver = Archiver::start(mover, bed).map_err(failed)?;
        let store = Self { committer, archiver, db, archive, whole, health, notes, presence, state };
        Ok(Opened { store, moved_aside, is_new })
    }

    /// Runs a read that sees no part of a commit. sled panics on some kinds of damage.
    fn read<T>(&self, read: impl FnOnce(&sled::Db) -> Result<T, Failure>) -> Result<T, StoreError> {
        self.health.check()?;
        let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        match catch_unwind(AssertUnwindSafe(|| read(&self.db))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Sled(error))) => Err(self.health.fail(&format!("a read failed: {error}"))),
            Ok(Err(Failure::Archive(error))) => {
                // Without a clean close, the next opening reads it completely.
                std::mem::forget(self.archive.clone());
                Err(self.health.fail(&error.to_string()))
            }
            Err(_) => {
                std::mem::forget(self.archive.clone());
                Err(self.health.fail("a read panicked"))
            }
        }
    }
}

impl Store for SledStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = flat(table, key);
        self.read(|db| value_of(db, &self.archive, &key))
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let start = layout::start(table, prefix, after);
        let prefix = flat(table, prefix);
        self.read(|db| {
            let mut resting = if is_archived(&prefix) { self.archive.range(&start)? } else { Default::default() };
            let mut rested = || match resting.next().transpose()? {
                Some(pair) if pair.0.starts_with(&prefix) => Ok(Some(pair)),
                _ => Ok::<_, Failure>(None),
            };
            let mut alive = db.range::<Vec<u8>, _>((start, Bound::Unbounded));
            let mut living = || match alive.next().transpose()? {
                Some(pair) if pair.0.starts_with(&prefix) => Ok(Some(pair)),
                _ => Ok::<_, Failure>(None),
            };
            let mut pairs = Vec::new();
            let (mut old, mut new) = (rested()?, living()?);
            while pairs.len() < limit {
                let order = match (&old, &new) {
                    (Some((old, _)), Some((new, _))) => old.as_slice().cmp(new),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => break,
                };
                let next_old = if order.is_le() { std::mem::replace(&mut old, rested()?) } else { None };
                let Some((key, stored)) = (if order.is_ge() { std::mem::replace(&mut new, living()?) } else { None })
                else {
                    pairs.extend(next_old.map(|(key, value)| (key[1..].to_vec(), value)));
                    continue;
                };
                if let Some(value) = whole_value(db, &key, &stored)? {
                    pairs.push((key[1..].to_vec(), value));
                }
            }
            Ok(pairs)
        })
    }

    fn submit(&self, batch: Batch) -> Ticket {
        self.committer.submit(batch, false)
    }

    fn note(&self, key: &[u8], value: Option<&[u8]>) -> Ticket {
        let noted = self.health.check().and_then(|()| {
            self.notes.note(key, value).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull => StoreError::Full { path: self.state.shown(), free: 0, needed: 1 },
                _ => self.health.fail(&format!("a note could not be written: {error}")),
            })
        });
        Ticket::settled(noted)
    }

    fn notes(&self) -> Result<Vec<Pair>, StoreError> {
        self.health.check()?;
        Ok(self.notes.all())
    }

    fn check(&self) -> Ticket {
        self.committer.submit(Batch::new(), true)
    }

    fn stats(&self) -> StoreStats {
        self.committer.counts.stats(self.db.size_on_disk().unwrap_or(0) + self.archive.bytes_on_disk())
    }
}

impl DurableStore for SledStore {
    fn broken(&self) -> watch::Receiver<Option<String>> {
        self.health.subscribe()
    }

    fn check_presence(&self) {
        if let Err(why) = self.presence.check() {
            let _ = self.health.fail(&why);
        }
    }

    /// Takes as long as the disk needs. The drop of the store does the same and unlocks the directory.
    fn close(&self) {
        self.committer.close();
        self.archiver.close();
    }
}

/// The committer's part of the store.
struct Disk {
    db: sled::Db,
    archive: Arc<Archive>,
    resting: Resting,
    cuts: Cuts,
    group: u64,
    mark: Mark,
    syncer: Box<dyn Syncer>,
    presence: Arc<Presence>,
    whole: Arc<RwLock<()>>,
    path: PathBuf,
    shown: String,
    min_free: u64,
    free_space: FreeSpace,
}

impl Disk {
    fn write(&mut self, changes: Changes) -> Result<(), String> {
        let more = changes.iter().filter(|(key, change)| is_archived(key) && **change != Change::Archived).count();
        let mut batch = sled::Batch::default();
        for (key, value) in self.cuts.lay_out(changes) {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.group += 1;
        batch.insert(GROUP_KEY, &self.group.to_be_bytes());
        {
            let _whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
            self.db.apply_batch(batch).map_err(|error| format!("a write failed: {error}"))?;
        }
        self.db.flush().map_err(|error| format!("a flush failed: {error}"))?;
        self.syncer.sync().map_err(|error| format!("a sync failed: {error}"))?;
        // A sync of a file without a path succeeds.
        self.presence.check()?;
        self.mark.write(self.group).map_err(|error| format!("the mark could not be written: {error}"))?;
        self.resting.add(more);
        Ok(())
    }

    /// A read whose panic does not end the thread.
    fn reading<T>(&self, read: impl FnOnce() -> Result<T, Failure>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Sled(error))) => Err(StoreError::Broken(format!("a read failed: {error}"))),
            Ok(Err(Failure::Archive(error))) => Err(StoreError::Broken(error.to_string())),
            Err(_) => Err(StoreError::Broken("a read panicked".into())),
        }
    }
}

impl Sink for Disk {
    fn room(&self, bytes: u64) -> Result<(), StoreError> {
        let needed = self.min_free.saturating_add(bytes);
        match (self.free_space)(&self.path) {
            Ok(free) if free < needed => Err(StoreError::Full { path: self.shown.clone(), free, needed }),
            // If the file system does not report its room, the write itself will.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|| value_of(&self.db, &self.archive, key))
    }

    fn in_tree(&self, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        self.reading(|| match self.db.get(key)? {
            Some(stored) => Ok(Some(whole_value(&self.db, key, &stored)?)),
            None => Ok(None),
        })
    }

    fn commit(&mut self, changes: Changes) -> Result<(), CommitError> {
        let answer = self.write(changes).map_err(CommitError::Broken);
        if answer.is_err() {
            // sled syncs once more when its last handle is dropped: that sync may "succeed" without the bytes that
            // the failed one lost. The process is about to stop, so the handle stays.
            std::mem::forget(self.db.clone());
        }
        answer
    }
}

//! Opening the store: the whole directory is read and checked.
//!
//! The rule it keeps: damage shows at the opening, not in the middle of a job. Missing acknowledged data is damage.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::archive::{Archive, ArchiveError};
use super::folder::{CLOSING, Mark, StateDir, sync_dir};
use super::layout::{ARCHIVE_KEY, Cuts, GROUP_KEY, SEGMENT, flat, is_archived};
use super::options::Options;
use super::value::{Failure, whole_value};
use super::{StoreError, Table, VERSION, VERSION_KEY};

/// A tree that was read completely.
pub(super) struct Tree {
    pub(super) db: sled::Db,
    pub(super) cuts: Cuts,
    pub(super) group: u64,
    pub(super) mark: Mark,
    pub(super) version: Option<u32>,
    /// The number of its rows for the archive.
    pub(super) resting: usize,
}

/// The content of the directory.
pub(super) enum Found {
    Sound(Tree, Arc<Archive>),
    Damaged(String),
}

/// Reads everything, and creates missing parts.
pub(super) fn read(state: &StateDir, options: &Options) -> Result<Found, StoreError> {
    let failed = |error: io::Error| StoreError::Broken(format!("the store's folder failed: {error}"));
    state.create_store().map_err(failed)?;
    let mark = Mark::open(&state.store()).map_err(failed)?;
    let durable = mark.read().map_err(failed)?;
    let began = Instant::now();
    loop {
        // sled panics on some kinds of damage; its open files then belong to the damaged folder.
        let error = match catch_unwind(AssertUnwindSafe(|| read_tree(&state.store(), options.cache))) {
            Err(_) => return Ok(Found::Damaged("reading it panicked".into())),
            Ok(Ok(read)) => return judge(read, mark, durable, state, options),
            Ok(Err(Failure::Store(error))) => return Ok(Found::Damaged(error.to_string())),
            Ok(Err(Failure::Archive(error))) => return Ok(Found::Damaged(error.to_string())),
            Ok(Err(Failure::Sled(error))) => error,
        };
        match error {
            sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => {
                // We hold the directory, so this process has probably just dropped the store: sled's threads release
                // the file a moment later.
                if began.elapsed() > CLOSING {
                    return Err(StoreError::Held { path: state.shown() });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            sled::Error::Io(error)
                if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                return Err(failed(error));
            }
            sled::Error::Unsupported(why) => return Err(StoreError::Unreadable(why)),
            error => return Ok(Found::Damaged(error.to_string())),
        }
    }
}

struct Read {
    db: sled::Db,
    cuts: Cuts,
    empty: bool,
    group: u64,
    /// The lowest number that the archive must have.
    archived: u64,
    resting: usize,
    version: Option<u32>,
}

fn read_tree(path: &Path, cache: u64) -> Result<Read, Failure> {
    let db = sled::Config::new()
        .path(path)
        .cache_capacity(cache)
        .segment_size(SEGMENT)
        .mode(sled::Mode::LowSpace)
        // The committer flushes, and the log is cleaned during writes: no thread of sled writes behind the
        // committer's back.
        .flush_every_ms(None)
        .open()?;
    let wrong = |_| StoreError::Unreadable("a number of the store has a wrong length".into());
    let whole = |key: &[u8]| match db.get(key)? {
        Some(stored) => Ok::<_, Failure>(whole_value(&db, key, &stored)?),
        None => Ok(None),
    };
    let version = whole(&flat(Table::Meta, VERSION_KEY))?;
    let version = version.map(|bytes| <[u8; 4]>::try_from(&bytes[..]).map(u32::from_be_bytes)).transpose();
    let version = version.map_err(wrong)?;
    if version.is_some_and(|found| found > VERSION) {
        // Its other records may have forms that look like damage to this release.
        return Ok(Read { db, cuts: Cuts::default(), empty: false, group: 0, archived: 0, resting: 0, version });
    }
    let archived = whole(ARCHIVE_KEY)?.map(|bytes| <[u8; 8]>::try_from(&bytes[..]).map(u64::from_be_bytes));
    let archived = archived.transpose().map_err(wrong)?.unwrap_or(0);
    let (mut cuts, mut empty, mut resting) = (Cuts::default(), true, 0);
    for pair in db.iter() {
        let (key, stored) = pair?;
        empty = false;
        resting += usize::from(is_archived(&key));
        cuts.learn(&key, &stored)?;
    }
    let group = match db.get(GROUP_KEY)? {
        Some(stored) => u64::from_be_bytes(<[u8; 8]>::try_from(&stored[..]).map_err(wrong)?),
        None => 0,
    };
    Ok(Read { db, cuts, empty, group, archived, resting, version })
}

fn judge(read: Read, mark: Mark, durable: u64, state: &StateDir, options: &Options) -> Result<Found, StoreError> {
    let Read { db, cuts, empty, group, archived, resting, version } = read;
    match version {
        Some(found) if found > VERSION => {
            return Err(StoreError::Newer { path: state.shown(), found, known: VERSION });
        }
        None if !empty => return Ok(Found::Damaged("it holds records but no version".into())),
        _ => {}
    }
    if group < durable {
        return Ok(Found::Damaged(format!("it ends at group {group}, but group {durable} was acknowledged")));
    }
    let tree = Tree { db, cuts, group, mark, version, resting };
    match open_archive(&state.store().join("archive"), archived, options)? {
        Ok(archive) => Ok(Found::Sound(tree, Arc::new(archive))),
        Err(why) => Ok(Found::Damaged(why)),
    }
}

/// Opens the archive with at least this number. If it is damaged, the inner error describes the damage.
fn open_archive(path: &Path, archived: u64, options: &Options) -> Result<Result<Archive, String>, StoreError> {
    let open = || {
        let archive = Archive::open(path.to_owned(), options.archive_cache)?;
        archive.number().map(|number| (archive, number))
    };
    // redb panics on some kinds of damage.
    let why = match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok((archive, number))) if number >= archived => return Ok(Ok(archive)),
        Ok(Ok((_, number))) => format!("the archive ends at {number}, but {archived} was acknowledged"),
        Ok(Err(ArchiveError::Damaged(why))) => format!("the archive: {why}"),
        Ok(Err(ArchiveError::Failed(error))) => return Err(StoreError::Broken(format!("the archive failed: {error}"))),
        Err(_) => "reading the archive panicked".into(),
    };
    if archived > 0 {
        return Ok(Err(why));
    }
    // No row has left the tree for it yet: the process ended while it created the file.
    let failed = |error: io::Error| StoreError::Broken(format!("the archive failed: {error}"));
    std::fs::remove_file(path).map_err(failed)?;
    let (archive, _) = open().map_err(|error| StoreError::Broken(error.to_string()))?;
    sync_dir(path.parent().unwrap_or(path)).map_err(failed)?;
    Ok(Ok(archive))
}

//! The state directory: its owner, its permissions, and the place of a damaged store.
//!
//! The rule it keeps: one process holds the directory, only its user can read it, and a damaged store is not deleted
//! for a week.
//!
//! ```text
//! state_dir/                     0700
//!   lock                         held (flock) by the one process that owns the directory
//!   store/                       0700; the live store
//!     db, conf, blobs/, snap.*   sled's
//!     mark                       the number of the last group known to be durable
//!     archive                    ended jobs and their receipts (redb)
//!   store.corrupt-1795341600/    moved aside at that Unix time
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::{StoreError, TARGET};

const STORE: &str = "store";
const CORRUPT: &str = "store.corrupt-";

/// The longest wait for the files of a store that this process has just closed.
pub(super) const CLOSING: Duration = Duration::from_secs(5);
/// The longest wait for the directory itself: another process may hold it.
const GIVEN_BACK: Duration = Duration::from_secs(1);

/// The time for which a store that was moved aside is kept.
pub const KEEP_MOVED_ASIDE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A state directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory if it is missing, restricts its permissions, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: io::Error| {
            StoreError::Broken(format!("{what} the state directory {}: {error}", path.display()))
        };
        create(path).map_err(|error| failed("cannot create", error))?;
        close_to_others(path).map_err(|error| failed("cannot close to others", error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| failed("cannot write to", error))?;
        let began = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: lock }),
                // Its last owner may be about to end.
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < GIVEN_BACK => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StoreError::Held { path: path.display().to_string() });
                }
                Err(error) => return Err(failed("cannot lock", error.into())),
            }
        }
    }

    /// The live store's folder.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// The directory and its lock file.
    pub(super) fn own(&self) -> [PathBuf; 2] {
        [self.path.clone(), self.path.join("lock")]
    }

    /// The directory as text, for errors.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Creates the store's folder if it is missing.
    pub(super) fn create_store(&self) -> io::Result<()> {
        create(&self.store())
    }

    /// Renames the store's folder, durably, and returns the new path.
    pub(super) fn move_aside(&self) -> io::Result<PathBuf> {
        let mut seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = loop {
            let aside = self.path.join(format!("{CORRUPT}{seconds}"));
            if !aside.try_exists()? {
                break aside;
            }
            seconds += 1;
        };
        fs::rename(self.store(), &aside)?;
        sync_dir(&self.path)?;
        Ok(aside)
    }
}

/// Deletes the stores in this directory that were moved aside longer than `keep` before `now`, and returns their
/// paths. Other files stay.
pub fn delete_moved_aside(state_dir: &Path, now: SystemTime, keep: Duration) -> io::Result<Vec<PathBuf>> {
    let mut deleted = Vec::new();
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(seconds) = name.to_str().and_then(|name| name.strip_prefix(CORRUPT)) else { continue };
        let Ok(seconds) = seconds.parse() else { continue };
        let Some(due) =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).and_then(|at| at.checked_add(keep))
        else {
            continue;
        };
        if due <= now && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
            deleted.push(entry.path());
        }
    }
    deleted.sort();
    Ok(deleted)
}

/// Makes the entries of a folder durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a folder and its missing parents with mode 0700, each of them durable.
fn create(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while !at.as_os_str().is_empty() && !at.try_exists()? {
        missing.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for created in missing {
        match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent)?,
            _ => sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & 0o700)) {
        // A mounted volume often belongs to another user; the store's own folder in it is ours and has 0700.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(target: TARGET, path = %path.display(), "the state directory is open to others and belongs to another user");
            Ok(())
        }
        other => other,
    }
}

/// Stores, beside the log, the number of the last synced group.
///
/// It is written after each sync and never synced itself: after a power cut it may be old, but it never names a group
/// that was not durable. A log with fewer groups has lost acknowledged ones. sled would not report that, because it
/// cuts off an unreadable end.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    pub(super) fn open(store: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        Ok(Self(options.open(store.join("mark"))?))
    }

    /// The number, or 0 if there is none or it is torn.
    pub(super) fn read(&self) -> io::Result<u64> {
        let mut bytes = [0; 16];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            Err(error) => return Err(error),
        }
        let both = u128::from_be_bytes(bytes);
        let (number, inverse) = ((both >> 64) as u64, both as u64);
        Ok(if number == !inverse { number } else { 0 })
    }

    pub(super) fn write(&self, number: u64) -> io::Result<()> {
        let both = (u128::from(number) << 64) | u128::from(!number);
        self.0.write_all_at(&both.to_be_bytes(), 0)
    }
}

//! The parts of the store on disk that a test may replace: limits, the disk, the sync.
//!
//! The rule it keeps: the defaults are the real parts; nothing here comes from a configuration.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Makes the log's bytes durable.
pub trait Syncer: Send {
    /// Returns when they are on the disk. Called once a group, and never again after an error.
    fn sync(&mut self) -> io::Result<()>;
}

/// Syncs the log file through a handle of our own, opened before the first write: the kernel reports a failed
/// write-back once to each handle, and sled's background work may consume its own report.
#[derive(Debug)]
pub struct LogFile(pub(super) File);

impl Syncer for LogFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Free bytes of the file system that holds a path.
pub type FreeSpace = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;
/// Wraps the log file for the committer.
pub type WrapSyncer = Box<dyn FnOnce(LogFile) -> Box<dyn Syncer> + Send>;

/// The parts that a test may replace.
pub struct Options {
    /// Bytes that must stay free on the disk; default 16 MiB.
    pub min_free: u64,
    /// Bytes of sled's page cache; default 16 MiB.
    pub cache: u64,
    /// Bytes of the archive's page cache; default 4 MiB.
    pub archive_cache: usize,
    /// Rows of ended jobs in the tree before they are archived together; default 2048.
    pub archive_after: usize,
    /// Called before each group; default `statvfs`.
    pub free_space: FreeSpace,
    /// Default: the log file itself.
    pub wrap_syncer: WrapSyncer,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("min_free", &self.min_free).field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_free: 16 << 20,
            cache: 16 << 20,
            archive_cache: 4 << 20,
            archive_after: 2048,
            free_space: Arc::new(|path| {
                let figures = rustix::fs::statvfs(path)?;
                Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
            }),
            wrap_syncer: Box::new(|file| Box::new(file)),
        }
    }
}

//! Whether the folder that the store writes to is still the one that its path names.
//!
//! The rule it keeps: what was written to a file that nobody finds any more is not durable. A folder that was
//! removed, moved or covered is a failed store.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files and folders of an open store, each held open, so that its number stays its own.
#[derive(Debug)]
pub(super) struct Presence(Vec<(PathBuf, File)>);

impl Presence {
    /// Takes note of what lies under these paths now.
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Presence> {
        let held = paths.into_iter().map(|path| File::open(&path).map(|file| (path, file)));
        Ok(Presence(held.collect::<io::Result<_>>()?))
    }

    /// What is wrong with the folder, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        for (path, file) in &self.0 {
            let same = |there: Metadata| Ok::<_, io::Error>(identity(&there) == identity(&file.metadata()?));
            match std::fs::metadata(path).and_then(same) {
                Ok(true) => {}
                Ok(false) => return Err(gone(path, "another one lies in its place")),
                Err(error) if is_gone(&error) => return Err(gone(path, "it was removed or moved")),
                // A disk that fails shows at the next write.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn identity(of: &Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::StaleNetworkFileHandle
    )
}

fn gone(path: &Path, why: &str) -> String {
    format!("{} is not the one that was opened: {why}. What is written to it would be lost", path.display())
}

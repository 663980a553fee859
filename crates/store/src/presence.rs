//! The check that the store's open files are still the ones at their paths.
//!
//! The rule it keeps: bytes in a file that has no path are not durable. If the folder was removed, moved or covered,
//! the store has failed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files and folders of an open store, each held open, so that its inode number stays its own.
#[derive(Debug)]
pub(super) struct Presence(Vec<(PathBuf, File)>);

impl Presence {
    /// Opens the files at these paths.
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Presence> {
        let held = paths.into_iter().map(|path| File::open(&path).map(|file| (path, file)));
        Ok(Presence(held.collect::<io::Result<_>>()?))
    }

    /// The fault of the folder, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        for (path, file) in &self.0 {
            let same = |there: Metadata| Ok::<_, io::Error>(identity(&there) == identity(&file.metadata()?));
            match std::fs::metadata(path).and_then(same) {
                Ok(true) => {}
                Ok(false) => return Err(gone(path, "another one lies in its place")),
                Err(error) if is_gone(&error) => return Err(gone(path, "it was removed or moved")),
                // A failing disk shows at the next write.
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

//! Private files that only grow, and their syncs.
//!
//! The rule it keeps: a failed write is undone; a failed sync is never repeated.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// A failed change to a file.
pub(super) struct Failed {
    pub source: io::Error,
    /// True if the files are unchanged.
    pub undone: bool,
}

/// For an error before any change.
impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Failed {
        Failed { source, undone: true }
    }
}

impl Failed {
    /// The content of the disk is not known.
    pub fn unknown(source: io::Error) -> Failed {
        Failed { source, undone: false }
    }

    /// A change to a closed batch.
    pub fn closed() -> Failed {
        io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into()
    }
}

/// A file to append to, and its length.
pub(super) struct Appended {
    pub file: Arc<File>,
    pub length: u64,
}

impl Appended {
    /// Opens a file that only its owner may read. With `new` it must not exist.
    pub fn open(path: &Path, new: bool) -> io::Result<Appended> {
        let file = private().append(true).create_new(new).open(path)?;
        let length = file.metadata()?.len();
        Ok(Appended { file: Arc::new(file), length })
    }

    /// Appends all bytes; a failure is undone, if possible.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        if let Err(source) = (&*self.file).write_all(bytes) {
            let undone = self.cut(self.length).is_ok();
            return Err(Failed { source, undone });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the file to a length.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.file.set_len(length)
    }
}

/// Options for a file of mode 0600.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Creates a folder, if necessary, and sets its mode to 0700.
pub(super) fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    sync_dir(dir)?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// Makes creations, renames and removals in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A file's content; empty if there is no file.
pub(super) fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Removes a file, if it exists, durably.
pub(super) fn remove(dir: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_dir(dir)),
    }
}

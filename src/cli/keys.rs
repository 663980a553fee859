//! `keys new`: a master key, on stdout or in a new file. `keys public`: the public keys.
//!
//! The rule it keeps: a key file is created with mode 0600, and none is ever overwritten.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use zeroize::Zeroizing;

use super::{Context, Exit};
use crate::app;

/// `keys`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a master key: 32 random bytes as hexadecimal digits.
    #[command(after_help = "Examples:\n  erasure-worker keys new /etc/erasure-worker/master.key
  erasure-worker keys new | secret-store put erasure-master-key")]
    New {
        /// A new file for it, readable by its owner only; without it, stdout.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the public keys as a JWK set: those of the receipts (use: sig), and the one to seal proofs for (use: enc).
    #[command(after_help = "Example:\n  erasure-worker keys public > jwks.json")]
    Public,
}

impl Command {
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::New { file } => Ok(new_key(file.as_deref(), ctx.out, ctx.err)?),
            Command::Public => {
                writeln!(ctx.out, "{:#}", app::keyring(&ctx.load()?)?.all_public_keys())?;
                Ok(Exit::Done)
            }
        }
    }
}

/// 32 random bytes as 64 hexadecimal digits.
pub(super) fn generate() -> Zeroizing<String> {
    let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
    Zeroizing::new(hex::encode(*bytes))
}

/// Writes a new file and makes it durable; an existing file is an error.
pub(super) fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Makes a master key and writes it to a new file (0600) or to `out`.
fn new_key(file: Option<&Path>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let key = Zeroizing::new(format!("{}\n", generate().as_str()));
    let Some(path) = file else {
        out.write_all(key.as_bytes())?;
        return Ok(Exit::Done);
    };
    match write_new(path, &key, 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            writeln!(err, "{} exists and is not overwritten: data sealed with it would be lost", path.display())?;
            Ok(Exit::Usage)
        }
        written => written.map(|()| Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_readable_by_its_owner_only_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(new_key(Some(&path), &mut out, &mut err).unwrap(), Exit::Done);
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(hex::decode(first.trim()).unwrap().len(), 32);
        assert_eq!(new_key(Some(&path), &mut out, &mut err).unwrap(), Exit::Usage);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert!(out.is_empty() && String::from_utf8(err).unwrap().contains("master.key exists"));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(generate(), generate());
    }
}

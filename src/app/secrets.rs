//! Secrets that are given by files: whether a file still says what was read from it.
//!
//! The rule it keeps: a secret that was changed at run time is used at the next login, or it is said that it is
//! not.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// How often the files are read.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Read again at each login by the broker's side itself.
const AT_EACH_LOGIN: &str = "amqp.url";

/// The files of secrets that are read at the start alone.
pub(super) struct SecretFiles {
    files: Vec<(String, PathBuf, Option<[u8; 32]>)>,
    changed: watch::Sender<Vec<String>>,
}

impl SecretFiles {
    /// Takes note of what they say now.
    pub(super) fn new(files: &[(String, PathBuf)]) -> SecretFiles {
        let at_start = files.iter().filter(|(key, _)| key != AT_EACH_LOGIN);
        let files = at_start.map(|(key, path)| (key.clone(), path.clone(), digest(path))).collect();
        SecretFiles { files, changed: watch::Sender::default() }
    }

    /// The keys whose files have changed since.
    pub(super) fn changed(&self) -> watch::Receiver<Vec<String>> {
        self.changed.subscribe()
    }

    /// Reads them once.
    fn look(&self) {
        let differs =
            |path: &PathBuf, at_start: &Option<[u8; 32]>| digest(path).is_some_and(|now| Some(now) != *at_start);
        let changed = self.files.iter().filter(|(_, path, at_start)| differs(path, at_start));
        let changed: Vec<String> = changed.map(|(key, ..)| key.clone()).collect();
        self.changed.send_if_modified(|known| {
            for key in changed.iter().filter(|key| !known.contains(key)) {
                tracing::warn!(
                    key,
                    "the file of a secret has changed: restart the worker, which uses the former one until then"
                );
            }
            std::mem::replace(known, changed.clone()) != changed
        });
    }

    /// Reads them again and again. Never returns.
    pub(super) async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }
}

/// What a file says; `None` where it cannot be read just now, as while it is replaced.
fn digest(path: &PathBuf) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(std::fs::read(path).ok()?);
    Some(Sha256::digest(bytes.trim_ascii()).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_whose_file_changes_is_named_until_the_file_says_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = ["master", "token", "url"].map(|name| {
            std::fs::write(path(name), format!("{name}\n")).unwrap();
            let key = if name == "url" { AT_EACH_LOGIN.to_owned() } else { format!("key.{name}") };
            (key, path(name))
        });
        let secrets = SecretFiles::new(&files);
        let named = |secrets: &SecretFiles| {
            secrets.look();
            secrets.changed().borrow().clone()
        };
        assert_eq!(named(&secrets), [""; 0]);
        std::fs::write(path("url"), "another").unwrap();
        std::fs::write(path("master"), "  master  ").unwrap();
        assert_eq!(named(&secrets), [""; 0], "one is read at each login, the other says the same");
        std::fs::write(path("token"), "another").unwrap();
        assert_eq!(named(&secrets), ["key.token"]);
        std::fs::remove_file(path("master")).unwrap();
        assert_eq!(named(&secrets), ["key.token"], "one that is just replaced");
        std::fs::write(path("master"), "another").unwrap();
        assert_eq!(named(&secrets), ["key.master", "key.token"]);
        std::fs::write(path("token"), "token").unwrap();
        assert_eq!(named(&secrets), ["key.master"]);
    }
}

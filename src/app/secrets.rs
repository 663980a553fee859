//! Secrets in files: the check for changes, and the use of a changed secret.
//!
//! The rule it keeps: a secret that changes at run time is used at the next login, or after a harmless read with it
//! has worked; otherwise a report says that it is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::clients;
use crate::config::{SystemConfig, secret};
use crate::engine::Engine;
use crate::seal::Keyring;
use crate::systems::zeta::import::ImportLedger;

/// The pause between reads of the files.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// The broker's side reads this file itself at each login.
const AT_EACH_LOGIN: &str = "amqp.url";

/// Uses changed secrets.
#[async_trait]
pub(super) trait Renew: Send {
    /// Uses these secrets of a system, by their keys in its table. An error is the reason why the former ones stay in
    /// use.
    async fn renew(&mut self, system: &str, secrets: &[(&str, SecretString)]) -> Result<(), String>;
}

/// The systems' clients, and the parts of a new one.
pub(super) struct Renewing {
    pub engine: Arc<Engine>,
    pub keyring: Arc<Keyring>,
    pub systems: BTreeMap<String, SystemConfig>,
    pub imports: BTreeMap<String, Arc<ImportLedger>>,
}

#[async_trait]
impl Renew for Renewing {
    async fn renew(&mut self, name: &str, secrets: &[(&str, SecretString)]) -> Result<(), String> {
        let mut system = self.systems.get(name).cloned().ok_or("there is no such system")?;
        for (key, secret) in secrets {
            if !system.renew(key, secret.clone()) {
                return Err(format!("{key} is read at the start alone"));
            }
        }
        if self.engine.pauses.has_system(name) {
            return Err("an operator has paused the system, which is not read meanwhile".to_owned());
        }
        let client = clients::renewed(&system, &self.keyring, &self.imports).map_err(|error| format!("{error:#}"))?;
        self.engine.renew_credential(name, client).await.map_err(|failure| failure.to_string())?;
        self.systems.insert(name.to_owned(), system);
        Ok(())
    }
}

/// The file of a secret.
struct File {
    /// The full key in the configuration.
    key: String,
    path: PathBuf,
    /// The digest of the secret in use.
    used: Option<[u8; 32]>,
}

impl File {
    /// The system and the key in its table.
    fn of_a_system(&self) -> Option<(&str, &str)> {
        self.key.strip_prefix("systems.")?.split_once('.')
    }
}

/// The secret files that are read at the start.
pub(super) struct SecretFiles {
    files: Vec<File>,
    changed: watch::Sender<Vec<String>>,
}

impl SecretFiles {
    /// Reads their present content.
    pub(super) fn new(files: &[(String, PathBuf)]) -> SecretFiles {
        let at_start = files.iter().filter(|(key, _)| key != AT_EACH_LOGIN);
        let file = |(key, path): &(String, PathBuf)| {
            let used = read(path).map(|(_, digest)| digest);
            File { key: key.clone(), path: path.clone(), used }
        };
        SecretFiles { files: at_start.map(file).collect(), changed: watch::Sender::default() }
    }

    /// The keys of changed files whose secrets are not used.
    pub(super) fn changed(&self) -> watch::Receiver<Vec<String>> {
        self.changed.subscribe()
    }

    /// Reads them once, and uses changed secrets of systems.
    async fn look(&mut self, clients: &mut dyn Renew) {
        let mut changed: BTreeMap<usize, (SecretString, [u8; 32])> = BTreeMap::new();
        for (place, file) in self.files.iter().enumerate() {
            changed.extend(read(&file.path).filter(|(_, digest)| Some(*digest) != file.used).map(|now| (place, now)));
        }
        let systems: BTreeSet<String> = changed
            .keys()
            .filter_map(|place| self.files[*place].of_a_system())
            .map(|(system, _)| system.to_owned())
            .collect();
        for system in systems {
            // All secrets of one system at once: user name and password may be rotated together.
            let of_it = |place: &usize| self.files[*place].of_a_system().filter(|(of, _)| *of == system);
            let secrets: Vec<_> = changed
                .iter()
                .filter_map(|(place, (secret, _))| of_it(place).map(|(_, key)| (key, secret.clone())))
                .collect();
            match clients.renew(&system, &secrets).await {
                Ok(()) => {
                    tracing::info!(
                        system,
                        "a credential was renewed from its file, and a harmless read has worked with it"
                    );
                    let places: Vec<usize> = changed.keys().copied().filter(|place| of_it(place).is_some()).collect();
                    for place in places {
                        self.files[place].used = changed.remove(&place).map(|(_, digest)| digest);
                    }
                }
                Err(why) => tracing::warn!(
                    system,
                    why,
                    "the file of a credential has changed, but the new credential does not work yet: the former one \
                     is used"
                ),
            }
        }
        let changed: Vec<String> = changed.keys().map(|place| self.files[*place].key.clone()).collect();
        self.changed.send_if_modified(|known| {
            for key in changed.iter().filter(|key| !known.contains(key) && !key.starts_with("systems.")) {
                tracing::warn!(
                    key,
                    "the file of a secret has changed: restart the worker, which uses the former one until then"
                );
            }
            std::mem::replace(known, changed.clone()) != changed
        });
    }

    /// Reads them repeatedly. Never returns.
    pub(super) async fn watch(&mut self, clients: &mut dyn Renew) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(clients).await;
        }
    }
}

/// A file's secret and its digest; `None` if it cannot be read now, for example during its replacement.
fn read(path: &Path) -> Option<(SecretString, [u8; 32])> {
    let secret = secret::from_file(path).ok()?;
    let digest = Sha256::digest(secret.expose_secret()).into();
    Some((secret, digest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Accepts the secrets that it is set to accept.
    #[derive(Default)]
    struct Asked {
        accepts: bool,
        asked: Vec<String>,
    }

    #[async_trait]
    impl Renew for Asked {
        async fn renew(&mut self, system: &str, secrets: &[(&str, SecretString)]) -> Result<(), String> {
            let keys: Vec<String> =
                secrets.iter().map(|(key, secret)| format!("{key}={}", secret.expose_secret())).collect();
            self.asked.push(format!("{system}: {}", keys.join(", ")));
            self.accepts.then_some(()).ok_or_else(|| "refused".to_owned())
        }
    }

    #[tokio::test]
    async fn a_systems_secrets_are_used_together_once_they_are_accepted_and_tried_again_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["systems.shop.password", "systems.shop.authorization", "systems.other.api_key"].map(|key| {
            std::fs::write(folder.path().join(key), "former").unwrap();
            (key.to_owned(), folder.path().join(key))
        });
        let mut secrets = SecretFiles::new(&files);
        let mut clients = Asked::default();
        secrets.look(&mut clients).await;
        assert_eq!(clients.asked, [""; 0]);
        for (_, path) in &files[..2] {
            std::fs::write(path, "new\n").unwrap();
        }
        secrets.look(&mut clients).await;
        assert_eq!(*secrets.changed().borrow(), ["systems.shop.password", "systems.shop.authorization"]);
        clients.accepts = true;
        secrets.look(&mut clients).await;
        secrets.look(&mut clients).await;
        assert_eq!(clients.asked, ["shop: password=new, authorization=new"; 2], "refused, accepted, and then no more");
        assert_eq!(*secrets.changed().borrow(), [""; 0]);
        // A file with its former content is another change.
        std::fs::write(&files[0].1, "former").unwrap();
        secrets.look(&mut clients).await;
        assert_eq!(clients.asked.last().unwrap(), "shop: password=former");
    }

    #[tokio::test]
    async fn a_secret_whose_file_changes_is_named_until_the_file_says_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = ["master", "token", "url"].map(|name| {
            std::fs::write(path(name), format!("{name}\n")).unwrap();
            let key = if name == "url" { AT_EACH_LOGIN.to_owned() } else { format!("key.{name}") };
            (key, path(name))
        });
        let mut secrets = SecretFiles::new(&files);
        async fn named(secrets: &mut SecretFiles) -> Vec<String> {
            secrets.look(&mut Asked::default()).await;
            secrets.changed().borrow().clone()
        }
        assert_eq!(named(&mut secrets).await, [""; 0]);
        std::fs::write(path("url"), "another").unwrap();
        std::fs::write(path("master"), "  master  ").unwrap();
        assert_eq!(named(&mut secrets).await, [""; 0], "one is read at each login, the other says the same");
        std::fs::write(path("token"), "another").unwrap();
        assert_eq!(named(&mut secrets).await, ["key.token"]);
        std::fs::remove_file(path("master")).unwrap();
        assert_eq!(named(&mut secrets).await, ["key.token"], "one that is just replaced");
        std::fs::write(path("master"), "another").unwrap();
        assert_eq!(named(&mut secrets).await, ["key.master", "key.token"]);
        std::fs::write(path("token"), "token").unwrap();
        assert_eq!(named(&mut secrets).await, ["key.master"]);
    }
}

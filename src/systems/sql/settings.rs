//! `kind = "sql"`: the file and the address of the database.
//!
//! The rule it keeps: in production the connection is encrypted, unless the database is on the same machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use erasure_connector::sql::SqlFile;
use erasure_connector::{File, read};
use secrecy::{ExposeSecret as _, SecretString};

use super::{SqlSystem, Timeouts, plan};
use crate::config::Cursor;
use crate::job::{Plan, Rules};
use crate::systems::http::BuildError;
use crate::systems::{KindSettings, Making, SettingsError, System};

/// Settings of one database.
#[derive(Debug, Clone)]
pub struct SqlSettings {
    /// The file.
    pub file: Arc<SqlFile>,
    /// Its steps.
    pub plan: Arc<Plan>,
    /// The address, with user and password.
    pub url: SecretString,
    /// The only authority to trust; otherwise the system's.
    pub ca_file: Option<PathBuf>,
    /// The longest wait for another session's lock.
    pub lock_timeout: Duration,
}

impl SqlSettings {
    /// Settings without a configuration.
    pub fn new(file: SqlFile, url: SecretString, lock_timeout: Duration) -> SqlSettings {
        let plan = Arc::new(plan::plan(&file, installation(&url)));
        SqlSettings { file: Arc::new(file), plan, url, ca_file: None, lock_timeout }
    }

    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<SqlSettings> {
        let path = at.required::<PathBuf>("file");
        let file = path.and_then(|path| load(&path).map_err(|problems| at.faults("file", problems)).ok());
        let url = at.required_secret("url");
        let ca_file = at.optional::<PathBuf>("ca_file");
        let lock_timeout =
            at.or_within("lock_timeout", Duration::from_secs(5), Duration::from_millis(1)..=Duration::from_secs(300));
        let (file, url) = (file?, url?);
        match super::is_private(&url, ca_file.as_deref()) {
            Ok(false) if at.is_production() => {
                at.fault("url", "must be encrypted in production: remove sslmode=disable or ssl-mode=disabled");
                return None;
            }
            Ok(_) => {}
            Err(BuildError::Setting { key, problem }) => {
                at.fault(key, problem);
                return None;
            }
            Err(error) => {
                at.fault("url", error.to_string());
                return None;
            }
        }
        Some(SqlSettings { ca_file, ..SqlSettings::new(file, url, lock_timeout) })
    }
}

/// Where the database is, without user and password.
fn installation(url: &SecretString) -> String {
    let parsed = url::Url::parse(url.expose_secret()).ok();
    let part = |url: url::Url| format!("{}:{}{}", url.host_str().unwrap_or(""), url.port().unwrap_or(0), url.path());
    parsed.map(part).unwrap_or_default()
}

/// Reads a file for a database.
fn load(path: &std::path::Path) -> Result<SqlFile, Vec<String>> {
    let shown = path.display();
    let bytes = read::bytes_of(path).map_err(|error| vec![format!("{shown} cannot be read: {error}")])?;
    match erasure_connector::load_file(&bytes) {
        Ok(File::Sql(file)) => Ok(*file),
        Ok(File::Calls(_)) => Err(vec![format!("{shown} is for a vendor's interface: write kind = \"connector\"")]),
        Err(faults) => Err(faults.0.iter().map(|fault| format!("{shown}:{fault}")).collect()),
    }
}

impl KindSettings for SqlSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        (key == "url").then_some(&mut self.url)
    }

    fn proven_parts(&self) -> Vec<&str> {
        vec![&self.file.digest, self.url.expose_secret()]
    }

    fn complete(&self, rules: &mut Rules) {
        rules.plan = Some(Arc::clone(&self.plan));
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        let timeouts = Timeouts {
            call: making.http.timeout,
            connect: making.http.connect_timeout,
            lock: self.lock_timeout.min(making.http.timeout),
        };
        Ok(Arc::new(SqlSystem::new(making.name, self, &timeouts, Arc::clone(&making.keys.row_digest))?))
    }
}

//! What a configuration takes from outside its file: environment variables, the host's name, and
//! where to look for the file.
//!
//! The rule it keeps: the real environment is read once, here; everything else is given it, so
//! that loading a configuration depends on its arguments alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::ConfigError;

/// The process's surroundings. There is no `Debug`: the variables hold secrets.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Environment variables; those that aren't UTF-8 are left out.
    pub variables: BTreeMap<String, String>,
    /// The host's name, where it is known.
    pub host_name: Option<String>,
    /// Where `./erasure-worker.toml` is looked for.
    pub working_dir: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let host_name = rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
        Surroundings { variables, host_name, working_dir: PathBuf::from(".") }
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The base folder that `variable` names, else `fallback` within the home folder. A relative
    /// path in an XDG variable counts as unset, as its specification asks.
    fn xdg(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let named = self.variable(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.variable("HOME").map(|home| Path::new(home).join(fallback)))
    }

    /// Where state lives unless configured: `$STATE_DIRECTORY` (its first entry; a service manager
    /// sets it), else the XDG state folder. `None` where not even a home folder is known.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        let given = self.variable("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from);
        given.or_else(|| self.xdg("XDG_STATE_HOME", ".local/state").map(|base| base.join("erasure-worker")))
    }

    /// The configuration file: `given`, else `$ERASURE_CONFIG`, else the first of the usual places
    /// that exists.
    ///
    /// # Errors
    /// Where none exists, one fault that lists the places looked at.
    pub fn find_config(&self, given: Option<&Path>) -> Result<PathBuf, ConfigError> {
        if let Some(path) = given {
            return Ok(path.to_owned());
        }
        if let Some(path) = self.variable("ERASURE_CONFIG") {
            return Ok(PathBuf::from(path));
        }
        let places: Vec<PathBuf> = [
            Some(self.working_dir.join("erasure-worker.toml")),
            self.xdg("XDG_CONFIG_HOME", ".config").map(|base| base.join("erasure-worker/config.toml")),
            Some(PathBuf::from("/etc/erasure-worker/config.toml")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let Some(found) = places.iter().find(|place| place.exists()) {
            return Ok(found.clone());
        }
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        let problem = format!(
            "no file given and none found (looked for {}): give --config FILE, or write one with `erasure-worker init`",
            looked.join(", ")
        );
        Err(ConfigError::single(None, "configuration", problem))
    }
}

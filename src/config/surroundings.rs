//! The inputs of a configuration besides its file: environment variables, the host's name, and the places of the file.
//!
//! The rule it keeps: only this file reads the process's environment, once. So the result of loading a configuration
//! depends on the arguments only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::ConfigError;

/// The process's surroundings. Without `Debug`: the variables contain secrets.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Environment variables, without those that are not UTF-8.
    pub variables: BTreeMap<String, String>,
    /// The host's name, if it is known.
    pub host_name: Option<String>,
    /// The folder in which `./erasure-worker.toml` is searched for.
    pub working_dir: PathBuf,
}

impl Surroundings {
    /// The surroundings of this process.
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

    /// The base folder that `variable` names, else `fallback` in the home folder. A relative path in an XDG variable
    /// counts as unset, as the XDG specification requires.
    fn xdg(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let named = self.variable(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.variable("HOME").map(|home| Path::new(home).join(fallback)))
    }

    /// The default state folder: `$STATE_DIRECTORY` (its first entry; a service manager sets it), else the XDG state
    /// folder. `None` if the home folder is not known either.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        let given = self.variable("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from);
        given.or_else(|| self.xdg("XDG_STATE_HOME", ".local/state").map(|base| base.join("erasure-worker")))
    }

    /// The configuration file: `given`, else `$ERASURE_CONFIG`, else the first existing file of the usual places.
    ///
    /// # Errors
    /// If there is none, one fault with the list of these places.
    pub(crate) fn find_config(&self, given: Option<&Path>) -> Result<PathBuf, ConfigError> {
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
        let searched: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        let problem = format!(
            "no file given and none found (searched for {}): give --config FILE, or write one with `erasure-worker init`",
            searched.join(", ")
        );
        Err(ConfigError::single(None, "configuration", problem))
    }
}

//! The faults of a configuration, all at once.
//!
//! The rule it keeps: a fault names the key and what was expected. It never repeats a value that may be a secret.

use std::fmt;
use std::path::PathBuf;

/// One fault to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The full key (`systems.cleeng.core_url`), `line N` for a syntax error, or the file's name for a fault of the file.
    pub key: String,
    /// What was expected, and what to do.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// A configuration that cannot be used. Its faults are in the order in which the keys were read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, if there was one.
    pub file: Option<PathBuf>,
    /// At least one fault.
    pub faults: Vec<Fault>,
}

impl ConfigError {
    /// A configuration with a single fault.
    pub fn single(file: Option<PathBuf>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        ConfigError { file, faults: vec![Fault { key: key.into(), problem: problem.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "the configuration {} cannot be used:", file.display())?,
            None => write!(f, "there is no usable configuration:")?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

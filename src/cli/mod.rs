//! The command line: arguments, the commands that need nothing but themselves, and those that ask a
//! running worker.
//!
//! The rule it keeps: results go to the writer given as `out` (stdout), everything else to stderr;
//! a command says how it ended with an [`Exit`].

pub mod approvals;
pub mod approvals_args;
pub mod args;
pub mod check;
pub mod client;
pub mod common;
pub mod csv_args;
pub mod dead_letters;
pub mod demo;
pub mod find;
pub mod guard;
pub mod guard_args;
pub mod init;
pub mod jobs;
pub mod keys;
pub mod members;
pub mod ops_args;
pub mod pages;
pub mod pausing;
pub mod receipt;
pub mod sandbox;
pub mod schema;
pub mod start;
pub mod submit;
pub mod systems;
pub mod topology;
pub mod work;
pub mod zeta_import;

#[cfg(test)]
mod tests;

pub use args::{Cli, Command};

/// How a command ended; the number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Done = 0,
    /// The work failed; for `batch`: a job did not complete.
    Failed = 1,
    /// The arguments or the configuration are wrong; nothing was done.
    Usage = 2,
    /// Input is awaited from a person.
    Awaiting = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

//! The arguments of `guard`.
//!
//! The rule it keeps: exactly one tenant or system is named where something is decided.

use clap::{Args, Subcommand};

use super::common::Output;
use super::common::{OpsClient, name};

/// `guard`
#[derive(Debug, Subcommand)]
pub enum GuardCommand {
    /// List the ceilings, what was let through in the last hour, and how many jobs they hold.
    #[command(after_help = "Example:\n  erasure-worker guard list")]
    List(GuardList),
    /// Let the jobs go on that a tenant's or a system's ceiling holds.
    #[command(after_help = "Example:\n  erasure-worker guard release --tenant acme")]
    Release(GuardDecision),
    /// End the jobs as cancelled that a ceiling holds; nothing was called for any of them.
    #[command(after_help = "Example:\n  erasure-worker guard discard --system cleeng")]
    Discard(GuardDecision),
}

/// `guard list`
#[derive(Debug, Args)]
pub struct GuardList {
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// `guard release`, `guard discard`
#[derive(Debug, Args)]
pub struct GuardDecision {
    /// Whose jobs.
    #[command(flatten)]
    pub scope: ScopeName,
    /// The worker.
    #[command(flatten)]
    pub ops: OpsClient,
    /// Printing.
    #[command(flatten)]
    pub output: Output,
}

/// A tenant or a system.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeName {
    /// The tenant whose ceiling holds them.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub tenant: Option<String>,
    /// The system whose ceiling holds them.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub system: Option<String>,
}

impl ScopeName {
    /// `tenant` or `system`, and the name.
    pub fn named(&self) -> (&'static str, &str) {
        match (&self.tenant, &self.system) {
            (Some(name), _) => ("tenant", name),
            (None, system) => ("system", system.as_deref().unwrap_or_default()),
        }
    }
}

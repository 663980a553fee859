//! `guard list`, `guard release`, `guard discard`: the jobs above a ceiling, and the decision about them.
//!
//! The rule it keeps: held jobs are released or discarded by the name of a tenant or a system, never all at once.

use clap::{Args, Subcommand};

use super::common::{Ask, name};
use super::print::{field, list, table};
use super::{Context, Exit};
use crate::ops::client::Body;

/// `guard`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the ceilings, what was let through in the last hour, and how many jobs they hold.
    #[command(after_help = "Example:\n  erasure-worker guard list")]
    List(Ask),
    /// Release the jobs that a tenant's or a system's ceiling holds.
    #[command(after_help = "Example:\n  erasure-worker guard release --tenant acme")]
    Release(Decision),
    /// End the jobs that a ceiling holds as cancelled; no system was called for them.
    #[command(after_help = "Example:\n  erasure-worker guard discard --system cleeng")]
    Discard(Decision),
}

/// `guard release`, `guard discard`
#[derive(Debug, Args)]
pub struct Decision {
    #[command(flatten)]
    scope: ScopeName,
    #[command(flatten)]
    ask: Ask,
}

/// A tenant or a system.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct ScopeName {
    /// The tenant whose ceiling holds them.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
    /// The system whose ceiling holds them.
    #[arg(long, value_name = "NAME", value_parser = name)]
    system: Option<String>,
}

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::List(ask) => list_scopes(&ask, ctx).await,
            Command::Release(decision) => decision.carry_out(("release", "released"), ctx).await,
            Command::Discard(decision) => decision.carry_out(("discard", "discarded"), ctx).await,
        }
    }
}

async fn list_scopes(ask: &Ask, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
    let answer = ctx.get(&ask.ops, &["v1", "guard"], &[]).await;
    ctx.print(answer, ask.output, |answer, ctx| {
        let names = ["scope", "name", "passed", "limit", "held", "held_since"];
        let rows: Vec<Vec<String>> =
            list(answer, "scopes").iter().map(|row| names.iter().map(|name| field(row, name)).collect()).collect();
        table(ctx.out, &["SCOPE", "NAME", "PASSED", "LIMIT", "HELD", "HELD SINCE"], &rows)
    })
}

impl Decision {
    async fn carry_out(&self, (action, done): (&str, &str), ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let (kind, name) = match (&self.scope.tenant, &self.scope.system) {
            (Some(tenant), _) => ("tenant", tenant.as_str()),
            (None, system) => ("system", system.as_deref().unwrap_or_default()),
        };
        let answer = ctx.post(&self.ask.ops, &["v1", "guard", kind, name, action], Body::Empty).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            writeln!(ctx.out, "{} {done}; it takes effect within a quarter of an hour", field(answer, done))
        })
    }
}

//! `jobs pause`, `jobs resume`, `jobs paused`: pauses of a system or a tenant, at a running worker.
//!
//! The rule it keeps: every pause has the operator's name and a reason.

use clap::Args;
use serde_json::{Value, json};

use super::common::{Ask, name};
use super::print::{field, list, table};
use super::{Context, Exit};
use crate::ops::client::Body;

/// Printed if the broker did not confirm a decision in time.
pub(super) const NOT_AT_BROKER: &str = "the broker has not confirmed it yet: other workers get it after that";

/// A system or a tenant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PauseSubject {
    /// This system: it is not called.
    #[arg(long, value_name = "NAME", value_parser = name)]
    system: Option<String>,
    /// This tenant: nothing is called for its jobs.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
}

/// `jobs pause`
#[derive(Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    subject: PauseSubject,
    /// Why, without personal data; logged and kept.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who decided; logged and kept.
    #[arg(long, value_name = "WHO")]
    by: String,
    #[command(flatten)]
    ask: Ask,
}

/// `jobs resume`
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    subject: PauseSubject,
    #[command(flatten)]
    ask: Ask,
}

impl PauseSubject {
    /// `systems` or `tenants`, and the name.
    fn path(&self) -> (&'static str, &str) {
        match (&self.system, &self.tenant) {
            (Some(system), _) => ("systems", system),
            (None, tenant) => ("tenants", tenant.as_deref().unwrap_or_default()),
        }
    }
}

impl Pause {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let (what, name) = self.subject.path();
        let body = Body::Json(json!({ "reason": self.reason, "by": self.by }));
        let answer = ctx.post(&self.ask.ops, &["v1", what, name, "pause"], body).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let everywhere = answer.get("paused").and_then(|paused| paused.get("everywhere"));
            match everywhere.and_then(Value::as_bool) {
                Some(false) => writeln!(ctx.out, "paused at this worker; {NOT_AT_BROKER}"),
                _ => writeln!(ctx.out, "paused, at every worker"),
            }
        })
    }
}

impl Resume {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let (what, name) = self.subject.path();
        let answer = ctx.post(&self.ask.ops, &["v1", what, name, "resume"], Body::Empty).await;
        let done = "resumed, at every worker; parked jobs go on within a quarter of an hour";
        ctx.print(answer, self.ask.output, |_, ctx| writeln!(ctx.out, "{done}"))
    }
}

pub(super) async fn paused(ask: &Ask, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
    let answer = ctx.get(&ask.ops, &["v1", "paused"], &[]).await;
    ctx.print(answer, ask.output, |answer, ctx| {
        let rows: Vec<Vec<String>> = list(answer, "paused")
            .iter()
            .map(|one| ["system", "tenant", "at", "by", "reason"].map(|name| field(one, name)).to_vec())
            .collect();
        table(ctx.out, &["SYSTEM", "TENANT", "AT", "BY", "REASON"], &rows)
    })
}

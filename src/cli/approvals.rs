//! `approvals list`, `report`, `show`, `approve`, `reject`: erasures that wait for a second operator.
//!
//! The rule it keeps: a decision is about what was printed before: one job's preview, or all jobs of a report. It never
//! includes later changes.

use std::io::{self, Write};

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::common::{Ask, JobRef, JobSelector, OneJob, instant, name};
use super::print::{count, field, job, list, table};
use super::{Context, Exit};
use crate::ops::client::Body;

/// `approvals`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the erasures that wait for a second operator.
    #[command(after_help = "Example:\n  erasure-worker approvals list --requested-by ann")]
    List(List),
    /// Report what each system will lose if all of them are approved.
    #[command(after_help = "Example:\n  erasure-worker approvals report --requested-by ann")]
    Report(Report),
    /// Show what one erasure will cost, without personal data.
    #[command(after_help = "Example:\n  erasure-worker approvals show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11")]
    Show(OneJob),
    /// Approve: exactly what was shown is erased; if more is found, a new approval is needed.
    #[command(after_help = "Examples:\n  erasure-worker approvals approve acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 \
        --preview 5f3b0c9d2e7a41886d10b2c3a4f59e77 --by bob
  erasure-worker approvals approve --as-of 2026-11-22T10:00:00Z --requested-by ann --by bob")]
    Approve(Decide),
    /// Reject: nothing is erased, and the jobs end as cancelled.
    #[command(after_help = "Example:\n  erasure-worker approvals reject acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 \
        --preview 5f3b0c9d2e7a41886d10b2c3a4f59e77 --by bob")]
    Reject(Decide),
}

/// The selected erasures.
#[derive(Debug, Clone, Default, Args)]
struct Filter {
    /// Only this tenant's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: Option<String>,
    /// Only those that this operator requested.
    #[arg(long, value_name = "WHO")]
    requested_by: Option<String>,
}

/// `approvals list`
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Continue the previous list: the job that it printed.
    #[arg(long, value_name = "JOB")]
    after: Option<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

/// `approvals report`
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    ask: Ask,
}

/// `approvals approve`, `approvals reject`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("seen").required(true).args(["job", "as_of"]))]
pub struct Decide {
    /// One job: ID, or TENANT/ID.
    #[arg(value_name = "JOB", requires = "preview")]
    job: Option<JobRef>,
    /// The job's preview, as printed by `approvals show` or `list`.
    #[arg(long, value_name = "PREVIEW", requires = "job")]
    preview: Option<String>,
    /// All jobs of a report: the time that the report printed.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    as_of: Option<Timestamp>,
    #[command(flatten)]
    filter: Filter,
    /// Who decides; not needed with a token of an operator's own.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// The counts for each system, and their headings.
const LOSSES: [(&str, &str); 9] = [
    ("system", "SYSTEM"),
    ("targets", "TARGETS"),
    ("found", "FOUND"),
    ("entitlements_with_access", "ENTITLEMENTS"),
    ("codes_active", "ACTIVE CODES"),
    ("refunds_expected", "MONEY BACK"),
    ("refunds_unknown", "MAYBE"),
    ("acts", "ACTS"),
    ("preserved", "IS PRESERVED"),
];

impl Command {
    pub(super) async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Command::List(options) => options.run(ctx).await,
            Command::Report(options) => options.run(ctx).await,
            Command::Show(one) => {
                let answer = ctx.ask_one(&one, "approvals", None).await;
                ctx.print(answer, one.ask.output, |answer, ctx| describe(answer, ctx.out))
            }
            Command::Approve(options) => options.run(("approve", "approved"), ctx).await,
            Command::Reject(options) => options.run(("reject", "rejected"), ctx).await,
        }
    }
}

impl Filter {
    fn named(&self) -> [(&'static str, Option<String>); 2] {
        [("tenant", self.tenant.clone()), ("requested_by", self.requested_by.clone())]
    }
}

impl List {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut query = self.filter.named().to_vec();
        query.push(("after", self.after));
        query.push(("limit", Some(self.limit.to_string())));
        let answer = ctx.get(&self.ask.ops, &["v1", "approvals"], &query).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let rows: Vec<Vec<String>> = list(answer, "approvals")
                .iter()
                .map(|one| {
                    let decided = one.get("decided").filter(|decided| !decided.is_null());
                    let state = decided.map_or("waits".to_owned(), |decided| field(decided, "decision"));
                    vec![job(one), field(one, "preview"), field(one, "requested_by"), field(one, "asked_at"), state]
                })
                .collect();
            table(ctx.out, &["JOB", "PREVIEW", "REQUESTED BY", "ASKED", "STATE"], &rows)?;
            if let Some(next) = answer.get("next").and_then(Value::as_str) {
                writeln!(ctx.err, "there are more: --after {next}")?;
            }
            Ok(())
        })
    }
}

impl Report {
    async fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let answer = ctx.get(&self.ask.ops, &["v1", "approvals", "report"], &self.filter.named()).await;
        ctx.print(answer, self.ask.output, |answer, ctx| {
            let rows: Vec<Vec<String>> = list(answer, "systems")
                .iter()
                .map(|system| {
                    let cell = |(name, _): &(&str, &str)| match *name {
                        "acts" => acts(system),
                        name => field(system, name),
                    };
                    LOSSES.iter().map(cell).collect()
                })
                .collect();
            writeln!(ctx.out, "{} jobs wait for an approval, as of {}", field(answer, "jobs"), field(answer, "as_of"))?;
            table(ctx.out, &LOSSES.map(|(_, head)| head), &rows)
        })
    }
}

/// The acts of a connector, with the number of their calls.
fn acts(of: &Value) -> String {
    let act = |act: &Value| {
        let calls = act.get("count").and_then(Value::as_u64).map_or("?".to_owned(), |calls| calls.to_string());
        let unknown = count(act, "unknown");
        let unknown = if unknown > 0 { format!(" (+ ? of {unknown} targets)") } else { String::new() };
        format!("{} × {calls}{unknown}", field(act, "act"))
    };
    let acts: Vec<String> = list(of, "acts").iter().map(act).collect();
    if acts.is_empty() { "-".to_owned() } else { acts.join(", ") }
}

/// One preview, for people.
fn describe(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", job(answer))?;
    for name in ["preview", "requested_by", "asked_at", "again"] {
        writeln!(out, "  {name}: {}", field(answer, name))?;
    }
    for target in list(answer, "targets") {
        writeln!(out, "  {} ({})", field(target, "system"), field(target, "kind"))?;
        let preview = target.get("preview").unwrap_or(&Value::Null);
        for name in ["found", "entitlements_with_access", "codes", "codes_active"] {
            writeln!(out, "    {name}: {}", field(preview, name))?;
        }
        if preview.get("acts").is_some() {
            writeln!(out, "    acts: {}", acts(preview))?;
        }
        for offer in list(preview, "entitlements") {
            writeln!(out, "    entitlement: {} ({})", field(offer, "offer_id"), field(offer, "status"))?;
        }
        let refunds = list(target, "refunds");
        let expected = refunds.iter().filter(|one| one.get("refund_expected") == Some(&Value::Bool(true))).count();
        writeln!(out, "    money back: {expected} of {} codes", refunds.len())?;
        writeln!(out, "    preserved: {}", field(target, "preserved"))?;
    }
    Ok(())
}

impl Decide {
    async fn run(self, (action, done): (&str, &str), ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let mut body = Map::new();
        if let Some(by) = self.by {
            body.insert("by".into(), json!(by));
        }
        let one = self.job.map(|job| JobSelector { job, tenant: self.filter.tenant.clone() });
        let answer = match one.as_ref().map(JobSelector::key).transpose() {
            Err(why) => {
                writeln!(ctx.err, "{why}")?;
                return Ok(Exit::Usage);
            }
            Ok(Some((tenant, id))) => {
                body.insert("preview".into(), json!(self.preview));
                let path = ["v1", "approvals", tenant, &id.to_string(), action];
                ctx.post(&self.ask.ops, &path, Body::Json(Value::Object(body))).await
            }
            Ok(None) => {
                body.insert("as_of".into(), self.as_of.map(|at| at.to_string()).into());
                let given = self.filter.named().into_iter();
                body.extend(given.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
                ctx.post(&self.ask.ops, &["v1", "approvals", action], Body::Json(Value::Object(body))).await
            }
        };
        let show = |answer: &Value, ctx: &mut Context<'_>| {
            // The answer about a single job has no count.
            let decided = answer.get(done).and_then(Value::as_u64).unwrap_or(1);
            writeln!(ctx.out, "{decided} {done}; it takes effect within a quarter of an hour")
        };
        ctx.print_then(answer, self.ask.output, show, |answer, ctx| {
            let left @ 1.. = count(answer, "left") else { return Ok(Exit::Done) };
            let why = "their requester cannot approve them, or it is too late to reject them";
            writeln!(ctx.err, "{left} are not decided: {why}")?;
            Ok(Exit::Failed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acts_of_a_connector_are_shown_with_the_number_of_their_calls() {
        let list =
            json!([{ "act": "orders", "count": 9, "unknown": 2 }, { "act": "account", "count": 3, "unknown": 0 }]);
        assert_eq!(acts(&json!({ "acts": list })), "orders × 9 (+ ? of 2 targets), account × 3");
        assert_eq!((acts(&json!({ "acts": [] })), acts(&json!({}))), ("-".to_owned(), "-".to_owned()));
        let target = |preview: Value| json!({ "system": "shop", "kind": "connector", "preview": preview });
        let preview = json!({ "found": true, "acts": [{ "act": "orders", "count": null }] });
        let answer = json!({ "targets": [target(preview), target(json!({ "found": true }))] });
        let mut out = Vec::new();
        describe(&answer, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown.matches("acts: ").count(), 1, "{shown}");
        assert!(shown.contains("    acts: orders × ?\n"), "{shown}");
    }
}

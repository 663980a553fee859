//! `approvals list`, `report`, `show`, `approve`, `reject`: erasures that wait for a second operator.
//!
//! The rule it keeps: what is decided about is what was printed before, never whatever is there now.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Exit;
use super::approvals_args::{ApprovalsCommand, ApprovalsDecide, ApprovalsFilter, ApprovalsList, ApprovalsReport};
use super::client::{connect, count, field, job, judge, list, table, tell};
use super::common::OneJob;
use super::jobs::ask_one;
use crate::config::Surroundings;
use crate::ops::client::Body;

/// What is counted for each system, and under which head.
const LOSSES: [(&str, &str); 8] = [
    ("system", "SYSTEM"),
    ("targets", "TARGETS"),
    ("found", "FOUND"),
    ("entitlements_with_access", "ENTITLEMENTS"),
    ("codes_active", "ACTIVE CODES"),
    ("refunds_expected", "MONEY BACK"),
    ("refunds_unknown", "MAYBE"),
    ("preserved", "IS PRESERVED"),
];

/// Carries out an `approvals` command.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn approvals(
    command: &ApprovalsCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        ApprovalsCommand::List(args) => list_all(args, surroundings, out, err).await,
        ApprovalsCommand::Report(args) => report(args, surroundings, out, err).await,
        ApprovalsCommand::Show(args) => show(args, surroundings, out, err).await,
        ApprovalsCommand::Approve(args) => decide(args, ("approve", "approved"), surroundings, out, err).await,
        ApprovalsCommand::Reject(args) => decide(args, ("reject", "rejected"), surroundings, out, err).await,
    }
}

fn named(filter: &ApprovalsFilter) -> [(&'static str, Option<String>); 2] {
    [("tenant", filter.tenant.clone()), ("requested_by", filter.requested_by.clone())]
}

async fn list_all(
    args: &ApprovalsList,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async {
        let mut query = named(&args.filter).to_vec();
        query.push(("after", args.after.clone()));
        query.push(("limit", Some(args.limit.to_string())));
        connect(&args.ops, surroundings)?.get(&["v1", "approvals"], &query).await
    };
    tell(ask.await, args.output, out, err, |answer, out, err| {
        let rows: Vec<Vec<String>> = list(answer, "approvals")
            .iter()
            .map(|one| {
                let decided = one.get("decided").filter(|decided| !decided.is_null());
                let state = decided.map_or("waits".to_owned(), |decided| field(decided, "decision"));
                vec![job(one), field(one, "preview"), field(one, "requested_by"), field(one, "asked_at"), state]
            })
            .collect();
        table(out, &["JOB", "PREVIEW", "REQUESTED BY", "ASKED", "STATE"], &rows)?;
        if let Some(next) = answer.get("next").and_then(Value::as_str) {
            writeln!(err, "there are more: --after {next}")?;
        }
        Ok(())
    })
}

async fn report(
    args: &ApprovalsReport,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async {
        let api = connect(&args.ops, surroundings)?;
        api.get(&["v1", "approvals", "report"], &named(&args.filter)).await
    };
    tell(ask.await, args.output, out, err, |answer, out, _| {
        let rows: Vec<Vec<String>> = list(answer, "systems")
            .iter()
            .map(|system| LOSSES.iter().map(|(name, _)| field(system, name)).collect())
            .collect();
        writeln!(out, "{} jobs wait for an approval, as of {}", field(answer, "jobs"), field(answer, "as_of"))?;
        table(out, &LOSSES.map(|(_, head)| head), &rows)
    })
}

async fn show(
    args: &OneJob,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    tell(ask_one(args, surroundings, "approvals", None).await, args.output, out, err, |answer, out, _| {
        describe(answer, out)
    })
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

async fn decide(
    args: &ApprovalsDecide,
    (action, done): (&str, &str),
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut body = Map::new();
    if let Some(by) = &args.by {
        body.insert("by".into(), json!(by));
    }
    let selector = args.selector();
    let key = match selector.as_ref().map(super::common::JobSelector::key).transpose() {
        Ok(key) => key.map(|(tenant, id)| (tenant.to_owned(), id.to_string())),
        Err(why) => {
            writeln!(err, "{why}")?;
            return Ok(Exit::Usage);
        }
    };
    let ask = async {
        let api = connect(&args.ops, surroundings)?;
        match &key {
            Some((tenant, id)) => {
                body.insert("preview".into(), json!(args.preview));
                api.post(&["v1", "approvals", tenant, id, action], Body::Json(Value::Object(body))).await
            }
            None => {
                body.insert("as_of".into(), args.as_of.map(|at| at.to_string()).into());
                let given = named(&args.filter).into_iter();
                body.extend(given.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
                api.post(&["v1", "approvals", action], Body::Json(Value::Object(body))).await
            }
        }
    };
    let show = |answer: &Value, out: &mut dyn Write, _: &mut dyn Write| {
        // One job's answer has no count.
        let decided = answer.get(done).and_then(Value::as_u64).unwrap_or(1);
        writeln!(out, "{decided} {done}; it takes effect within a quarter of an hour")
    };
    judge(ask.await, args.output, out, err, show, |answer, err| {
        let left @ 1.. = count(answer, "left") else { return Ok(Exit::Done) };
        writeln!(err, "{left} are left: who asked for them cannot approve them, or it is too late to reject them")?;
        Ok(Exit::Failed)
    })
}

//! `guard list`, `guard release`, `guard discard`: the jobs above a ceiling, and what becomes of them.
//!
//! The rule it keeps: held jobs are released or discarded by the name of what holds them, never all
//! at once.

use std::io::{self, Write};

use super::Exit;
use super::client::{connect, field, list, table, tell};
use super::guard_args::{GuardCommand, GuardDecision, GuardList};
use crate::config::Surroundings;
use crate::ops::client::Body;

/// Carries out a `guard` command.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn guard(
    command: &GuardCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        GuardCommand::List(args) => list_scopes(args, surroundings, out, err).await,
        GuardCommand::Release(args) => decide(args, ("release", "released"), surroundings, out, err).await,
        GuardCommand::Discard(args) => decide(args, ("discard", "discarded"), surroundings, out, err).await,
    }
}

async fn list_scopes(
    args: &GuardList,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async { connect(&args.ops, surroundings)?.get(&["v1", "guard"], &[]).await };
    tell(ask.await, args.output, out, err, |answer, out, _| {
        let names = ["scope", "name", "passed", "limit", "held", "held_since"];
        let rows: Vec<Vec<String>> =
            list(answer, "scopes").iter().map(|row| names.iter().map(|name| field(row, name)).collect()).collect();
        table(out, &["SCOPE", "NAME", "PASSED", "LIMIT", "HELD", "HELD SINCE"], &rows)
    })
}

async fn decide(
    args: &GuardDecision,
    (action, done): (&str, &str),
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let (kind, name) = args.scope.named();
    let ask = async { connect(&args.ops, surroundings)?.post(&["v1", "guard", kind, name, action], Body::Empty).await };
    tell(ask.await, args.output, out, err, |answer, out, _| {
        writeln!(out, "{} {done}; it takes effect within a quarter of an hour", field(answer, done))
    })
}

//! The effects of a file for a database in words, for a reviewer who does not program.
//!
//! The rule it keeps: every statement, every ceiling and everything that counts as proof is named. The same file gives
//! the same text.

use std::fmt::Write as _;

use erasure_statement::Statement;

use super::model::{Act, Lost, Rows, SqlFile};

/// Writes a line; writing to a text cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{ let _ = writeln!($out, $($text)*); }};
}

/// The text.
pub fn show(file: &SqlFile) -> String {
    let mut out = String::new();
    line!(out, "DATABASE {} ({})", file.name, file.database.title());
    line!(out, "  A person ends as: \"erased\", only with the proof below");
    line!(out, "  File: SHA-256 {}", file.digest);
    line!(out, "  In statements $x stands for the person's x. It is sent beside the statement, never in its text.");
    line!(out, "\nWHAT IS KNOWN OF THE PERSON");
    for (name, identifier) in &file.identifiers {
        line!(out, "  - {name} ({})", identifier.described());
    }
    line!(out, "\nWHAT IS READ BEFORE ANYTHING IS CHANGED");
    line!(out, "  {}", file.person.shown(file.database));
    line!(out, "     One row is compared with the job: every column must be the job's, else nothing is changed.");
    line!(out, "     Two rows are refused. No row counts as absent only if all counts below are 0, too.");
    line!(out, "\nWHAT IS DESTROYED, IN THIS ORDER");
    for (number, act) in file.acts.iter().enumerate() {
        self::act(file, number + 1, act, &mut out);
    }
    line!(out, "\nWHAT STAYS");
    for data in file.stays() {
        line!(out, "  - {data}");
    }
    line!(out, "  - backups, replicas, logs and other databases: they are not seen");
    let watch: Vec<_> = file.watch.iter().map(|schema| format!("{schema}.*")).collect();
    line!(out, "\nWHAT `systems check` LOOKS FOR, in {}", watch.join(", "));
    line!(out, "  - tables that refer by a foreign key to a changed table, and are neither changed nor kept");
    let columns: Vec<_> = file.telling_columns().into_iter().collect();
    line!(out, "  - tables with a column {}, and are neither changed nor kept", columns.join(" or "));
    out
}

fn act(file: &SqlFile, number: usize, act: &Act, out: &mut String) {
    line!(out, "  {number}. {}: one transaction, all of it or nothing", act.name);
    for change in &act.changes {
        let what = if matches!(change.statement, Statement::Delete(_)) { "deletes" } else { "overwrites" };
        let rows = match change.rows {
            Rows::Most(1) => "one row at most".to_owned(),
            Rows::Most(most) => format!("{most} rows at most"),
            Rows::Exactly(1) => "exactly one row".to_owned(),
            Rows::Exactly(exactly) => format!("exactly {exactly} rows"),
        };
        line!(out, "     {}", change.statement.shown(file.database));
        line!(out, "        {what} {rows}; with more, everything is rolled back and the target is refused");
    }
    let lost = match act.lost {
        Lost::Read(_) => "the counts below decide. Only if they find rows, the transaction is made again",
        Lost::Ledger => "the ledger's row, written in the same transaction, decides",
    };
    line!(out, "     IF THE ANSWER TO THE COMMIT IS LOST: {lost}.");
    line!(out, "     COUNTS AS PROOF: on a new connection to the primary, all of these are 0:");
    for count in act.evidence.iter().filter_map(|read| file.reads.get(*read)).flat_map(|read| &read.counts) {
        line!(out, "        {}", count.shown(file.database));
    }
}

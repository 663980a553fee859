//! The meaning of PostgreSQL's errors.
//!
//! The rule it keeps: only the SQLSTATE counts. Messages repeat values of rows.

use tokio_postgres::Error;

use super::super::database::{ambiguous, ours, refused, unavailable};
use crate::job::{Failure, FailureKind, Note, Reason};

/// The meaning of an error before a COMMIT was sent: certainly nothing was changed.
pub(super) fn before_commit(error: &Error) -> Failure {
    let Some(state) = error.code().map(|state| state.code()) else { return unavailable("the connection was lost") };
    let (class, known) = (state.get(..2).unwrap_or_default(), |words| noted(words, state));
    match (class, state) {
        (_, "25006") => ours(known("the database only reads: is it the primary?")),
        (_, "42501") => ours(known("the role has no right to a statement, or row security hides rows from it")),
        (_, "55P03") => unavailable(known("another session holds a lock")),
        (_, "57014") => unavailable(known("a statement took too long")),
        ("28" | "3D" | "42" | "3F" | "0A", _) => ours(known("role, database, table or column is wrong")),
        ("23", _) => refused(known("other rows refer to those of the person")),
        ("P0" | "09" | "27" | "44", _) => refused(known("a rule or a trigger of the database refuses")),
        ("22", _) => Failure::new(FailureKind::Rejected, Reason::RequestRejected)
            .with_note(known("an identifier has another form than its column")),
        _ => unavailable(known("the database reports an error")),
    }
}

/// The meaning of an error in answer to a COMMIT. A constraint that is checked at the end, and a conflict, roll back.
/// Any other end may have come after the commit.
pub(super) fn at_commit(error: &Error) -> Failure {
    match error.code().map(|state| state.code()) {
        Some(state) if ["23", "40", "P0"].iter().any(|class| state.starts_with(class)) => before_commit(error),
        Some(state) => ambiguous(noted("no answer to the COMMIT", state)),
        None => ambiguous("no answer to the COMMIT"),
    }
}

/// The words, and the error's code from the closed list of PostgreSQL.
fn noted(words: &'static str, state: &str) -> Note {
    let note = Note::from(words);
    match KNOWN.iter().find(|known| **known == state) {
        Some(known) => note.and(" (").and(known).and(")"),
        None => note,
    }
}

/// The codes that are worth naming.
const KNOWN: [&str; 25] = [
    "08006", "0A000", "22003", "22007", "22P02", "23001", "23502", "23503", "23505", "25006", "28000", "28P01",
    "3D000", "3F000", "40001", "40P01", "42501", "42703", "42883", "42P01", "53300", "55P03", "57014", "57P01",
    "P0001",
];

//! The meaning of MySQL's and MariaDB's errors.
//!
//! The rule it keeps: only the number and the SQLSTATE count. Messages repeat values of rows.

use mysql_async::Error;

use super::super::database::{ambiguous, ours, refused, unavailable};
use crate::job::{Failure, FailureKind, Note, Reason};

/// The meaning of an error before a COMMIT was sent: certainly nothing was changed.
pub(super) fn before_commit(error: &Error) -> Failure {
    let Error::Server(server) = error else { return unavailable("the connection was lost") };
    let known = |words: &'static str| Note::from(words).and(" (").number(i64::from(server.code)).and(")");
    match (server.code, server.state.as_str()) {
        (1205 | 3572, _) => unavailable(known("another session holds a lock")),
        (1213, _) => unavailable(known("a conflict with another transaction")),
        (1317 | 1969 | 3024, _) => unavailable(known("a statement took too long")),
        (1290 | 1792 | 1836, _) => ours(known("the database only reads: is it the primary?")),
        (1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698, _) => ours(known("the role has no right to a statement")),
        (1046 | 1049 | 1054 | 1064 | 1146 | 1176 | 1305 | 1356, _) => {
            ours(known("role, database, table or column is wrong"))
        }
        (1216 | 1217 | 1451 | 1452 | 1062 | 1048, _) => refused(known("other rows refer to those of the person")),
        (1644, _) | (_, "45000") => refused(known("a rule or a trigger of the database refuses")),
        (1264 | 1292 | 1366 | 1406, _) => Failure::new(FailureKind::Rejected, Reason::RequestRejected)
            .with_note(known("an identifier has another form than its column")),
        _ => unavailable(known("the database reports an error")),
    }
}

/// The meaning of an error in answer to a COMMIT. Only a conflict certainly rolls back.
pub(super) fn at_commit(error: &Error) -> Failure {
    match error {
        Error::Server(server) if server.code == 1213 => before_commit(error),
        Error::Server(server) => {
            ambiguous(Note::from("no answer to the COMMIT (").number(i64::from(server.code)).and(")"))
        }
        _ => ambiguous("no answer to the COMMIT"),
    }
}

//! The operations of a database, for every kind of database.
//!
//! The rule it keeps: each operation has a connection of its own to the primary, and a time limit. No text of the
//! database leaves it: it may name a person.

use async_trait::async_trait;
use erasure_connector::sql::{Catalogue, Rows};
use secrecy::SecretString;

use crate::job::{Failure, FailureKind, Note, Reason};

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// The text, with placeholders.
    pub text: String,
    /// The values, in order.
    pub values: Vec<SecretString>,
}

/// A person's read.
#[derive(Debug)]
pub(super) struct Seen {
    /// At most two rows.
    pub rows: Vec<Vec<Option<SecretString>>>,
    /// The rows that each count found; counted only if there is no row.
    pub left: Vec<u64>,
}

/// One statement of an act.
#[derive(Debug)]
pub(super) struct Change {
    /// The statement.
    pub statement: Bound,
    /// Its ceiling.
    pub rows: Rows,
    /// Counts that must be 0 after it, within the transaction.
    pub proofs: Vec<Bound>,
}

impl Change {
    /// True unless the statement changed fewer rows than it must. `number` counts the statements from 1.
    pub(super) fn is_enough(&self, number: i64, rows: u64) -> Result<bool, Failure> {
        if self.rows.is_passed_by(rows) {
            let (Rows::Most(most) | Rows::Exactly(most)) = self.rows;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let note = Note::from("statement ").number(number).and(" changed more rows than ").number(most);
            return Err(refused(note.and(": rolled back")));
        }
        Ok(self.rows.permits(rows))
    }

    /// Refuses a statement after which its counts still find rows.
    pub(super) fn is_complete(&self, number: i64, left: u64) -> Result<(), Failure> {
        if left > 0 {
            let note = Note::from("statement ").number(number);
            return Err(refused(note.and(" left rows that it should change (a trigger?): rolled back")));
        }
        Ok(())
    }
}

/// The end of an act whose transaction was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acted {
    /// Committed.
    Committed,
    /// The ledger says that it was committed before, and no row is left. Nothing was changed now.
    Before,
    /// A statement changed fewer rows than it must. Rolled back.
    TooFew,
}

/// The parts of the file that a check looks at.
#[derive(Debug)]
pub(super) struct Checked {
    /// Every statement, to see whether the role may make it.
    pub statements: Vec<Bound>,
    /// Whether the person's table has a row: one row, or none.
    pub any_person: String,
    /// The tables that acts change: schema, if given, and name.
    pub changed: Vec<(Option<String>, String)>,
    /// The watched schemas.
    pub watch: Vec<String>,
    /// The ledger.
    pub ledger: Option<(Option<String>, String)>,
}

/// A database.
#[async_trait]
pub(super) trait Database: Send + Sync {
    /// Reads the person; without a row, the counts, too. All in one snapshot.
    async fn person(&self, person: &Bound, counts: &[Bound]) -> Result<Seen, Failure>;

    /// The sum of the counts, in one snapshot.
    async fn count(&self, counts: &[Bound]) -> Result<u64, Failure>;

    /// One transaction. `note` writes the ledger's row, unless it is there.
    async fn act(&self, changes: &[Change], note: Option<&Bound>) -> Result<Acted, Failure>;

    /// Whether address, role and statements work. True if the person's table has a row.
    async fn check(&self, checked: &Checked) -> Result<bool, Failure>;

    /// The tables with their columns, and the foreign keys.
    async fn catalogue(&self) -> Result<Catalogue, Failure>;
}

/// Certainly nothing was changed.
pub(super) fn unavailable(note: impl Into<Note>) -> Failure {
    Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable).with_note(note)
}

/// Our role, address or file is wrong: the system is held.
pub(super) fn ours(note: impl Into<Note>) -> Failure {
    Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(note)
}

/// The database refuses, for good. Rolled back.
pub(super) fn refused(note: impl Into<Note>) -> Failure {
    Failure::new(FailureKind::Refused, Reason::Precondition).with_note(note)
}

/// A COMMIT without an answer.
pub(super) fn ambiguous(note: impl Into<Note>) -> Failure {
    Failure::new(FailureKind::Ambiguous, Reason::SystemUnavailable).with_note(note)
}

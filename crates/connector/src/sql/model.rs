//! A file for a database after it was read and accepted.

use std::collections::{BTreeMap, BTreeSet};

use erasure_statement::{Database, Select, Statement, Table};

use crate::model::Identifier;

/// An accepted file.
#[derive(Debug, Clone)]
pub struct SqlFile {
    /// The system's name, for events and metrics.
    pub name: String,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// The kind of database.
    pub database: Database,
    /// The identifiers of a person in a job.
    pub identifiers: BTreeMap<String, Identifier>,
    /// The schemas whose tables `systems check` looks at.
    pub watch: BTreeSet<String>,
    /// Tables that keep the person's data, each with the reason.
    pub keep: BTreeMap<String, String>,
    /// Other data that stays; named in the event.
    pub preserved: Vec<String>,
    /// The table that notes each committed act.
    pub ledger: Option<Table>,
    /// The person's row.
    pub person: Select,
    /// The other reads.
    pub reads: Vec<Counts>,
    /// The changes, in order.
    pub acts: Vec<Act>,
}

/// `[read.NAME]` with `counts`.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Its name.
    pub name: String,
    /// The counts; all must be 0.
    pub counts: Vec<Select>,
}

/// `[[act]]`: one transaction.
#[derive(Debug, Clone)]
pub struct Act {
    /// Its name.
    pub name: String,
    /// Its statements, in order.
    pub changes: Vec<Change>,
    /// What follows a lost answer.
    pub lost: Lost,
    /// The reads that prove it, by their places in [`SqlFile::reads`].
    pub evidence: Vec<usize>,
}

/// A statement and its ceiling.
#[derive(Debug, Clone)]
pub struct Change {
    /// A `DELETE` or an `UPDATE`.
    pub statement: Statement,
    /// The rows that it may change.
    pub rows: Rows,
}

/// The number of rows that a statement may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// So many at most.
    Most(u64),
    /// So many.
    Exactly(u64),
}

/// What follows a lost answer to a COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// These reads decide.
    Read(Vec<usize>),
    /// The ledger's row decides.
    Ledger,
}

impl Rows {
    /// True if so many are permitted.
    pub fn permits(self, count: u64) -> bool {
        match self {
            Rows::Most(most) => count <= most,
            Rows::Exactly(exactly) => count == exactly,
        }
    }

    /// True if so many are more than permitted.
    pub fn is_passed_by(self, count: u64) -> bool {
        let (Rows::Most(most) | Rows::Exactly(most)) = self;
        count > most
    }
}

impl SqlFile {
    /// The tables that the acts change, by their full names.
    pub fn changed(&self) -> BTreeSet<String> {
        let changes = self.acts.iter().flat_map(|act| &act.changes);
        changes.map(|change| change.statement.table().full(self.database)).collect()
    }

    /// Every table of the person's select, a statement or a count, with those of inner selects.
    pub fn tables(&self) -> BTreeSet<&Table> {
        let changes = self.acts.iter().flat_map(|act| &act.changes);
        let changes = changes.map(|change| (change.statement.table(), change.statement.condition()));
        let selects = self.reads.iter().flat_map(|read| &read.counts).chain([&self.person]);
        let all = changes.chain(selects.map(|select| (&select.table, &select.condition)));
        all.flat_map(|(table, rows)| rows.inner().into_iter().map(|inner| &inner.table).chain([table])).collect()
    }

    /// The columns that name a person: those with an identifier's name, and those to which a statement binds one. `id`
    /// names something else in every table.
    pub fn telling_columns(&self) -> BTreeSet<String> {
        let changes = self.acts.iter().flat_map(|act| &act.changes).map(|change| change.statement.condition());
        let counts = self.reads.iter().flat_map(|read| &read.counts).map(|count| &count.condition);
        let bound = changes.chain(counts).chain([&self.person.condition]).flat_map(|rows| rows.bound_columns());
        let names = bound.map(|column| column.name.0.clone()).chain(self.identifiers.keys().cloned());
        names.filter(|name| name != "id").collect()
    }

    /// What stays, for the event.
    pub fn stays(&self) -> Vec<String> {
        let kept = self.keep.iter().map(|(table, why)| format!("{table}: {why}"));
        kept.chain(self.preserved.iter().cloned()).collect()
    }

    /// The counts that must be 0 within the transaction, after the statement of this place: it is the last statement that each
    /// of them is about. Later statements may remove the rows by which a count finds others.
    pub fn proofs_after(&self, act: &Act, place: usize) -> Vec<&Select> {
        let counts = act.evidence.iter().filter_map(|read| self.reads.get(*read)).flat_map(|read| &read.counts);
        counts
            .filter(|count| {
                let covered = |change: &Change| super::proof::covers(count, &change.statement, self.database);
                act.changes.iter().rposition(covered) == Some(place)
            })
            .collect()
    }
}

//! The refusals about the person's own row.
//!
//! The rule it keeps: the row that was compared is the row that is changed, after everything that leads from it; and
//! nothing is left of it by which the person was found, besides a key.

use erasure_statement::{Condition, Select, Statement, Table};

use super::proof::without_table;
use super::refuse::Trial;
use crate::model::IdentifierForm;

impl Trial<'_> {
    /// Tries the statements and the counts against the person's select.
    pub(super) fn own_row(&mut self) {
        let file = self.file;
        let person = &file.person;
        let last = file.acts.len().checked_sub(1);
        let mut changes = Vec::new();
        for (index, act) in file.acts.iter().enumerate() {
            for (number, change) in act.changes.iter().enumerate() {
                let place = format!("act.{}.statements[{number}].sql", act.name);
                self.rows(&place, change.statement.table(), change.statement.condition());
                if !change.statement.table().may_be(&person.table, file.database) {
                    continue;
                }
                changes.push(&change.statement);
                if Some(index) != last || number + 1 != act.changes.len() {
                    self.refuse(
                        &place,
                        "changes the person's row before other rows: a foreign key (on delete set null, cascade) could \
                         take from them that by which they are found",
                        "write it as the last statement of the last act, and only once",
                    );
                }
            }
        }
        for read in &file.reads {
            for (number, count) in read.counts.iter().enumerate() {
                self.rows(&format!("read.{}.counts[{number}]", read.name), &count.table, &count.condition);
            }
        }
        let is_deleted = changes.iter().any(|change| matches!(change, Statement::Delete(_)));
        if !changes.is_empty() && !is_deleted && !file.keep.contains_key(&person.table.full(file.database)) {
            self.overwritten(person, &changes);
        }
    }

    /// Without a deletion, every column that names the person is overwritten.
    fn overwritten(&mut self, person: &Select, changes: &[&Statement]) {
        let file = self.file;
        let keys = person.condition.columns();
        let sets = |name: &str| {
            changes.iter().any(|change| match change {
                Statement::Update(update) => update.set.iter().any(|(column, _)| column.name.0 == name),
                _ => false,
            })
        };
        let left = person.columns.iter().find(|(column, name)| {
            let is_key = keys.iter().any(|key| key.name == column.name);
            !sets(&column.name.0) && (!is_key || self.is_email(&name.0) || person.columns.len() == 1)
        });
        if let Some((column, _)) = left {
            let table = person.table.full(file.database);
            self.refuse(
                "read.person.select",
                format!("compares {}, which stays in the person's row: the person would still be there", column.name.0),
                format!(
                    "delete the row, or set {} in the last statement, or write keep = {{ \"{table}\" = \"the reason\" }}",
                    column.name.0
                ),
            );
        }
    }

    /// Rows of the person's table are found as the person was; rows of other tables not by their own key.
    fn rows(&mut self, place: &str, table: &Table, condition: &Condition) {
        let file = self.file;
        let mut all = vec![(table, condition)];
        all.extend(condition.inner().into_iter().map(|inner| (&inner.table, &inner.condition)));
        let wanted = without_table(&file.person.condition, &file.person.table);
        let is_own = |table: &Table| table.may_be(&file.person.table, file.database);
        for (table, condition) in all {
            let has_address = |name: &str| {
                file.person.columns.iter().any(|(column, of)| column.name.0 == name && self.is_email(&of.0))
            };
            if let Some((column, _)) =
                condition.within().into_iter().find(|(_, inner)| has_address(&inner.column.name.0))
            {
                let column = &column.name.0;
                self.refuse(
                    place,
                    format!("compares {column} with an address with its case: rows with another one would stay"),
                    format!("write lower({column}) = lower($NAME)"),
                );
            }
            if is_own(table) {
                // The alternatives of an update's old values are no narrower condition.
                let own = condition.conjuncts();
                let is_old_value = |one: &&&Condition| self.is_old_value(one, table);
                let others = own.iter().filter(|one| !is_old_value(one)).collect::<Vec<_>>();
                if others.len() != 1 || others.iter().any(|one| without_table(one, table) != wanted) {
                    self.refuse(
                        place,
                        "finds the person's row by another condition than read.person: a row that fails it would stay, \
                         and count as none",
                        "write the condition of read.person alone",
                    );
                }
                continue;
            }
            let names_a_row = |name: &str| name.eq_ignore_ascii_case("id");
            if condition.equals().iter().any(|(column, _)| names_a_row(&column.name.0)) {
                self.refuse(
                    place,
                    format!(
                        "takes id of {} for the person's: it is the row's own, and another person's row fits",
                        table.name.0
                    ),
                    "use the column that refers to the person",
                );
            }
            let within = condition.within();
            let shared = within
                .iter()
                .find(|(_, inner)| inner.table.may_be(table, file.database) && !names_a_row(&inner.column.name.0));
            if let Some((column, _)) = shared {
                self.refuse(
                    place,
                    format!(
                        "takes every row with the same {} as a row of the person: other people's fit",
                        column.name.0
                    ),
                    "write the inner select's condition in its place",
                );
            }
            let from_own = |(column, inner): &(&erasure_statement::Column, &erasure_statement::Inner)| {
                names_a_row(&column.name.0)
                    && names_a_row(&inner.column.name.0)
                    && !inner.table.may_be(table, file.database)
            };
            if condition.within().iter().any(from_own) {
                self.refuse(
                    place,
                    format!("takes id of {} for another table's: another person's row fits", table.name.0),
                    "use the column that refers to that table",
                );
            }
        }
    }

    fn is_email(&self, name: &str) -> bool {
        self.file.identifiers.get(name).is_some_and(|identifier| identifier.form == IdentifierForm::Email)
    }

    /// True of `COLUMN is not null or …`, the count's part that finds old values of an update's columns.
    fn is_old_value(&self, condition: &Condition, table: &Table) -> bool {
        let old = condition.alternatives();
        let updates = self.file.acts.iter().flat_map(|act| &act.changes).filter_map(|change| match &change.statement {
            Statement::Update(update) if update.table.may_be(table, self.file.database) => Some(update),
            _ => None,
        });
        let wanted: Vec<Condition> = updates
            .flat_map(|update| &update.set)
            .filter_map(|(column, value)| super::proof::old_value(column, value))
            .map(|one| without_table(&one, table))
            .collect();
        !old.is_empty() && old.iter().all(|one| wanted.contains(&without_table(one, table)))
    }
}

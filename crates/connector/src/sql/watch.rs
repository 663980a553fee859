//! Tables that nobody covers.
//!
//! The rule it keeps: a table that may hold the person's data is changed by an act, or kept with a reason.

use std::collections::BTreeSet;

use super::draft::Catalogue;
use super::model::SqlFile;

/// One line for each table that refers to a changed table, or has a column that names a person in a watched schema, and
/// is neither changed nor kept.
pub fn uncovered(file: &SqlFile, catalogue: &Catalogue) -> Vec<String> {
    let full = |name: &String| match (name.contains('.'), &catalogue.home) {
        (false, Some(home)) => format!("{home}.{name}"),
        _ => name.clone(),
    };
    let changed: BTreeSet<String> = file.changed().iter().map(full).collect();
    let kept: BTreeSet<String> = file.keep.keys().map(full).collect();
    let ledger = file.ledger.as_ref().map(|ledger| full(&ledger.full(file.database)));
    let is_covered = |table: &String| changed.contains(table) || kept.contains(table) || ledger.as_ref() == Some(table);
    let telling = file.telling_columns();
    let mut lines = Vec::new();
    for table in catalogue.tables.iter().filter(|table| !is_covered(&table.name)) {
        let name = &table.name;
        let reference = catalogue.references.iter().find(|one| one.from == *name && changed.contains(&one.to));
        let is_watched = name.split_once('.').is_some_and(|(schema, _)| file.watch.contains(schema));
        let column = table.columns.iter().find(|(column, _)| is_watched && telling.contains(column));
        if let Some(reference) = reference {
            lines.push(format!(
                "{name} refers to {} by {}; cover it, or write it in keep",
                reference.to, reference.column
            ));
        } else if let Some((column, _)) = column {
            lines.push(format!("{name} has the column {column}; cover it, or write it in keep"));
        }
    }
    let missing = changed.iter().filter(|table| !catalogue.tables.iter().any(|known| known.name == **table));
    lines.extend(missing.map(|table| format!("{table} is in the file, but not in the database")));
    lines
}

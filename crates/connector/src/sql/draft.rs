//! A first file from a database's foreign keys.
//!
//! The rule it keeps: a draft does not load. The gaps that only a person can fill are marked, and each is a fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Database;

/// A table of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableInfo {
    /// Its full name.
    pub name: String,
    /// Its columns, each with true if it has numbers.
    pub columns: Vec<(String, bool)>,
}

/// A foreign key of one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The table that refers.
    pub from: String,
    /// Its column.
    pub column: String,
    /// The table to which it refers.
    pub to: String,
    /// The column there.
    pub key: String,
}

/// A database's tables and foreign keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The schema of tables that are written without one.
    pub home: Option<String>,
    /// The tables.
    pub tables: Vec<TableInfo>,
    /// The foreign keys.
    pub references: Vec<Reference>,
}

/// The condition by which a table's rows are found, and its distance from the person's table.
struct Path {
    condition: String,
    depth: usize,
}

/// A first file. `None` if the table or its key is not in the catalogue.
pub fn draft(database: Database, catalogue: &Catalogue, table: &str, key: &str) -> Option<String> {
    let info = catalogue.tables.iter().find(|info| info.name == table)?;
    let is_number = info.columns.iter().find(|(name, _)| name == key)?.1;
    let identifier = if key == "id" { "user_id" } else { key };
    let mut paths = BTreeMap::from([(table, Path { condition: format!("{key} = ${identifier}"), depth: 0 })]);
    // Breadth first: each table by its shortest way to the person.
    let mut front = vec![table];
    while !front.is_empty() {
        let mut next = Vec::new();
        for reference in &catalogue.references {
            if !front.contains(&reference.to.as_str()) || paths.contains_key(reference.from.as_str()) {
                continue;
            }
            let Some(to) = paths.get(reference.to.as_str()) else { continue };
            let condition = if to.depth == 0 && reference.key == key {
                format!("{} = ${identifier}", reference.column)
            } else {
                let within = prefixed(&to.condition, &reference.to);
                let name = short(&reference.to);
                format!(
                    "{} in (select {name}.{} from {} where {within})",
                    reference.column, reference.key, reference.to
                )
            };
            let depth = to.depth + 1;
            paths.insert(&reference.from, Path { condition, depth });
            next.push(reference.from.as_str());
        }
        front = next;
    }
    let mut ordered: Vec<(&str, Path)> = paths.into_iter().collect();
    ordered.sort_by(|(one, a), (two, b)| b.depth.cmp(&a.depth).then(one.cmp(two)));
    Some(text(database, catalogue, info, key, identifier, is_number, &ordered))
}

fn text(
    database: Database,
    catalogue: &Catalogue,
    info: &TableInfo,
    key: &str,
    identifier: &str,
    is_number: bool,
    paths: &[(&str, Path)],
) -> String {
    let mut out = String::new();
    let form = match (identifier, is_number) {
        ("email", _) => "email",
        (_, true) => "digits",
        _ => "text",
    };
    let has_email = key != "email" && info.columns.iter().any(|(name, _)| name == "email");
    let schema = info.name.split_once('.').map_or("", |(schema, _)| schema);
    let mut put = |line: String| {
        let _ = writeln!(out, "{line}");
    };
    put("# A draft from the foreign keys. It loads after each FILL is replaced. Read every statement before."
        .to_owned());
    put("# FILL in a ceiling: the most rows that one person can have there.".to_owned());
    put("format = 1".to_owned());
    put("name = \"FILL: a name for events\"".to_owned());
    put(format!("database = \"{}\"", database.word()));
    let email = if has_email { ", email = { type = \"email\", required = true }" } else { "" };
    put(format!("identifiers = {{ {identifier} = {{ type = \"{form}\", required = true }}{email} }}"));
    put(format!("watch = [\"{schema}.*\"]"));
    put("# Tables that keep the person's data by law, each with the reason: keep = { \"public.invoices\" = \"tax law\" }".to_owned());
    put("\n[read.person]".to_owned());
    let own = if key == identifier { key.to_owned() } else { format!("{key} as {identifier}") };
    let email = if has_email { ", email" } else { "" };
    put(format!("select = \"select {own}{email} from {} where {key} = ${identifier}\"", info.name));
    put("\n[read.rest]".to_owned());
    put("counts = [".to_owned());
    for (table, path) in paths {
        put(format!("  \"select count(*) from {table} where {}\",", path.condition));
    }
    put("]".to_owned());
    put("\n# Delete, or overwrite: update TABLE set COLUMN = null where …, with a count of (COLUMN is not null or …)."
        .to_owned());
    put("[[act]]".to_owned());
    put("name = \"erase\"".to_owned());
    put("statements = [".to_owned());
    for (table, path) in paths {
        let rows = if path.depth == 0 { "exactly = 1" } else { "most = \"FILL\"" };
        put(format!("  {{ sql = \"delete from {table} where {}\", {rows} }},", path.condition));
    }
    put("]".to_owned());
    put("lost = { read = \"rest\" }".to_owned());
    put("evidence = { read = \"rest\" }".to_owned());
    let reached: Vec<&str> = paths.iter().map(|(table, _)| *table).collect();
    let like: Vec<_> = catalogue
        .tables
        .iter()
        .filter(|other| !reached.contains(&other.name.as_str()))
        .filter(|other| other.columns.iter().any(|(name, _)| name == identifier || name == "email"))
        .collect();
    if !like.is_empty() {
        put("\n# No foreign key leads to these tables, but a column has the person's name. Cover or keep them:"
            .to_owned());
        for other in like {
            put(format!("#   {}", other.name));
        }
    }
    out
}

/// The name without its schema.
fn short(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

/// A condition of a table, with the table's name before its first column.
fn prefixed(condition: &str, table: &str) -> String {
    format!("{}.{condition}", short(table))
}

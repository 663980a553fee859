//! Overrides the file's keys by environment variables: `ERASURE__SECTION__KEY`.
//!
//! The rule it keeps: an override replaces exactly one key, and its variable is recorded, so that a fault can name it.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::fault::Fault;

/// The prefix of every override; `__` also separates the sections.
pub(super) const PREFIX: &str = "ERASURE__";

/// Writes the overrides into `table` as texts; the reader of a key converts them. Returns the variable of each
/// overridden key (its full name), and a fault for each variable that names no key.
///
/// Segments are converted to lower case. `_` also matches a `-` in the file's name, because most shells do not allow
/// `-` in a variable's name.
pub(super) fn overlay(
    table: &mut Table,
    variables: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Vec<Fault>) {
    let mut set_by = BTreeMap::new();
    let mut faults = Vec::new();
    for (variable, value) in variables {
        let Some(path) = variable.strip_prefix(PREFIX) else { continue };
        match set(table, path, value) {
            Ok(key) => {
                set_by.insert(key, variable.clone());
            }
            Err(problem) => faults.push(Fault { key: variable.clone(), problem }),
        }
    }
    (set_by, faults)
}

/// Sets one key; returns its full name.
fn set(table: &mut Table, path: &str, value: &str) -> Result<String, String> {
    let segments: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
    if segments.iter().any(String::is_empty) {
        return Err("names no key; the form is ERASURE__SECTION__KEY".to_owned());
    }
    let mut at = table;
    let mut names = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        let name = existing(at, segment);
        names.push(name.clone());
        let last = index + 1 == segments.len();
        if last {
            if matches!(at.get(&name), Some(Value::Table(_))) || index == 0 {
                return Err(format!("{} is a section; name one key in it", names.join(".")));
            }
            at.insert(name, Value::String(value.to_owned()));
            break;
        }
        at = match at.entry(name).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            _ => return Err(format!("{} is a key, not a section", names.join("."))),
        };
    }
    Ok(names.join("."))
}

/// The table's spelling of a segment; the segment itself if the table has no such key.
fn existing(table: &Table, segment: &str) -> String {
    if table.contains_key(segment) {
        return segment.to_owned();
    }
    let spelt = table.keys().find(|key| key.replace('-', "_") == segment);
    spelt.cloned().unwrap_or_else(|| segment.to_owned())
}

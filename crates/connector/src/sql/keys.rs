//! The keys of each table of a file for a database.
//!
//! The rule it keeps: the reader and the JSON Schema have the same keys.

pub(crate) const FILE: &[&str] =
    &["format", "name", "database", "identifiers", "watch", "keep", "preserved", "ledger", "read", "act"];
pub(crate) const PERSON: &[&str] = &["select"];
pub(crate) const COUNTS: &[&str] = &["counts"];
pub(crate) const ACT: &[&str] = &["name", "statements", "lost", "evidence"];
pub(crate) const CHANGE: &[&str] = &["sql", "most", "exactly"];
pub(crate) const LOST: &[&str] = &["read", "ledger"];
pub(crate) const EVIDENCE: &[&str] = &["read"];

/// Every table with its name in the JSON Schema.
#[cfg(test)]
pub(crate) const TABLES: [(&str, &[&str]); 8] = [
    ("file", FILE),
    ("identifier", crate::read::keys::IDENTIFIER),
    ("person", PERSON),
    ("counts", COUNTS),
    ("act", ACT),
    ("change", CHANGE),
    ("lost", LOST),
    ("evidence", EVIDENCE),
];

//! The JSON Schemas of both forms of files, for editors.

/// The schema of a file for a vendor's interface.
pub const TEXT: &str = include_str!("connector.v1.json");
/// The schema of a file for a database.
pub const SQL: &str = include_str!("sql.v1.json");

//! One statement of a file for a database, as data: the smallest part of SQL that serves.
//!
//! A crate of its own, because the parser of all of SQL behind it takes long to build, and nothing waits for it.

mod parse;
mod statement;
#[cfg(test)]
mod tests;

pub use parse::{Flaw, statement};
pub use statement::{
    Column, Comparison, Condition, Delete, Inner, Literal, Name, NewValue, Operand, Select, Sql, Statement, Table,
    Update,
};

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// PostgreSQL.
    Postgresql,
    /// MySQL or MariaDB.
    Mysql,
}

impl Database {
    /// Its name.
    pub const fn title(self) -> &'static str {
        match self {
            Database::Postgresql => "PostgreSQL",
            Database::Mysql => "MySQL",
        }
    }

    /// Its word in a file.
    pub const fn word(self) -> &'static str {
        match self {
            Database::Postgresql => "postgresql",
            Database::Mysql => "mysql",
        }
    }

    /// The quote around names.
    pub const fn quote(self) -> char {
        match self {
            Database::Postgresql => '"',
            Database::Mysql => '`',
        }
    }

    /// The schema of a table that is written without one.
    pub const fn usual_schema(self) -> Option<&'static str> {
        match self {
            Database::Postgresql => Some("public"),
            Database::Mysql => None,
        }
    }
}

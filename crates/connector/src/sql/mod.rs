//! Files for databases of one's own: the same head and parts as connector files, with statements in place of calls.
//! See `docs/sql.md`.
//!
//! The rule it keeps: a statement is about the rows of one person, and a count shows that none of them is left.

mod draft;
pub(crate) mod keys;
mod model;
mod own;
mod phrases;
mod proof;
mod read;
mod refuse;
mod show;
#[cfg(test)]
mod tests;
mod watch;

pub use draft::{Catalogue, Reference, TableInfo, draft};
pub use erasure_statement::{self as statement, Database};
pub use model::{Act, Change, Counts, Lost, Rows, SqlFile};
pub(crate) use read::file;
pub use show::show;
pub use watch::uncovered;

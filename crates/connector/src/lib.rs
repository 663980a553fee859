//! Connector files: a system described by data. See `docs/connectors.md`.
//!
//! The rule it keeps: a file that could report a person as erased without proof does not load.

mod branches;
mod document;
pub mod fault;
pub mod fill;
pub mod matching;
pub mod model;
mod pattern;
pub mod read;
mod refuse;
pub mod schema;
pub mod show;
pub mod sql;
pub mod stand_in;
#[cfg(test)]
mod tests;
pub mod understand;
pub mod vary;
mod words;

pub use fault::{Fault, Faults};
pub use matching::{Meaning, Reply, Truth, Values};
pub use model::Connector;
pub use read::{File, load, load_file};
pub use understand::{Compared, Taken, Understood};

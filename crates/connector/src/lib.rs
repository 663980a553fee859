//! Connector files: a system described by data. See `docs/connectors.md`.
//!
//! The rule it keeps: a file that could report a person as erased without proof does not load.

pub mod model;

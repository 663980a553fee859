//! Zeta Loyalty against stand-ins on loopback, and its deletion file against crashes.
//!
//! The rule it keeps: every test names a promise, and checks only requests and files.

#![allow(clippy::expect_used)]

#[path = "zeta/client.rs"]
mod client;
#[path = "zeta/files.rs"]
mod files;
#[path = "zeta/ledger.rs"]
mod ledger;
#[path = "zeta/parts.rs"]
mod parts;
#[path = "zeta/results.rs"]
mod results;

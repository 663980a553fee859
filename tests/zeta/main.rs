//! Zeta Loyalty against stand-ins on loopback, and its deletion file against crashes.
//!
//! The rule it keeps: every test names a promise, and checks only requests and files.

#![allow(clippy::expect_used)]

mod client;
mod files;
mod ledger;
mod parts;
mod results;

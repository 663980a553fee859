//! Jobs from their bytes to their events: the parser, the flows against model systems with faults and crashes at every
//! point, events and records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions it shares too"
)]
#![allow(clippy::print_stderr, reason = "an enumeration prints its number of cases")]

mod accepted;
mod approving;
mod cancel;
mod catalogue;
mod chance;
mod connectors;
mod cost;
mod ends;
mod enumerated;
mod events;
mod executor;
mod fuzzed;
mod identifiers;
mod identity;
mod jobs;
mod marks;
mod mutated;
mod plain;
mod plan;
mod promises;
mod published;
mod records;
mod refused;
mod scenario;
mod script;
mod times;
mod waits;
mod watch;
mod world;

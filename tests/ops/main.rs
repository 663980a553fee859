//! The ops API and its command line, with an engine, a store in memory and a broker in the test's process.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of a test binary: a failure is the test's"
)]

mod approvals;
mod bench;
mod closed;
mod command_line;
mod console;
mod database;
mod dead_letters;
mod decisions;
mod docs;
mod full_disk;
mod guard;
mod handing_over;
mod health;
mod http;
mod imports;
mod jobs;
mod listing;
mod metrics;
mod overview;
mod pauses;
mod privacy;
mod shop;
mod systems;

//! The operators' tools: the console in a real browser (Debian's chromium, headless) and files of members, with a
//! worker on a real broker and store, and the sandbox's stand-ins of the systems.
//!
//! The rule it keeps: a test of the console uses only texts, buttons and the keyboard, not the API behind them. With
//! `ERASURE_SCREENSHOTS=FOLDER` it also takes the documentation's pictures.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of a test binary: a failure is the test's"
)]

mod approvals;
mod broken_off;
mod browser;
mod cells;
mod connectors;
mod finding;
mod members;
mod page;
mod pages;
mod refused;
mod story;
mod worker;

//! Personal data goes only where it must. It is planted in jobs of every form, which real worker processes carry
//! through success, retries, failures, crashes, a panic and dead letters on a real broker. Then it is searched for in
//! the worker's whole output. Systems' replies too have personal data in every place, and none of it may appear.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod answers;
mod kept;
mod named;
mod persons;
mod planted;
mod search;
mod stage;
mod story;

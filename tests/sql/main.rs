//! Erasures in real databases: what is compared, changed, rolled back and proven, and what follows if an answer, the
//! connection or the server is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod acts;
mod checks;
mod generated;
mod lost;
mod mariadb;
mod person;
mod program;
mod run;
mod shop;

//! The senders of jobs, sealed proofs, ceilings, and messages on the broker after rotations of keys and long times.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../docs/validator.rs"]
mod validator;

mod accepted;
mod batch;
mod bench;
mod cancels;
mod ceilings;
mod config;
mod documented;
mod earlier;
mod guard;
mod hostile;
mod letters;
mod moved;
mod proofs;
mod rabbit;
mod refused;
mod rotation;
mod signing;

//! Who may order an erasure, how its proofs are sealed, how many may be ordered at once, and what
//! becomes of what lies on the broker when keys and years change.

// A test ends at the first thing that is not as it should be; clippy knows that of test functions only.
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

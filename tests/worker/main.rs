//! The real worker program with a real RabbitMQ and the stand-ins of the four systems, as publishers, consumers and
//! operators see it.
//!
//! The rule it keeps: a test waits for an event, a call or a dead letter, never for a time. At its end,
//! [`trial::Trial::end`] checks the promises for every job.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod approving;
mod batching;
mod cancelling;
mod checks;
mod control_stream;
mod crash;
mod erasing;
mod failing;
mod holding;
mod identity;
mod invalid;
mod parking;
mod repeats;
mod trial;

//! The worker from the outside: the real binary between a real RabbitMQ and the stand-ins of the
//! four systems, as publishers, consumers and operators see it.
//!
//! The rule it keeps: a test waits for what it is told (an event, a call, a dead letter), and when
//! it ends, [`trial::Trial::end`] checks everything that holds for every job.

// A test ends at the first thing that is not as it should be; clippy knows that of test functions only.
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

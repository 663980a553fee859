//! Attempts to lose a job, to report an erasure that was not, and to repeat what must not be
//! repeated: the real worker process against a real RabbitMQ and the stand-ins of the systems, with
//! everything between them killed, cut, filled up or damaged.

// A test ends at the first thing that is not as it should be; clippy knows that of test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod persons;

mod broker_trouble;
mod bytes;
mod crash_plan;
mod crash_points;
mod decisions;
mod drain;
mod fatal;
mod handover;
mod journal;
mod kills;
mod poison;
mod remembered;
mod silent;
mod stop;
mod store_trouble;
mod sync;
mod traces;
mod turns;

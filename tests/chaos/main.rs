//! Attempts to lose a job, to report a false erasure, and to repeat a call that must not be repeated: the real worker
//! process with a real RabbitMQ and the systems' stand-ins. Processes are killed, connections cut, disks filled or
//! damaged.

// A test fails by a panic. Clippy permits that in test functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod persons;

mod broker_trouble;
mod bytes;
mod crash_plan;
mod crash_points;
mod decisions;
mod diskless;
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

//! What the clients of Cleeng, EasyCMS and VitalSource put on the wire, and what they make of every
//! reply those systems are known to give, and of some that nobody gives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's leave for tests does not reach their helpers"
)]
#![allow(clippy::print_stderr, reason = "counts of what was tried")]

mod cleeng;
mod doors;
mod easycms;
mod evidence;
mod fuzzed;
mod noise;
mod remembered;
mod stub;
mod vitalsource;
mod wire;

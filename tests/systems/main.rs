//! The requests of the clients of Cleeng, EasyCMS, VitalSource and webhooks, and their results for every known reply
//! and for random ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions it shares too"
)]
#![allow(clippy::print_stderr, reason = "the numbers of cases")]

mod cleeng;
mod doors;
mod easycms;
mod evidence;
mod fuzzed;
mod noise;
mod remembered;
mod stub;
mod vitalsource;
mod webhook;
mod wire;

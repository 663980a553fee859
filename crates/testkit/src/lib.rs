//! What the tests share: a private RabbitMQ and an AMQP client for it, a rig (stand-ins, folder, configuration), a
//! worker as a process or in the test's own, jobs for people, certificates, a Python with libraries, times.
//!
//! The rule it keeps: everything that it starts ends with the test process, however that ends.

// A test ends at its first failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod amqp;
pub mod amqp1;
pub mod certificates;
pub mod cli;
pub mod collector;
pub mod config;
pub mod events;
pub mod forms;
pub mod inside;
pub mod mutate;
pub mod nobody;
pub mod people;
pub mod post;
pub mod python;
pub mod rabbit;
pub mod raw;
pub mod relay;
pub mod rig;
pub mod times;
pub mod worker;

use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take before a test gives up; none relies on it passing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits for `future`, or fails and says what it waited for.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The first of these texts that the bytes hold, in upper or lower case.
pub fn finds<'a>(texts: &'a [String], bytes: &[u8]) -> Option<&'a String> {
    let bytes = bytes.to_ascii_lowercase();
    texts.iter().find(|text| memchr::memmem::find(&bytes, text.to_ascii_lowercase().as_bytes()).is_some())
}

/// The folder that cargo builds into: a test program lies in `deps` below it.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The worker's program, as cargo built it beside the test.
pub fn program() -> PathBuf {
    built().join("erasure-worker")
}

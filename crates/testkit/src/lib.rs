//! Shared parts of the tests: a private RabbitMQ and an AMQP client for it, a rig (stand-ins, folder, configuration), a
//! worker as its own process or in the test's, jobs for people, certificates, a Python with libraries, times.
//!
//! The rule it keeps: every started process ends with the test process, also after a crash of the test.

// A test ends at its first failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod amqp;
pub mod amqp1;
pub mod certificates;
pub mod cli;
pub mod collector;
pub mod config;
pub mod connectors;
pub mod events;
pub mod forms;
pub mod inside;
pub mod mariadb;
pub mod mutate;
pub mod nobody;
pub mod people;
pub mod post;
pub mod postgres;
pub mod python;
pub mod rabbit;
pub mod raw;
mod receiver;
pub mod relay;
pub mod rig;
pub mod times;
pub mod worker;

use std::path::PathBuf;
use std::time::Duration;

/// The longest wait before a test fails. No test relies on its passing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits for `future`. The failure names `what`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The first of these texts that the bytes hold, in upper or lower case.
pub fn finds<'a>(texts: &'a [String], bytes: &[u8]) -> Option<&'a String> {
    let bytes = bytes.to_ascii_lowercase();
    texts.iter().find(|text| memchr::memmem::find(&bytes, text.to_ascii_lowercase().as_bytes()).is_some())
}

/// The folder of cargo's build. Test programs are in its `deps`.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The worker's program, as cargo built it beside the test.
pub fn program() -> PathBuf {
    built().join("erasure-worker")
}

/// The variables of this process's environment that a worker reads. No worker of a test may inherit them.
pub fn inherited() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_read = |name: &String| {
        ["ERASURE_", "OTEL_", "WATCHDOG_"].iter().any(|start| name.starts_with(start))
            || ["STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"].contains(&name.as_str())
    };
    names.filter(is_read).collect()
}

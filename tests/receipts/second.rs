//! The second verifier: `verify.py` with a public JOSE library, in its own Python environment.

use std::process::Output;

use testkit::python::python;

/// Runs the second verifier.
pub async fn verify(keys: &[&str], arguments: &[&str]) -> Output {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receipts/verify.py");
    tokio::process::Command::new(python).arg(script).args(keys).args(arguments).output().await.unwrap()
}

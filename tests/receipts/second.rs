//! The second verifier: `verify.py` with a public JOSE library, in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A Python with the library; made once, kept for the next run of the tests.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receipts/requirements.txt");
        let wanted = std::fs::read_to_string(requirements).unwrap();
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("second-verifier");
        let (python, done) = (home.join("bin/python"), home.join("installed"));
        if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().expect("Python 3 is installed");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", home.to_str().unwrap()]);
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]);
        std::fs::write(done, wanted).unwrap();
        python
    })
}

/// Runs the second verifier.
pub async fn verify(keys: &[&str], arguments: &[&str]) -> Output {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receipts/verify.py");
    tokio::process::Command::new(python).arg(script).args(keys).args(arguments).output().await.unwrap()
}

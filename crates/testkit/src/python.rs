//! A Python with independent JOSE libraries: they check our signatures and seals, and make some for us to check.
//!
//! The rule it keeps: the libraries are in a separate environment; the machine's Python stays unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python with the libraries of `requirements.txt`; made once, reused by later test runs.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/requirements.txt");
        let wanted = std::fs::read_to_string(requirements).unwrap();
        let home = crate::built().with_file_name("tmp").join("python");
        let (python, done) = (home.join("bin/python"), home.join("installed"));
        if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        let run = |program: &Path, arguments: &[&str]| {
            // By the machine's own clock, even in tests with a moved clock: certificates are checked.
            let mut command = Command::new(program);
            let output = command.args(arguments).env_remove("LD_PRELOAD").output().expect("Python 3 is installed");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", home.to_str().unwrap()]);
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]);
        std::fs::write(done, wanted).unwrap();
        python
    })
}

//! Commands whose output is not read to its end, as in `… | head -1`.

use std::process::{Command, Stdio};

const CONFIG: &str = "[worker]\nenvironment = \"sandbox\"\n\
    master_key = \"5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826\"\n\
    [amqp]\nurl = \"amqp://guest:guest@127.0.0.1:1/%2f\"\n\
    [systems.v]\nkind = \"vitalsource\"\nbase_url = \"http://127.0.0.1:1\"\napi_key = \"key\"\n";

/// Every command that needs no other process.
const COMMANDS: [&str; 11] = [
    "completions bash",
    "completions zsh",
    "completions fish",
    "man",
    "schema job",
    "schema event",
    "config check",
    "config check --json",
    "keys new",
    "keys public",
    "topology export",
];

#[test]
fn a_command_with_closed_output_ends_at_once_without_an_error_message() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("worker.toml"), CONFIG).unwrap();
    for line in COMMANDS {
        let run = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_erasure-worker"));
            command.args(line.split(' ')).args(["--config", "worker.toml"]).current_dir(folder.path());
            command.stdin(Stdio::null()).stdout(stdout).output().unwrap()
        };
        let read = run(Stdio::piped());
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success() && !read.stdout.is_empty(), "{line}: {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = run(Stdio::from(writer));
        let said = String::from_utf8_lossy(&unread.stderr);
        assert_eq!((unread.status.code(), &*said), (Some(1), ""), "{line}");
    }
}

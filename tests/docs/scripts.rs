//! The scripts: a wrong argument starts nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::root;

/// The programs that scripts start or need. Each stand-in records its call.
const TOOLS: [&str; 16] = [
    "cargo",
    "git",
    "apt-get",
    "sudo",
    "unshare",
    "rabbitmq-server",
    "strace",
    "chromium",
    "chromedriver",
    "promtool",
    "node",
    "openssl",
    "jq",
    "curl",
    "faketime",
    "timeout",
];

/// Every script, with arguments to put before an unknown option.
fn scripts() -> Vec<(String, &'static [&'static str])> {
    let found = std::fs::read_dir(root().join("scripts")).unwrap();
    let mut names: Vec<String> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let with = |name: String| {
        let before: &[&str] = match name.as_str() {
            "broker-check" => &["amqp://127.0.0.1:1/%2f"],
            "brokers" => &["get", "4.0"],
            "moved-clocks" => &["+45d"],
            "mutations" => &["no-sync"],
            "test" => &[],
            other => panic!("scripts/{other}: add its arguments here"),
        };
        (name, before)
    };
    names.into_iter().map(with).collect()
}

/// Runs a script with stand-ins of the tools. Returns the output and the calls.
fn run(script: &str, arguments: &[&str]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let called = folder.path().join("called");
    for tool in TOOLS {
        let path = folder.path().join(tool);
        std::fs::write(&path, format!("#!/bin/sh\necho \"{tool} $*\" >>'{}'\nexit 97\n", called.display())).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut command = Command::new(root().join("scripts").join(script));
    let output = command.args(arguments).env("PATH", path).current_dir(folder.path()).output().unwrap();
    (output, std::fs::read_to_string(called).unwrap_or_default())
}

#[test]
fn a_request_for_help_prints_a_scripts_usage_and_starts_nothing() {
    for (script, _) in scripts() {
        for option in ["--help", "-h"] {
            let (output, called) = run(&script, &[option]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!((output.status.code(), called.as_str()), (Some(0), ""), "scripts/{script} {option}");
            assert!(text.contains(&format!("scripts/{script} ")), "scripts/{script} {option}: {text}");
            assert!(output.stderr.is_empty(), "scripts/{script} {option}");
        }
    }
}

#[test]
fn a_script_with_an_unknown_argument_ends_before_it_starts_anything() {
    for (script, before) in scripts() {
        for wrong in ["--no-such-option", "-x", "no-such-name"] {
            for arguments in [vec![wrong], [before, &[wrong]].concat()] {
                let (output, called) = run(&script, &arguments);
                if script == "test" {
                    // `scripts/test` gives its arguments to cargo.
                    assert_eq!(called, format!("cargo test --locked {wrong}\n"), "scripts/test {wrong}");
                    continue;
                }
                let text = String::from_utf8_lossy(&output.stderr);
                let shown = arguments.join(" ");
                assert_eq!((output.status.code(), called.as_str()), (Some(2), ""), "scripts/{script} {shown}: {text}");
                assert!(text.contains("usage") || text.contains(&format!("scripts/{script} ")), "{shown}: {text}");
            }
        }
    }
    for wrong in [&["--broker"][..], &["--broker", "--test"], &["--broker", "5", "--test", "docs"]] {
        let (output, called) = run("test", wrong);
        assert_eq!((output.status.code(), called.as_str()), (Some(2), ""), "{wrong:?}");
    }
}

#[test]
fn every_mutation_is_listed_with_its_tests() {
    let (output, called) = run("mutations", &["--list"]);
    assert_eq!((output.status.code(), called.as_str()), (Some(0), ""));
    let text = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<&str> = text.lines().map(|line| line.split_once(": cargo test -").unwrap().0).collect();
    assert_eq!(listed, crate::mutations::made(&crate::page("scripts/mutations")));
}

//! The scripts: what they are asked by mistake starts nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::root;

/// What a script starts when it does its work, or needs to be there. Each notes that it was called.
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

/// Every script, each with arguments before an option that there is none of.
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
            other => panic!("scripts/{other}: say here how it is called"),
        };
        (name, before)
    };
    names.into_iter().map(with).collect()
}

/// Runs a script where the tools are stand-ins; returns also which of them it called.
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
fn every_script_prints_its_usage_when_asked_and_starts_nothing() {
    for (script, _) in scripts() {
        for option in ["--help", "-h"] {
            let (output, called) = run(&script, &[option]);
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!((output.status.code(), called.as_str()), (Some(0), ""), "scripts/{script} {option}");
            assert!(told.contains(&format!("scripts/{script} ")), "scripts/{script} {option}: {told}");
            assert!(output.stderr.is_empty(), "scripts/{script} {option}");
        }
    }
}

#[test]
fn an_option_or_a_name_that_a_script_does_not_know_ends_it_before_anything_is_started() {
    for (script, before) in scripts() {
        for wrong in ["--no-such-option", "-x", "no-such-name"] {
            for arguments in [vec![wrong], [before, &[wrong]].concat()] {
                let (output, called) = run(&script, &arguments);
                if script == "test" {
                    // What it is given is cargo's to judge.
                    assert_eq!(called, format!("cargo test --locked {wrong}\n"), "scripts/test {wrong}");
                    continue;
                }
                let told = String::from_utf8_lossy(&output.stderr);
                let shown = arguments.join(" ");
                assert_eq!((output.status.code(), called.as_str()), (Some(2), ""), "scripts/{script} {shown}: {told}");
                assert!(told.contains("usage") || told.contains(&format!("scripts/{script} ")), "{shown}: {told}");
            }
        }
    }
    for wrong in [&["--broker"][..], &["--broker", "--test"], &["--broker", "5", "--test", "docs"]] {
        let (output, called) = run("test", wrong);
        assert_eq!((output.status.code(), called.as_str()), (Some(2), ""), "{wrong:?}");
    }
}

#[test]
fn every_mutation_is_listed_with_the_tests_that_notice_it() {
    let (output, called) = run("mutations", &["--list"]);
    assert_eq!((output.status.code(), called.as_str()), (Some(0), ""));
    let told = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<&str> = told.lines().map(|line| line.split_once(": cargo test --").unwrap().0).collect();
    assert_eq!(listed, crate::mutations::made(&crate::page("scripts/mutations")));
}

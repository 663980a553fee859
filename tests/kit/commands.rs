//! `connector test` and `sandbox --connector` as a user calls them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn connectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("connectors")
}

fn worker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_erasure-worker")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_file_that_holds_ends_with_0_and_leaves_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let (file, page) = (connectors().join("sendgrid.toml"), folder.path().join("report.html"));
    let output = worker(&["connector", "test", "--seed", "7", "--report", text(&page), text(&file)]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for words in ["sendgrid (", "every promise holds", "0 false successes, 0 blind repeats", "not shown: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<h2>sendgrid</h2>") && page.contains("Seed 7."));
    // No other time than how long it took.
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("sendgrid: "));
}

#[test]
fn a_file_that_takes_a_proxys_page_for_an_absence_ends_with_1_and_the_story() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = std::fs::read_to_string(connectors().join("sendgrid-contacts.toml")).unwrap();
    let weak = shipped.replace("status = 404, empty = true", "status = 404");
    assert_ne!(weak, shipped);
    let file = folder.path().join("weak.toml");
    std::fs::write(&file, weak).unwrap();
    let output = worker(&["connector", "test", text(&file)]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = [
        "NOT SAFE TO USE",
        "VIOLATION: ends as erased although the vendor still has the person",
        "read.person -> HTTP 404, a proxy's 404",
        "trusted: read.person: any reply with 404 counts as gone",
    ];
    for words in words {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_file_that_does_not_load_ends_with_2_and_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.toml");
    std::fs::write(&file, "format = 1\nname = \"no\"\n").unwrap();
    let good = connectors().join("sendgrid.toml");
    for arguments in [
        vec!["connector", "test", text(&good), text(&file)],
        vec!["sandbox", "--listen", "127.0.0.1:0", "--connector", text(&file)],
    ] {
        let output = worker(&arguments);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("no.toml:1: "), "{arguments:?}");
    }
}

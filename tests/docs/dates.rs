//! No result hangs on the day it is looked at: a date that stands in the program, or in a job that a worker
//! with the machine's clock takes, was right on one day only.
//!
//! The rule it keeps: whatever is compared with a clock comes from that clock. What only shows the form of a
//! date is listed here, with the reason.

use std::path::{Path, PathBuf};

use crate::{files, read, root};

/// Places where a date is the form that is asked for, or bytes that nobody reads as a time.
const FORMS: [(&str, &str, &str); 10] = [
    ("crates/job/src/field.rs", "such as 2026-11-22T10:00:00Z", "a fault shows the form of a time"),
    ("src/ops/request.rs", "such as 2026-01-31T00:00:00Z", "a fault shows the form of a time"),
    ("src/config/regulations.rs", "such as [\\\"2026-12-25\\\"]", "a fault shows the form of a date"),
    ("src/cli/common.rs", "such as 2026-01-31T12:00:00Z", "a fault shows the form of a time"),
    ("src/cli/receipt.rs", "receipt export --from 2026-01-01", "help; a span of the past stays one"),
    ("src/cli/approvals.rs", "--as-of 2026-11-22T10:00:00Z", "help; copied from a list that was printed"),
    ("benches/throughput/load.rs", "2026-11-22T10:00:0", "an event of the right size; no worker takes it"),
    ("benches/throughput/remembered.rs", "2026-11-01T09:00:00.000Z", "a record of the right size; no worker opens it"),
    ("benches/throughput/remembered.rs", "2026-11-22T11:12:38.{}Z", "a record of the right size; no worker opens it"),
    ("scripts/mutations", "2026-11-22T09:00:00Z", "put in on purpose, to see that this test notices"),
];

/// Tests whose worker has the machine's clock.
const ON_THE_CLOCK: [&str; 7] = ["canary", "chaos", "operators", "receipts", "sandbox", "soak", "worker"];

/// Dates in their tests that are right on any day: what lies before now, or is refused for its form.
const RIGHT_ON_ANY_DAY: [(&str, &str); 8] = [
    ("tests/operators/approvals.rs", "\"confirmed_at\": \"2026-01-02T03:04:05Z\""),
    ("tests/operators/finding.rs", "\"confirmed_at\": \"2026-01-02T03:04:05Z\""),
    ("tests/operators/members.rs", "--confirmed-at 2026-11-22\""),
    ("tests/operators/members.rs", "2001-01-0"),
    ("tests/receipts/packs.rs", "2020-0"),
    ("tests/receipts/tampering.rs", "let time: Value = \"2026-01-01T00:00:00.000Z\""),
    ("tests/sandbox/vitalsource.rs", "2026-01-01 00:00:00 UTC"),
    ("tests/worker/invalid.rs", "\"a time without an offset\""),
];

/// True where a year and a month stand in a line: `2026-11`, and what follows.
fn has_date(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.windows(7).any(|part| {
        let digits = |range: std::ops::Range<usize>| part[range].iter().all(u8::is_ascii_digit);
        (part.starts_with(b"20") || part.starts_with(b"19"))
            && digits(2..4)
            && part[4] == b'-'
            && matches!(part[5], b'0' | b'1')
            && digits(6..7)
    }) || line.contains("civil::date(")
}

/// The lines of a file with a date, but for comments and the unit tests at its end; counted from 1.
fn dated(text: &str) -> Vec<(usize, &str)> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//") && has_date(line)).collect()
}

fn testkit() -> PathBuf {
    root().join("crates/testkit/src")
}

fn named(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn no_date_stands_in_the_program_or_its_benches_and_scripts() {
    let (mut looked_at, mut used) = (0, [false; FORMS.len()]);
    let program = ["src", "crates", "benches"].into_iter().flat_map(|folder| files(&root().join(folder), "rs"));
    let console = files(&root().join("src"), "js");
    let deployed = ["yml", "yaml", "toml", "json"].into_iter().flat_map(|kind| files(&root().join("deploy"), kind));
    let scripts = std::fs::read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let mut wrong = Vec::new();
    for path in program.chain(console).chain(deployed).chain(scripts.filter(|path| path.is_file())) {
        let name = named(&path);
        // What tests alone compile; their clock is given.
        if name.ends_with("/tests.rs") || name == "src/engine/stage.rs" {
            continue;
        }
        looked_at += 1;
        let text = read(&path);
        for (number, line) in dated(&text) {
            match FORMS.iter().position(|(file, form, _)| *file == name && line.contains(form)) {
                Some(form) => used[form] = true,
                None => wrong.push(format!("{name}:{number}: {}", line.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "right on one day only; take the clock's time:\n{}", wrong.join("\n"));
    let unused: Vec<_> = FORMS.iter().zip(used).filter(|(_, used)| !used).map(|(form, _)| form).collect();
    assert!(unused.is_empty(), "no longer there: {unused:?}");
    assert!(looked_at > 150, "only {looked_at} files were looked at");
}

#[test]
fn no_job_of_a_test_on_the_machines_clock_has_a_date() {
    let mut wrong = Vec::new();
    for folder in ON_THE_CLOCK.map(|folder| root().join("tests").join(folder)).into_iter().chain([testkit()]) {
        for path in files(&folder, "rs") {
            let (name, text) = (named(&path), read(&path));
            for (number, line) in dated(&text) {
                let is_right = RIGHT_ON_ANY_DAY.iter().any(|(file, part)| *file == name && line.contains(part));
                if !is_right {
                    wrong.push(format!("{name}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "take the time from crates/testkit/src/times.rs:\n{}", wrong.join("\n"));
}

#[test]
fn a_date_is_found_in_every_form_that_a_job_or_a_file_has_it() {
    for line in [
        "\"requested_at\": \"2026-11-01T09:00:00Z\"",
        "redeemed_at: Some(\"2026-11-15 00:00:00 UTC\".to_owned()),",
        "--from 1999-01-01",
        "jiff::civil::date(2026, 1, 1)",
    ] {
        assert_eq!(dated(line).len(), 1, "{line}");
    }
    for line in ["// On 2026-11-22 it was.", "version 20.1", "port 2026", "0.2.0-12", "#[cfg(test)]\n\"2026-11-01\""] {
        assert_eq!(dated(line), [], "{line}");
    }
}

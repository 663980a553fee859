//! No result depends on the day: a fixed date in the program, or in a job for a worker with the machine's clock, is
//! right on one day only.
//!
//! The rule it keeps: every time that is compared with a clock comes from that clock. Dates that only show a form are
//! listed here, with reasons.

use std::path::{Path, PathBuf};

use crate::{files, read, root};

/// Places where a date shows a form, or is never read as a time.
const FORMS: [(&str, &str, &str); 10] = [
    ("crates/job/src/field.rs", "such as 2026-11-22T10:00:00Z", "an error shows the form of a time"),
    ("src/ops/request.rs", "such as 2026-01-31T00:00:00Z", "an error shows the form of a time"),
    ("src/config/regulations.rs", "such as [\\\"2026-12-25\\\"]", "an error shows the form of a date"),
    ("src/cli/common.rs", "such as 2026-01-31T12:00:00Z", "an error shows the form of a time"),
    ("src/cli/receipt.rs", "receipt export --from 2026-01-01", "help; a past period stays past"),
    ("src/cli/approvals.rs", "--as-of 2026-11-22T10:00:00Z", "help; copied from a printed list"),
    ("benches/throughput/load.rs", "2026-11-22T10:00:0", "an event of the right size; no worker reads it"),
    ("benches/throughput/remembered.rs", "2026-11-01T09:00:00.000Z", "a record of the right size; no worker reads it"),
    ("benches/throughput/remembered.rs", "2026-11-22T11:12:38.{}Z", "a record of the right size; no worker reads it"),
    ("scripts/mutations", "2026-11-22T09:00:00Z", "a mutation that this test must notice"),
];

/// Suites whose worker has the machine's clock.
const ON_THE_CLOCK: [&str; 7] = ["canary", "chaos", "operators", "receipts", "sandbox", "soak", "worker"];

/// Dates in these suites that are right on any day: past times, and times that are refused for their form.
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

/// True if a line contains a year and a month: `2026-11`.
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

/// The lines with a date, counted from 1, without comments and the unit tests at the end.
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
fn the_program_its_benches_and_scripts_contain_no_date() {
    let (mut read_files, mut used) = (0, [false; FORMS.len()]);
    let program = ["src", "crates", "benches"].into_iter().flat_map(|folder| files(&root().join(folder), "rs"));
    let console = files(&root().join("src"), "js");
    let deployed = ["yml", "yaml", "toml", "json"].into_iter().flat_map(|kind| files(&root().join("deploy"), kind));
    let scripts = std::fs::read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let mut wrong = Vec::new();
    for path in program.chain(console).chain(deployed).chain(scripts.filter(|path| path.is_file())) {
        let name = named(&path);
        // Compiled for tests only, which have their own clock.
        if name.ends_with("/tests.rs") || name == "src/engine/stage.rs" {
            continue;
        }
        read_files += 1;
        let text = read(&path);
        for (number, line) in dated(&text) {
            match FORMS.iter().position(|(file, form, _)| *file == name && line.contains(form)) {
                Some(form) => used[form] = true,
                None => wrong.push(format!("{name}:{number}: {}", line.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "right on one day only; use the clock's time:\n{}", wrong.join("\n"));
    let unused: Vec<_> = FORMS.iter().zip(used).filter(|(_, used)| !used).map(|(form, _)| form).collect();
    assert!(unused.is_empty(), "unused exceptions: {unused:?}");
    assert!(read_files > 150, "only {read_files} files were read");
}

#[test]
fn no_test_on_the_machines_clock_has_a_job_with_a_date() {
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
    assert!(wrong.is_empty(), "use crates/testkit/src/times.rs:\n{}", wrong.join("\n"));
}

#[test]
fn the_search_for_dates_finds_every_form_of_a_date() {
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

//! The runbook's table of idle states against the program's log lines, `/readyz` and metrics.

use std::collections::BTreeSet;

use crate::{files, page, read, root};

/// The rows: the state, and the other cells.
fn rows() -> Vec<(String, Vec<String>)> {
    let page = page("docs/runbook.md");
    let section = page.split("\n## When nothing is done\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).skip(1);
    rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.collect())
    })
    .collect()
}

/// The texts in backticks.
fn cited(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The sources; a string over several lines is joined.
fn sources() -> String {
    let all: String =
        ["src", "crates"].iter().flat_map(|folder| files(&root().join(folder), "rs")).map(|path| read(&path)).collect();
    let mut parts = all.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn every_idle_state_has_a_row_in_the_runbook_with_its_log_lines_and_metrics() {
    let (rows, sources, metrics, runbook) = (rows(), sources(), page("docs/metrics.md"), page("docs/runbook.md"));
    let health = page("src/ops/health.rs");
    let degraded = health.split("const WHATS").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
    let degraded = degraded.split('"').skip(1).step_by(2);
    let parts = health.split("\"part\": \"").skip(1).filter_map(|rest| rest.split('"').next());
    let said: BTreeSet<&str> = degraded.chain(parts).chain(["standby"]).collect();
    assert!(said.len() >= 19, "{said:?}");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|(_, cells)| cited(&cells[1])).collect();
    assert_eq!(documented, said, "docs/runbook.md against /readyz");
    for (state, cells) in &rows {
        let [log, _, metric, section] = &cells[..] else { panic!("{state}: {cells:?}") };
        assert!(cited(log).count() > 0, "{state}: no line of the log");
        for line in cited(log) {
            assert!(sources.contains(line), "{state}: nothing logs {line:?}");
        }
        for name in cited(metric) {
            assert!(metrics.contains(&format!("| `{name}` |")), "{state}: {name}");
        }
        let link = section.split("](").nth(1).and_then(|rest| rest.strip_suffix(')')).unwrap();
        let heading = link.trim_start_matches('#').replace('-', " ");
        let is_there = runbook.lines().any(|line| {
            line.strip_prefix("## ").is_some_and(|found| found.to_lowercase().replace([':', ','], "") == heading)
        });
        assert!(is_there || link.ends_with(".md"), "{state}: {link}");
    }
}

//! The documentation and the program agree.

use std::collections::{BTreeMap, BTreeSet};

use erasure_worker::engine::operators::JobStatus;
use erasure_worker::ops::problem::Kind;

use crate::metrics::{busy, scrape};

fn read(name: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The cells of all tables, without code marks.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

#[tokio::test]
async fn the_table_of_metrics_and_the_metrics_are_the_same() {
    let bench = busy().await;
    let mut served = BTreeMap::new();
    for (name, metric) in scrape(&bench).await {
        let suffix = match metric.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: BTreeSet<_> = metric.samples.iter().flat_map(|(_, labels, _)| labels.keys().cloned()).collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
        served.insert(format!("{name}{suffix}"), (metric.kind, metric.unit, labels));
    }
    let text = read("metrics.md");
    let documented: BTreeMap<_, _> = rows(&text)
        .filter(|row| row[0].starts_with("erasure_"))
        .map(|row| {
            assert!(row.len() == 5 && !row[4].is_empty(), "{row:?}");
            (row[0].clone(), (row[1].clone(), row[2].clone(), row[3].clone()))
        })
        .collect();
    assert_eq!(documented, served);
}

#[test]
fn every_kind_of_problem_and_every_state_of_a_job_is_documented() {
    let text = read("ops-api.md");
    let documented: BTreeMap<_, _> =
        rows(&text).filter(|row| row[0].parse::<u16>().is_ok()).map(|row| (row[1].clone(), row[0].clone())).collect();
    let made: BTreeMap<_, _> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let (status, word, _) = kind.parts();
            (word.to_owned(), status.as_u16().to_string())
        })
        .collect();
    assert_eq!(documented, made);
    let states: BTreeSet<_> = rows(&text).filter(|row| row.len() == 2).map(|row| row[0].clone()).collect();
    for status in JobStatus::ALL {
        assert!(states.contains(status.as_str()), "{}", status.as_str());
    }
}

//! Every file in `connectors/`, and one with what none of them has.

use std::path::PathBuf;
use std::sync::Arc;

use erasure_worker::kit::{Options, page, test};

use crate::{names, sample, tried};

/// The whole of it is `erasure-worker connector test connectors/*.toml`.
#[tokio::test]
async fn every_shipped_file_keeps_every_promise() {
    let mut broken = Vec::new();
    for name in names() {
        let report = tried(&name, sample()).await;
        let counts = &report.counts;
        assert!(counts.scenarios >= 8 && counts.faults >= 20 && counts.deaths >= 40, "{report}");
        assert!(counts.replies >= 12 && counts.files >= 15 && counts.searched >= 50, "{report}");
        assert!(report.gaps.is_empty(), "{report}");
        if !report.holds() {
            broken.push(report.to_string());
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_report_and_a_page_of_its_own() {
    let (one, two) = (tried("mixpanel", sample()).await, tried("mixpanel", sample()).await);
    assert_eq!(one.to_string(), two.to_string());
    let other = tried("mixpanel", Options { seed: 7, ..sample() }).await;
    assert_ne!(one.counts.calls, other.counts.calls, "the seed changes nothing");
    let mut one = one;
    one.name = "<script>alert(1)</script>".to_owned();
    let html = page(&[one, two]);
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
    for foreign in ["<script", "src=", "href=", "http:", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("every promise holds"));
}

/// A list with an act for each member, a proof, and a task: no shipped file has all of them.
#[tokio::test]
async fn a_file_with_a_list_and_a_proof_keeps_every_promise() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/connector/src/tests/base.toml");
    let text = std::fs::read_to_string(path).unwrap().replace("password", "customer_password");
    let file = Arc::new(erasure_connector::load(text.as_bytes()).map_err(|faults| faults.to_string()).unwrap());
    let report = test(&file, &text, sample()).await;
    assert!(report.violations.is_empty() && report.gaps.is_empty(), "{report}");
}

/// A file is tried in whole within a minute, also one with many steps: the runs are bounded by its calls.
#[tokio::test]
async fn a_whole_trial_runs_each_fault_at_each_call_and_a_death_at_each_point() {
    let report = tried("braze", Options { by_chance: 10, ..Options::default() }).await;
    assert!(report.holds(), "{report}");
    let sampled = tried("braze", sample()).await;
    assert_eq!(report.counts.enumerated, report.counts.deaths - 10 + report.counts.replies - 14);
    assert!(report.counts.deaths > 5 * sampled.counts.deaths, "{report}\n{sampled}");
    assert_eq!(report.counts.faults, sampled.counts.faults);
}

//! The metrics: well-formed, true, and without personal data in labels.

use std::collections::{BTreeMap, BTreeSet};

use crate::bench::{Bench, bench, id, shop_job};
use crate::http::{get, post};

/// A metric as scraped: its type, unit, and samples by labels.
#[derive(Debug, Default)]
pub struct Metric {
    pub kind: String,
    pub unit: String,
    pub help: String,
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads OpenMetrics text strictly: every line is a known comment or a sample of the metric above.
pub fn parse(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    let mut current = String::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut parts = comment.splitn(3, ' ');
            let (what, name, rest) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or(""));
            current = name.to_owned();
            let metric = metrics.entry(current.clone()).or_default();
            match what {
                "HELP" => metric.help = rest.to_owned(),
                "TYPE" => metric.kind = rest.to_owned(),
                "UNIT" => metric.unit = rest.to_owned(),
                other => panic!("{other}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        let labels: BTreeMap<_, _> = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(|label| {
                let (key, value) = label.split_once('=').unwrap();
                (key.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
            })
            .collect();
        let metric = metrics.get_mut(&current).unwrap();
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{name} below {current}"));
        assert_eq!(
            suffix,
            match metric.kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            },
            "{line}"
        );
        metric.samples.push((name.to_owned(), labels, value.parse().unwrap()));
    }
    metrics
}

pub async fn scrape(bench: &Bench) -> BTreeMap<String, Metric> {
    let answer = get(bench.addr, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    parse(&answer.text)
}

fn value(metrics: &BTreeMap<String, Metric>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let all = metrics.values().flat_map(|metric| &metric.samples);
    all.clone().find(|(sample, of, _)| sample == name && *of == labels).map(|(.., value)| *value)
}

/// A worker with at least one case of each counted kind.
pub async fn busy() -> Bench {
    let bench = bench().await;
    *bench.broker.depths.lock().unwrap() = [("jobs".to_owned(), 7), ("events.unrouted".to_owned(), 2)].into();
    bench.job(1, "ann", "completed").await;
    bench.job(2, "rejected", "failed").await;
    bench.send(&shop_job(&id(3), "visible"));
    bench.until(&format!("/v1/jobs/acme/{}", id(3)), |job| job["state"] == "waiting").await;
    bench
}

#[tokio::test]
async fn the_metrics_count_every_kind() {
    let bench = busy().await;
    let metrics = scrape(&bench).await;
    let is = |name: &str, labels: &[(&str, &str)]| value(&metrics, name, labels);
    assert_eq!(is("erasure_jobs_finished_total", &[("outcome", "completed")]), Some(1.0));
    assert_eq!(is("erasure_jobs_finished_total", &[("outcome", "failed")]), Some(1.0));
    assert_eq!(is("erasure_jobs_finished_total", &[("outcome", "rejected")]), Some(0.0));
    assert_eq!(is("erasure_system_requests_total", &[("system", "shop"), ("result", "rejected")]), Some(2.0));
    assert_eq!(is("erasure_system_requests_total", &[("system", "shop"), ("result", "ok")]), Some(7.0));
    assert_eq!(is("erasure_jobs_waiting", &[("reason", "pending")]), Some(1.0));
    assert_eq!(is("erasure_jobs_waiting", &[("reason", "input")]), Some(0.0));
    let job = get(bench.addr, &format!("/v1/jobs/acme/{}", id(3))).await.json();
    let since: jiff::Timestamp = job["waiting"]["since"].as_str().unwrap().parse().unwrap();
    let oldest = |reason| is("erasure_oldest_wait_timestamp_seconds", &[("reason", reason)]);
    assert!((oldest("pending").unwrap() - since.as_duration().as_secs_f64()).abs() < 0.001);
    assert!(oldest("held").is_none() && oldest("input").is_none(), "no job waits for these");
    assert_eq!(is("erasure_long_waits_told_total", &[("reason", "pending")]), Some(0.0));
    assert_eq!(is("erasure_jobs_open", &[]), Some(1.0));
    assert_eq!(is("erasure_dead_letters", &[]), Some(1.0));
    assert_eq!(is("erasure_events_unrouted", &[]), Some(2.0));
    assert_eq!(is("erasure_jobs_queued", &[]), Some(7.0));
    assert_eq!(is("erasure_deliveries_total", &[]), Some(3.0));
    assert_eq!(is("erasure_oldest_due_timestamp_seconds", &[]), Some(1_770_001_445.0));
    assert_eq!(is("erasure_system_held", &[("system", "shop")]), Some(0.0));
    assert_eq!(is("erasure_broker_up", &[]), Some(1.0));
    assert_eq!(is("erasure_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert!(is("erasure_store_batches_total", &[]).unwrap() > 5.0);

    bench.send(&shop_job(&id(4), "held"));
    bench.until("/v1/systems", |all| all["systems"][1]["held"] == true).await;
    let metrics = scrape(&bench).await;
    assert_eq!(value(&metrics, "erasure_system_held", &[("system", "shop")]), Some(1.0));
    assert_eq!(value(&metrics, "erasure_degraded", &[("what", "system_held")]), Some(1.0));
    post(bench.addr, "/v1/systems/shop/release", &serde_json::json!({})).await;
    let metrics = scrape(&bench).await;
    assert_eq!(value(&metrics, "erasure_system_held", &[("system", "shop")]), Some(0.0));
    assert_eq!(value(&metrics, "erasure_degraded", &[("what", "system_held")]), Some(0.0));
}

#[tokio::test]
async fn previews_that_wait_for_an_approval_are_counted_until_the_decision() {
    let bench = bench().await;
    let figures = async |bench: &Bench| {
        let metrics = scrape(bench).await;
        let is = |name: &str| value(&metrics, name, &[]);
        (is("erasure_approvals_waiting"), is("erasure_oldest_approval_timestamp_seconds"))
    };
    assert_eq!(figures(&bench).await, (Some(0.0), None));
    for number in [1, 2] {
        let mut job = shop_job(&id(number), "ann");
        job["approval"] = serde_json::json!({ "requested_by": "ann" });
        bench.send(&job);
        bench.until(&format!("/v1/approvals/acme/{}", id(number)), |one| one["preview"].is_string()).await;
    }
    let path = |number: u128| format!("/v1/approvals/acme/{}", id(number));
    let asked = async |number: u128| {
        let one = get(bench.addr, &path(number)).await.json();
        let at: jiff::Timestamp = one["asked_at"].as_str().unwrap().parse().unwrap();
        (at.as_duration().as_secs_f64(), one["preview"].clone())
    };
    let ((first, preview), (second, _)) = (asked(1).await, asked(2).await);
    let (count, oldest) = figures(&bench).await;
    assert_eq!((count, oldest), (Some(2.0), Some(first.min(second))));
    let body = serde_json::json!({ "preview": preview, "by": "bob" });
    assert_eq!(post(bench.addr, &format!("{}/approve", path(1)), &body).await.status, 200);
    assert_eq!(figures(&bench).await, (Some(1.0), Some(second)));
}

#[tokio::test]
async fn unknown_values_are_omitted() {
    let bench = bench().await;
    let metrics = scrape(&bench).await;
    assert_eq!(value(&metrics, "erasure_jobs_queued", &[]), None);
    assert_eq!(value(&metrics, "erasure_oldest_due_timestamp_seconds", &[]), None);
    assert_eq!(value(&metrics, "erasure_jobs_open", &[]), Some(0.0));
}

#[tokio::test]
async fn no_label_names_a_tenant_a_job_or_a_person_and_every_name_has_its_base_unit() {
    let bench = busy().await;
    let metrics = scrape(&bench).await;
    let mut labels = BTreeSet::new();
    for (name, metric) in &metrics {
        assert!(name.starts_with("erasure_") && !metric.help.is_empty(), "{name}");
        assert!(metric.unit.is_empty() || name.ends_with(&format!("_{}", metric.unit)), "{name}");
        assert!(["", "seconds", "bytes"].contains(&metric.unit.as_str()), "{name}");
        for (_, of, _) in &metric.samples {
            labels.extend(of.keys().cloned());
            assert!(of.values().all(|value| value != "acme" && !value.contains("0000-")), "{name}");
        }
    }
    let expected =
        ["cause", "outcome", "queue", "reason", "result", "scope", "system", "version", "what"].map(str::to_owned);
    assert_eq!(labels, BTreeSet::from(expected));
}

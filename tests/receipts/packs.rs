//! The audit pack: exported over the ops API, checked offline, and altered.

use erasure_worker::app;
use erasure_worker::broker::spool::{Events, Source, SpoolBroker, SpoolConfig};
use serde_json::{Value, json};
use testkit::inside::Desk;

use crate::batch::{Batch, faults, normalised, program};

/// The ops API of a worker on a batch's store.
async fn desk(batch: &Batch) -> Desk {
    let config = batch.rig.config("state");
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let spool = SpoolBroker::open(Source::jobs(Vec::new()), Events::Channel(events), SpoolConfig::default()).unwrap();
    let store = app::store(&config).await.unwrap();
    let worker = app::Worker::with_store(&config, spool, store).unwrap();
    Desk::open(&worker.engine, Some("a token")).await
}

async fn export(desk: &Desk, arguments: &[&str]) -> std::process::Output {
    let mut command = program(&["receipt", "export", "--url", &desk.url()]);
    command.args(arguments).env("ERASURE_OPS_TOKEN", "a token").output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_pack_is_valid_offline_and_every_change_in_it_is_detected() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(0..14);
    batch.run(&jobs).await;
    let desk = desk(&batch).await;
    let answer = export(&desk, &[]).await;
    assert!(answer.status.success(), "{answer:?}");
    let pack: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let report = batch.verify_texts(&[pack.to_string()], &[]).await;
    assert_eq!((&report["valid"], &report["receipts"]), (&json!(true), &json!(14)), "{report:#}");
    // The pack agrees with the events.
    let together = [pack.to_string(), batch.final_events().join("\n")];
    assert_eq!(batch.verify_texts(&together, &[]).await["receipts"], 14);

    let log = pack["files"]["log.csv"].as_str().unwrap();
    assert_eq!(log.lines().count(), 15);
    assert!(jobs.iter().all(|job| log.contains(&normalised(&job["requested_at"]))), "{log}");
    assert!(pack["files"]["targets.csv"].as_str().unwrap().contains("offer_responses=kept_by_platform"));

    let alter = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut pack = pack.clone();
        let text = pack["files"][name].as_str().unwrap();
        pack["files"][name] = change(text).into();
        pack.to_string()
    };
    let kinds = |report: &Value| faults(report).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    let line = |text: &str, wanted: usize, with: Option<&str>| {
        let lines = text.lines().enumerate().filter_map(|(index, line)| match (index == wanted, with) {
            (true, None) => None,
            (true, Some(with)) => Some(with.to_owned()),
            (false, _) => Some(line.to_owned()),
        });
        lines.map(|line| line + "\n").collect::<String>()
    };
    let report = batch.verify_texts(&[alter("log.csv", &|text| text.replacen("failed", "completed", 1))], &[]).await;
    assert_eq!(kinds(&report), ["altered", "contradicted"]);
    let report =
        batch.verify_texts(&[alter("targets.csv", &|text| text.replace("offer_responses", "nothing"))], &[]).await;
    assert_eq!(kinds(&report), ["altered", "contradicted"]);
    let report =
        batch.verify_texts(&[alter("manifest.json", &|text| text.replacen("worker-0", "worker-1", 1))], &[]).await;
    assert_eq!(kinds(&report), ["altered"]);
    let report = batch.verify_texts(&[alter("keys.json", &|text| text.replacen("sig", "enc", 1))], &[]).await;
    assert_eq!(kinds(&report), ["altered"]);
    for cut in [0, 6, 13] {
        let report = batch.verify_texts(&[alter("receipts.jws", &|text| line(text, cut, None))], &[]).await;
        assert!(faults(&report).contains(&("missing".to_owned(), Some(cut as u64 + 1))), "{report:#}");
    }
    let swapped = alter("receipts.jws", &|text| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.swap(3, 4);
        lines.join("\n") + "\n"
    });
    let report = batch.verify_texts(&[swapped], &[]).await;
    assert!(faults(&report).contains(&("out_of_order".to_owned(), Some(4))), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_can_be_a_folder_and_cover_a_time_span() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(20..24);
    batch.run(&jobs).await;
    let desk = desk(&batch).await;
    let folder = batch.path("audit");
    let arguments = ["--from", "2020-01-01", "--to", "2999-01-01", "--out", folder.to_str().unwrap()];
    let answer = export(&desk, &arguments).await;
    assert!(answer.status.success(), "{answer:?}");
    let keys = batch.path("jwks.json");
    let check = |folder: &std::path::Path| {
        let mut command = program(&["receipt", "verify", "--keys", keys.to_str().unwrap()]);
        command.arg(folder);
        async move { command.output().await.unwrap() }
    };
    let checked = check(&folder).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(String::from_utf8(checked.stdout).unwrap().contains("valid: 4 receipts, 0 faults"));
    assert_eq!(export(&desk, &arguments).await.status.code(), Some(2), "a folder is not overwritten");
    let log = folder.join("log.csv");
    let requested_at = normalised(&jobs[0]["requested_at"]);
    std::fs::write(&log, std::fs::read_to_string(&log).unwrap().replace(&requested_at, "2020-02-29T10:00:00.000Z"))
        .unwrap();
    assert_eq!(check(&folder).await.status.code(), Some(1));

    let empty = export(&desk, &["--to", "2020-01-01"]).await;
    let report = batch.verify_texts(&[String::from_utf8(empty.stdout).unwrap()], &[]).await;
    assert_eq!((&report["valid"], &report["receipts"]), (&json!(true), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_are_public_and_the_receipts_need_the_token() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(30..31)).await;
    let desk = desk(&batch).await;
    let get = async |path: &str| reqwest::get(format!("{}{path}", desk.url())).await.unwrap();
    app::install_tls();
    let keys = get("/.well-known/jwks.json").await;
    assert_eq!(keys.status(), 200);
    assert_eq!(keys.headers()["content-type"], "application/jwk-set+json");
    let mut published: Value = serde_json::from_slice(&std::fs::read(batch.path("jwks.json")).unwrap()).unwrap();
    // The key for sealed proofs verifies nothing.
    published["keys"].as_array_mut().unwrap().retain(|key| key["use"] == "sig");
    assert_eq!(keys.json::<Value>().await.unwrap(), published);
    assert_eq!(get("/v1/receipts").await.status(), 401);
}

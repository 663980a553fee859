//! The commands that query a running worker.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::cli::Exit;
use erasure_worker::config::Surroundings;
use erasure_worker::engine::Settings;
use secrecy::SecretString;
use serde_json::Value;
use testkit::cli::{At, Said, run, words};

use crate::bench::{Bench, Setup, bench, bench_with, id, shop_job};
use crate::imports::{Desk, bench_with_desk};

async fn run_at(url: &str, line: &str, surroundings: &Surroundings) -> Said {
    run(words(&format!("{line} --url {url}")), At { surroundings: surroundings.clone(), ..At::default() }).await
}

pub async fn say(bench: &Bench, line: &str) -> Said {
    run_at(&format!("http://{}", bench.addr), line, &Surroundings::default()).await
}

#[tokio::test]
async fn jobs_are_listed_shown_and_cancelled() {
    let bench = bench().await;
    bench.job(1, "ann", "completed").await;
    bench.job(2, "rejected", "failed").await;
    bench.send(&shop_job(&id(3), "visible"));
    bench.until(&format!("/v1/jobs/acme/{}", id(3)), |job| job["state"] == "waiting").await;

    let said = say(&bench, "jobs list").await;
    assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""));
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("JOB"), "{}", said.out);
    assert!(lines[3].contains("pending until"), "{}", said.out);

    let said = say(&bench, "jobs list --limit 1 --json").await;
    let page: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 1);
    let said = say(&bench, &format!("jobs list --after {} --json", page["next"].as_str().unwrap())).await;
    let rest: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((rest["jobs"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
    let said = say(&bench, "jobs list --limit 2").await;
    assert!(said.err.contains("--after "), "{}", said.err);

    let said = say(&bench, &format!("jobs show acme/{}", id(2))).await;
    assert_eq!(said.exit, Exit::Done);
    for part in [
        "failed",
        "last error: ERS-0015",
        "docs/runbook.md#ers-0015-request_rejected",
        "delete_account",
        "0 shop",
        "rejected",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let said = say(&bench, &format!("jobs show acme/{}", id(3))).await;
    for part in ["waits: pending until ", "since: ", "system: shop", "then: read_back", "gives_up_as: not_gone"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let said = say(&bench, &format!("jobs show acme/{} --json", id(2))).await;
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap()["state"], "failed");

    let said = say(&bench, &format!("jobs cancel acme/{}", id(3))).await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Failed, ""));
    assert!(said.err.contains("irreversible step") && said.err.contains("409"), "{}", said.err);
    let said = say(&bench, &format!("jobs cancel acme/{}", id(9))).await;
    assert!(said.exit == Exit::Done && said.out.contains("on its arrival"), "{}", said.out);
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let bench = bench().await;
    for number in 1..=3 {
        let job_id = bench.job(number, "rejected", "failed").await;
        bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    }
    let said = say(&bench, "dead-letters list --system shop --limit 2").await;
    assert_eq!((said.exit, said.out.lines().count()), (Exit::Done, 3));
    assert!(said.out.contains("ERS-0015") && said.err.contains("there are more"), "{}{}", said.out, said.err);
    let said = say(&bench, &format!("dead-letters show acme/{}", id(1))).await;
    assert!(said.exit == Exit::Done && said.out.contains("retry: operator"), "{}", said.out);
    let said = say(&bench, &format!("dead-letters show acme/{}", id(9))).await;
    assert_eq!(said.exit, Exit::Failed);

    let said = say(&bench, &format!("dead-letters discard --job-id {} --reason done --by operations", id(1))).await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "1 discarded\n"));
    *bench.shop.mended.lock().unwrap() = true;
    let said = say(&bench, "dead-letters replay --code ERS-0015 --limit 1").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "1 replayed\n"));
    assert!(said.err.contains("there are more"), "{}", said.err);
    let said = say(&bench, "dead-letters replay --all --json").await;
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap()["replayed"], 1);
    bench.broker.event(&id(2), "completed").await;
    bench.broker.event(&id(3), "completed").await;
}

#[tokio::test]
async fn dead_letters_are_replayed_at_a_rate_and_by_age_and_each_once() {
    // Several fail at once: they wait in hand until one succeeds.
    let engine = |settings: &mut Settings| settings.limits.max_interval = Duration::from_millis(10);
    let bench = bench_with(Setup { engine, ..Setup::default() }).await;
    for number in 1..=4 {
        let job_id = bench.job(number, "rejected", "failed").await;
        bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    }
    let said = say(&bench, "dead-letters replay --all --older-than 1h").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "0 replayed\n"));
    let said = say(&bench, "dead-letters list --newer-than 1h").await;
    assert_eq!(said.out.lines().count(), 5, "{}", said.out);
    // They fail again and become new dead letters. The same command does not replay these.
    let said = say(&bench, "dead-letters replay --all --rate 60000").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "4 replayed\n"));
    for number in 1..=4 {
        bench
            .until(&format!("/v1/jobs/acme/{}", id(number)), |job| {
                bench.others_do_well();
                job["run"] == 2 && job["event_published"] == true
            })
            .await;
    }
    // An event precedes its dead letter, and the four fail in any order.
    bench.until("/v1/dead-letters", |page| page["matching"] == 4).await;
    let said = say(&bench, "dead-letters replay --system shop --rate 60000 --limit 3").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "3 replayed\n"));
    let mut shown = String::new();
    for number in 1..=4 {
        shown.push_str(&say(&bench, &format!("dead-letters show acme/{}", id(number))).await.out);
    }
    assert!(shown.contains("runbook: docs/runbook.md#ers-0015-request_rejected"), "{shown}");
}

#[tokio::test]
async fn systems_and_tenants_are_paused_resumed_listed_and_released() {
    let bench = bench().await;
    let said = say(&bench, "jobs pause --system shop --reason too~slow --by operations").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "paused, at every worker\n"));
    say(&bench, "jobs pause --tenant acme --reason wrong~list --by operations").await;
    let said = say(&bench, "jobs paused").await;
    assert!(said.out.contains("too slow") && said.out.contains("wrong list"), "{}", said.out);
    let said = say(&bench, "systems list").await;
    assert!(said.out.contains("paused by operations: too slow"), "{}", said.out);
    assert_eq!(say(&bench, "jobs resume --system shop").await.exit, Exit::Done);
    assert_eq!(say(&bench, "jobs resume --tenant acme").await.exit, Exit::Done);
    let said = say(&bench, "jobs paused --json").await;
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap()["paused"], serde_json::json!([]));
    assert_eq!(say(&bench, "jobs pause --system nowhere --reason x --by y").await.exit, Exit::Failed);

    let said = say(&bench, "jobs forecast").await;
    assert_eq!(said.exit, Exit::Done);
    assert!(said.out.starts_with("0 jobs will miss their due time; 0 have missed it already\n"), "{}", said.out);

    bench.send(&shop_job(&id(1), "held"));
    bench.until("/v1/systems", |all| all["systems"][1]["held"] == true).await;
    let said = say(&bench, "jobs forecast").await;
    assert_eq!(said.exit, Exit::Failed, "one is overdue");
    assert!(said.out.contains("1 have missed it already"), "{}", said.out);
    let said = say(&bench, "systems list").await;
    assert!(said.out.contains("held: unauthorised_ours"), "{}", said.out);
    let said = say(&bench, "systems release shop").await;
    assert!(said.exit == Exit::Done && said.out.contains("working"), "{}", said.out);
}

#[tokio::test]
async fn the_deletion_file_is_exported_and_settled() {
    let bench = bench_with_desk(&Arc::new(Desk::default())).await;
    let said = say(&bench, "zeta-import export").await;
    assert_eq!((said.exit, said.out.lines().next()), (Exit::Done, Some("/imports/batch-000001.csv")));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.csv");
    std::fs::write(&file, "four").unwrap();
    let said = say(&bench, &format!("zeta-import settle {} --system shop", file.display())).await;
    assert!(said.exit == Exit::Done && said.out.contains("4 deleted, 1 skipped"), "{}", said.out);
    std::fs::write(&file, "no headers").unwrap();
    let said = say(&bench, &format!("zeta-import settle {}", file.display())).await;
    assert!(said.exit == Exit::Failed && said.err.contains("missing headers"), "{}", said.err);
    let said = say(&bench, "zeta-import settle missing.csv").await;
    assert_eq!(said.exit, Exit::Usage);
    let none = crate::bench::bench().await;
    let said = say(&none, "zeta-import export").await;
    assert!(said.exit == Exit::Usage && said.err.contains("works by import"), "{}", said.err);
}

#[tokio::test]
async fn the_token_comes_from_its_file_or_else_the_environment() {
    let bench = bench_with(Setup { token: Some(SecretString::from("right-token")), ..Setup::default() }).await;
    let url = format!("http://{}/", bench.addr);
    let said = run_at(&url, "jobs list", &Surroundings::default()).await;
    assert!(said.exit == Exit::Usage && said.err.contains("401"), "{}", said.err);
    let variables = [("ERASURE_OPS_TOKEN".to_owned(), "right-token".to_owned())].into();
    let surroundings = Surroundings { variables, ..Surroundings::default() };
    assert_eq!(run_at(&url, "jobs list", &surroundings).await.exit, Exit::Done);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let line = format!("jobs list --token-file {}", file.display());
    assert_eq!(run_at(&url, &line, &surroundings).await.exit, Exit::Usage);
    std::fs::write(&file, "right-token\n").unwrap();
    assert_eq!(run_at(&url, &line, &Surroundings::default()).await.exit, Exit::Done);
}

#[tokio::test]
async fn no_server_another_server_and_wrong_arguments_have_different_errors() {
    let bench = bench().await;
    let said = say(&bench, "jobs list --state done").await;
    assert!(said.exit == Exit::Usage && said.err.contains("state must be one of"), "{}", said.err);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let said = run_at(&format!("http://{addr}"), "jobs list", &Surroundings::default()).await;
    assert!(said.exit == Exit::Failed && said.err.contains("no connection"), "{}", said.err);
    let sandbox = erasure_worker::sandbox::Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let said = run_at(&format!("http://{}", sandbox.addr), "jobs list", &Surroundings::default()).await;
    assert!(said.exit == Exit::Failed && said.err.contains("does not answer as"), "{}", said.err);
    let said = run_at("ftp://127.0.0.1", "jobs list", &Surroundings::default()).await;
    assert_eq!(said.exit, Exit::Usage);
}

//! `submit-csv --status` for rows with a refused job.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use erasure_worker::cli::Exit;
use serde_json::{Value, json};
use testkit::cli::{At, Said, run, words};
use uuid::Uuid;

use crate::members::{file, result, submit, until};
use crate::worker::{Worker, order};

const LINE: &str = "--system loyalty --key integration_id --column ID";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_refused_job_is_reported_with_the_reason_and_not_awaited() {
    let worker = Worker::start().await;
    let path = file(&worker, "members.csv", b"ID\nINT-PLANTED-1\nINT-PLANTED-2\n");
    // Another configuration than the worker's.
    let configuration = worker.config.file.clone().unwrap();
    let ours = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, ours.replace("environment = \"sandbox\"", "environment = \"staging\"")).unwrap();
    assert_eq!(submit(&worker, LINE, &path).await.exit, Exit::Done);
    std::fs::write(&configuration, ours).unwrap();

    let said = until(&worker, LINE, &path, &["rejected"]).await;
    assert_eq!(said.exit, Exit::Failed, "{}{}", said.out, said.err);
    assert!(said.out.starts_with("2 rejected\n2 rows refused: wrong_environment (ERS-0021)\n"), "{}", said.out);
    let content = result(&path);
    let rows: Vec<&str> = content.lines().filter(|row| row.contains(",rejected,ERS-0021,\"refused: ")).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.contains("environment")), "{content}");
    assert!(!content.contains("PLANTED") && !said.out.contains("PLANTED"), "{content}");

    // Now the job is known: its state takes precedence over the dead letter, and the row has no refusal.
    let id = content.lines().nth(2).unwrap().split(',').nth(1).unwrap();
    let person = worker.rig.person();
    let mut job = order(&person, 9);
    job["job_id"] = json!(id);
    worker.publish(&job).await;
    let known = async {
        loop {
            let said = submit(&worker, &format!("{LINE} --status"), &path).await;
            if result(&path).contains(&format!("2,{id},erased,,\n")) {
                return said;
            }
        }
    };
    let known = tokio::time::timeout(std::time::Duration::from_secs(60), known).await;
    let said = known.expect("the job's own state");
    assert!(said.exit == Exit::Failed && said.out.contains("1 row refused"), "{}", said.out);
    worker.end().await;
}

/// Requests `--status` for a file of this many rows from a stand-in of a worker without these jobs.
async fn asked(
    rows: u128,
    letters: impl Fn(usize) -> (StatusCode, Value) + Clone + Send + Sync + 'static,
) -> (Said, usize) {
    let looks = Arc::new(AtomicUsize::new(0));
    let (states, counted) = (json!({ "jobs": [] }), Arc::clone(&looks));
    let look = move || async move {
        let (status, answer) = letters(counted.fetch_add(1, Ordering::Relaxed));
        (status, Json(answer))
    };
    let router = Router::new()
        .route("/v1/jobs/acme/states", post(|| async { Json(states) }))
        .route("/v1/dead-letters", get(look));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members.csv");
    let member = |number| format!("INT-{number}\n");
    std::fs::write(&path, format!("ID\n{}", (0..rows).map(member).collect::<String>())).unwrap();
    let row = |number| format!("{},{},queued,,\n", number + 2, Uuid::from_u128(number));
    let rows = (0..rows).map(row).collect::<String>();
    std::fs::write(folder.path().join("members.csv.result.csv"), format!("line,job_id,state,code,note\n{rows}"))
        .unwrap();
    let line = format!("submit-csv {LINE} --tenant acme --status --url {url} {}", path.display());
    // A status needs no configuration.
    let said = run(words(&line), At { config: Some("/nowhere".into()), ..At::default() }).await;
    served.abort();
    (said, looks.load(Ordering::Relaxed))
}

fn letter(number: u128, vouched: bool) -> Value {
    json!({ "tenant": "acme", "job_id": Uuid::from_u128(number), "code": "ERS-0020", "run": 0, "vouched": vouched,
        "sentence": "targets[0]: expected something else" })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_are_read_once_and_an_unvouched_one_has_no_effect() {
    let letters = |more: bool| {
        let all = json!([letter(1, true), letter(2, false), letter(2_400, true)]);
        move |_: usize| (StatusCode::OK, json!({ "dead_letters": all.clone(), "matching": 3, "more": more }))
    };
    let (said, looks) = asked(2_500, letters(false)).await;
    assert_eq!((said.exit, looks, said.err.as_str()), (Exit::Failed, 1, ""), "{}", said.out);
    assert!(said.out.contains("2 rows refused: invalid (ERS-0020)\n2498 rows queued"), "{}", said.out);
    let (said, _) = asked(3, letters(true)).await;
    assert!(said.err.contains("there are more dead letters than one request returns"), "{}", said.err);
    // An unknown state never counts as an end.
    let problem = json!({ "title": "It cannot be done now", "status": 503 });
    let (said, looks) = asked(2_500, move |_| (StatusCode::SERVICE_UNAVAILABLE, problem.clone())).await;
    assert_eq!((said.exit, looks), (Exit::Awaiting, 1), "{}", said.out);
    assert!(said.err.contains("It cannot be done now") && said.err.contains("may have been refused"), "{}", said.err);
}

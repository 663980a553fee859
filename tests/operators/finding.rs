//! `jobs find`: the typed identifiers, and the request that is sent.

use erasure_worker::cli::Exit;
use erasure_worker::engine::operators::{Discard, JobFilter, JobStatus, LetterFilter};
use erasure_worker::store::Table;
use serde_json::json;
use testkit::cli::{At, Said, run, words};
use testkit::people;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::worker::{Worker, order};

pub async fn find(worker: &Worker, url: &str, line: &str, typed: &str) -> (Exit, String, String) {
    let at = At { config: worker.config.file.clone(), typed, ..At::default() };
    let Said { exit, out, err } = run(words(&format!("jobs find --url {url} {line}")), at).await;
    (exit, out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_and_ended_jobs_are_found_by_the_persons_identifiers() {
    let worker = Worker::start().await;
    let persons = worker.rig.people(3);
    let ended = worker.submit(&persons[0], 9).await;
    let mut waiting = order(&persons[1], 9);
    waiting["targets"][0].as_object_mut().unwrap().remove("customer_password");
    worker.publish(&waiting).await;
    let mut two = order(&persons[2], 9);
    two["targets"].as_array_mut().unwrap().push(people::program(&persons[2], "member_id"));
    worker.publish(&two).await;
    let count = |status| {
        let filter = JobFilter { status: Some(status), ..JobFilter::default() };
        worker.engine.jobs(&filter, None, 10).unwrap().jobs.len()
    };
    let settled = async {
        while count(JobStatus::Completed) < 2 || count(JobStatus::NeedsInput) < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), settled).await.expect("two end, one waits");

    let by_email = "--tenant acme --system easycms --key email";
    let (exit, out, err) = find(&worker, &worker.url(), by_email, &format!(" {}\n", persons[0].email)).await;
    assert_eq!((exit, err.as_str()), (Exit::Done, "email: "));
    assert!(out.contains(&ended.job_id.to_string()) && out.contains("completed") && out.lines().count() == 2, "{out}");
    let (_, out, _) = find(&worker, &worker.url(), by_email, &persons[1].email).await;
    assert!(out.contains(waiting["job_id"].as_str().unwrap()) && out.contains("needs_input"), "{out}");
    // An ended job with several identifiers is found by all of them together, with any proofs.
    let (exit, _, err) = find(&worker, &worker.url(), by_email, &persons[2].email).await;
    assert!(exit == Exit::Failed && err.contains("no job"), "{err}");
    two["job_id"] = json!("00000000-0000-4000-8000-000000000000");
    two["targets"][0]["customer_password"] = json!("another");
    let (_, out, _) = find(&worker, &worker.url(), "--job -", &two.to_string()).await;
    assert!(out.lines().count() == 2 && out.contains("easycms,loyalty"), "{out}");
    for (line, expected) in [
        ("--system nowhere --key email", "is no configured system"),
        ("--system cleeng --key guid", "cannot name a person by guid"),
        ("--system easycms --key guid", "cannot name a person by guid"),
        ("--system loyalty --key member_id", "expected 1 to 256"),
        ("--job -", "expected"),
    ] {
        let (exit, _, err) = find(&worker, &worker.url(), line, &"9".repeat(300)).await;
        assert!(exit == Exit::Usage && err.contains(expected), "{line}: {err}");
        assert!(!err.contains("99999"), "{err}");
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_identifier_finds_only_waiting_and_failed_jobs() {
    let worker = Worker::start().await;
    let person = worker.rig.person();
    let mut job = order(&person, 9);
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    let mut customer = people::backend(&person);
    customer["customer_email"] = json!("other@example.com");
    customer["confirmation"] = json!({ "confirmed_at": "2026-01-02T03:04:05Z" });
    job["targets"].as_array_mut().unwrap().push(customer);
    let id = job["job_id"].as_str().unwrap().to_owned();
    let until = async |status| {
        let filter = JobFilter { status: Some(status), ..JobFilter::default() };
        let seen = async {
            while worker.engine.jobs(&filter, None, 10).unwrap().jobs.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.expect("the job has this state");
    };
    let upper = person.email.to_uppercase();
    let finds = async |state: &str| {
        for (line, typed) in [
            ("--tenant acme", upper.as_str()),
            ("--tenant acme", &person.customer_id),
            ("--tenant acme", "other@example.com"),
            ("--tenant acme --system cleeng --key customer_id", &person.customer_id),
            ("--tenant acme --system cleeng --key email", "other@example.com"),
        ] {
            let (exit, out, err) = find(&worker, &worker.url(), line, typed).await;
            assert!(exit == Exit::Done && out.contains(&id) && out.contains(state), "{state} {line}: {out}{err}");
        }
        for (line, typed) in [("--tenant acme", "stranger@example.com"), ("--tenant umbrella", &upper)] {
            assert_eq!(find(&worker, &worker.url(), line, typed).await.0, Exit::Failed, "{line}");
        }
    };
    worker.publish(&job).await;
    until(JobStatus::NeedsInput).await;
    finds("needs_input").await;
    // The address is another customer's: the right password does not help.
    job["targets"][0]["customer_password"] = json!(person.customer_password);
    worker.publish(&job).await;
    until(JobStatus::Failed).await;
    finds("failed").await;
    // A discarded job is not found any more, and neither is a completed job that waited before.
    let why = Discard { reason: "done by hand".to_owned(), by: "bob".to_owned() };
    let discarded = async {
        while worker.engine.discard(&LetterFilter::default(), 10, &why).await.unwrap().done == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), discarded).await.expect("its dead letter is discarded");
    assert_eq!(find(&worker, &worker.url(), "--tenant acme", &person.email).await.0, Exit::Failed);
    let other = worker.rig.person();
    let mut job = order(&other, 9);
    let password = job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    worker.publish(&job).await;
    until(JobStatus::NeedsInput).await;
    assert_eq!(find(&worker, &worker.url(), "--tenant acme", &other.email).await.0, Exit::Done);
    job["targets"][0]["customer_password"] = json!(password);
    worker.publish(&job).await;
    until(JobStatus::Completed).await;
    assert_eq!(find(&worker, &worker.url(), "--tenant acme", &other.email).await.0, Exit::Failed);
    assert_eq!(worker.engine.store().scan(Table::Meta, b"named/", None, 10).unwrap(), []);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_identifier_is_not_sent() {
    let worker = Worker::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut heard = Vec::new();
        while !heard.windows(4).any(|part| part == b"\r\n\r\n") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 23\r\nconnection: close\r\n\r\n{\"jobs\":[],\"next\":null}";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(heard).unwrap()
    });
    let line = "--tenant acme --system loyalty --key integration_id";
    let (exit, ..) = find(&worker, &url, line, "INT-PLANTED-42\n").await;
    assert_eq!(exit, Exit::Failed);
    let heard = heard.await.unwrap();
    assert!(heard.contains("subject_ref=s-") && heard.contains("identifier_ref="), "{heard}");
    assert!(!heard.contains("PLANTED"), "{heard}");
    worker.end().await;
}

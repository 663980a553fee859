//! `submit-csv` with a kill or a loss of the broker in the middle of a file, and with an approval first.
//!
//! The rule it keeps: the system's own count shows that every member is erased once.

use std::path::Path;
use std::process::Stdio;

use erasure_worker::cli::Exit;
use erasure_worker::ops::client::{Body, OpsApi};
use erasure_worker::sandbox::Person;
use serde_json::json;
use testkit::rabbit::Rabbit;
use tokio::process::Child;

use crate::members::{file, result, submit, until};
use crate::worker::Worker;

const LINE: &str = "--system loyalty --key integration_id --column ID";
const MEMBERS: u64 = 1_200;

fn members(worker: &Worker) -> (Vec<Person>, std::path::PathBuf) {
    let people = worker.sandbox().add_people(7_600_000..7_600_000 + MEMBERS);
    let rows: String = people.iter().map(|person| format!("{}\n", person.integration_id)).collect();
    let path = file(worker, "members.csv", format!("ID\n{rows}").as_bytes());
    (people, path)
}

/// The program as its own process.
fn start(worker: &Worker, path: &Path) -> Child {
    let mut command = worker.rig.other_command(&["submit-csv", "--tenant", "acme"]);
    command.args(LINE.split(' ')).arg(path).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits until some rows are written, but not all.
async fn in_the_middle(path: &Path) {
    let written = format!("{}.result.csv", path.display());
    let seen = async {
        loop {
            let rows = std::fs::read_to_string(&written).unwrap_or_default().lines().count();
            // The header, the arguments, and at least one member.
            if rows > 2 {
                return rows as u64;
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.expect("it never begins");
    assert!(rows < MEMBERS, "{rows}");
}

fn each_was_erased_once(worker: &Worker, people: &[Person]) {
    let deleted = worker.rig.destructive_calls();
    assert_eq!(deleted, people.len(), "a member was deleted twice or not at all");
    for person in people {
        assert_eq!(worker.rig.left(person, "loyalty"), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_in_the_middle_a_second_run_erases_every_member_once() {
    let worker = Worker::start().await;
    let (people, path) = members(&worker);
    let mut first = start(&worker, &path);
    in_the_middle(&path).await;
    first.kill().await.unwrap();
    let before = result(&path).lines().count() as u64;
    assert!(before < MEMBERS, "the command ended before the kill");
    let said = submit(&worker, LINE, &path).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(said.err.contains("it goes on after line") && said.out.contains("were queued before"), "{}", said.out);
    until(&worker, LINE, &path, &["erased"]).await;
    each_was_erased_once(&worker, &people);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_in_the_middle_loses_no_member() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let worker = Worker::start_on(&rabbit).await;
    let (people, path) = members(&worker);
    let mut run = start(&worker, &path);
    in_the_middle(&path).await;
    tokio::task::block_in_place(|| {
        // An orderly stop: a killed node may lose a stream that was declared seconds before.
        rabbit.stop();
        rabbit.boot();
    });
    let ended = tokio::time::timeout(std::time::Duration::from_secs(300), run.wait()).await;
    assert!(ended.expect("it goes on by itself").unwrap().success());
    until(&worker, LINE, &path, &["erased"]).await;
    each_was_erased_once(&worker, &people);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_previewed_reported_and_erased_only_after_another_operators_approval() {
    let worker = Worker::start().await;
    let people = worker.rig.people(3);
    let rows: String = people.iter().map(|person| format!("{}\n", person.integration_id)).collect();
    let path = file(&worker, "members.csv", format!("ID\n{rows}").as_bytes());
    let api = OpsApi::new(worker.url().parse().unwrap(), None).unwrap();
    let said = submit(&worker, &format!("{LINE} --preview --requested-by ann"), &path).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    until(&worker, LINE, &path, &["needs_input"]).await;
    let report = api.get(&["v1", "approvals", "report"], &[("requested_by", Some("ann".to_owned()))]).await.unwrap();
    assert_eq!((&report["jobs"], &report["systems"][0]["found"]), (&json!(3), &json!(3)), "{report}");
    assert_eq!(worker.rig.destructive_calls(), 0);
    // The same jobs, now requested as erasures, still wait.
    let said = submit(&worker, &format!("{LINE} --again"), &path).await;
    assert!(said.out.starts_with("3 queued,"), "{}", said.out);
    let decide = async |by: &str, as_of: &serde_json::Value| {
        let body = Body::Json(json!({ "as_of": as_of, "requested_by": "ann", "by": by }));
        api.post(&["v1", "approvals", "approve"], body).await.unwrap()
    };
    assert_eq!(decide("ann", &report["as_of"]).await, json!({ "approved": 0, "left": 3 }));
    assert_eq!(decide("bob", &report["as_of"]).await, json!({ "approved": 3, "left": 0 }));
    until(&worker, LINE, &path, &["erased"]).await;
    each_was_erased_once(&worker, &people);
    worker.end().await;
}

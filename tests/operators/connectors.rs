//! `submit-csv` and `jobs find` for systems by a connector file or an SQL file, and for webhooks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use erasure_worker::cli::Exit;
use erasure_worker::config::Surroundings;
use serde_json::{Value, json};
use testkit::cli::{At, Said, run, words};
use testkit::rig::Places;

use crate::finding::find;
use crate::members::{file, result, submit, until};
use crate::worker::Worker;

/// The subjects that a receiver was sent, by job.
type Subjects = Arc<Mutex<BTreeMap<String, Value>>>;

/// A receiver that erases everybody.
async fn receiver() -> (String, Subjects) {
    let subjects = Subjects::default();
    let requested = |State(subjects): State<Subjects>, Json(body): Json<Value>| async move {
        if body["type"] == "erasure.requested" {
            let data = &body["data"];
            let job = data["job_id"].as_str().unwrap().to_owned();
            subjects.lock().unwrap().insert(job, data["subject"].clone());
        }
        (StatusCode::OK, Json(json!({ "status": "erased", "same": true })))
    };
    let routes = Router::new().route("/erasure", post(requested)).with_state(Arc::clone(&subjects));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/erasure", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, subjects)
}

/// The stand-in of EasyCMS by its file, and the receiver.
pub fn systems(places: &Places<'_>, receiver: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/connectors/easycms.toml");
    format!(
        "[systems.shop]\nkind = \"connector\"\nfile = \"{file}\"\nbase_url = \"http://{}/easycms\"\n\
         verify_interval = \"50ms\"\n[systems.shop.settings]\nhost = \"easycms.fi\"\nusername = \"shop\"\naccount = \"1\"\n\
         authorization = \"easycms-token\"\npassword = \"easycms-password\"\n\
         [systems.crm]\nkind = \"webhook\"\nurl = \"{receiver}\"\nverify_interval = \"50ms\"\n\
         [systems.crm.identifiers]\nuser_id = {{ type = \"digits\", required = true }}\nemail = {{ type = \"email\" }}\n",
        places.stand
    )
}

/// The rows of the result file without the arguments: line, job and state.
fn rows(file: &Path) -> Vec<(String, String, String)> {
    let cells = |row: &str| row.splitn(5, ',').map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = result(file).lines().skip(1).map(cells).filter(|row| row[0] != "0").collect();
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone(), row[2].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_connector_and_a_webhook_are_erased_once_and_the_result_does_not_name_them() {
    let (url, subjects) = receiver().await;
    let worker = Worker::start_with_more(|places| systems(places, &url)).await;
    let people = worker.rig.people(3);
    let mut text = "Name;Mail;Secret;Later\n".to_owned();
    for person in &people[..2] {
        text += &format!("Ann;{};{1};{1}\n", person.email, person.customer_password);
    }
    text += &format!("Bob;{};;{}\n", people[2].email, people[2].customer_password);
    let path = file(&worker, "shop.csv", text.as_bytes());
    let line = "--system shop --key email --column Mail --also customer_password=Secret";
    let said = submit(&worker, &format!("{line} --dry-run"), &path).await;
    let queued = "3 would be queued, 0 duplicates and 0 unusable rows skipped\n";
    assert_eq!((said.exit, said.out.as_str(), said.err.as_str()), (Exit::Done, queued, ""));
    let said = submit(&worker, line, &path).await;
    assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""), "{}", said.out);
    let first = rows(&path);
    // A job without the proof awaits it.
    let said = until(&worker, line, &path, &["erased", "needs_input"]).await;
    assert_eq!((said.exit, said.out.lines().next()), (Exit::Awaiting, Some("2 erased, 1 needs_input")));
    for person in &people {
        assert_eq!(worker.rig.left(person, "easycms").is_empty(), person.email != people[2].email);
        assert!(!result(&path).contains(&person.email), "{}", result(&path));
    }
    let said = submit(&worker, line, &path).await;
    assert!(said.exit == Exit::Done && said.out.starts_with("0 queued,"), "{}{}", said.out, said.err);
    // Proofs of another column: the same jobs. The ended ones stay, the waiting one goes on.
    let calls = worker.rig.destructive_calls();
    let later = "--system shop --key email --column Mail --also customer_password=Later";
    let said = submit(&worker, later, &path).await;
    assert!(said.exit == Exit::Usage && said.err.contains("With --again all its jobs"), "{}", said.err);
    let said = submit(&worker, &format!("{later} --again"), &path).await;
    assert!(said.out.starts_with("3 queued,"), "{}", said.out);
    let ids = |rows: &[(String, String, String)]| rows.iter().map(|row| row.1.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&rows(&path)), ids(&first), "the same jobs");
    let said = until(&worker, later, &path, &["erased"]).await;
    assert_eq!((said.exit, worker.rig.destructive_calls()), (Exit::Done, calls + 1), "{}", said.out);

    let text =
        "Id,E-mail\n7300001,a@example.com\n7300002,\nPLANTED,b@example.com\n7300003,PLANTED\n7300001,a@example.com\n";
    let path = file(&worker, "crm.csv", text.as_bytes());
    let line = "--system crm --key user_id --column Id --also email=E-mail";
    let said = submit(&worker, line, &path).await;
    assert_eq!(said.exit, Exit::Failed);
    assert_eq!(
        said.err,
        "line 4: targets[0].subject.user_id: expected a string of 1 to 32 digits, not all of them 0; skipped\n\
         line 5: targets[0].subject.email: expected exactly one e-mail address, such as ann@example.com; skipped\n\
         line 6: the same member as in line 2; skipped\n"
    );
    until(&worker, line, &path, &["erased", "skipped"]).await;
    let written = rows(&path);
    assert_eq!(
        written.iter().map(|row| row.2.as_str()).collect::<Vec<_>>(),
        ["erased", "erased", "skipped", "skipped", "skipped"]
    );
    assert!(!result(&path).contains("PLANTED") && !result(&path).contains("7300001"), "{}", result(&path));
    let sent = BTreeMap::from([
        (written[0].1.clone(), json!({ "user_id": "7300001", "email": "a@example.com" })),
        (written[1].1.clone(), json!({ "user_id": "7300002" })),
    ]);
    assert_eq!(*subjects.lock().unwrap(), sent);

    // The ended job that names nothing else is found by its identifier.
    for (typed, job) in [("7300002", Some(&written[1].1)), ("7300001", None), ("7300009", None)] {
        let line = "--tenant acme --system crm --key user_id";
        let (exit, out, err) = find(&worker, &worker.url(), line, typed).await;
        assert_eq!(exit, if job.is_some() { Exit::Done } else { Exit::Failed }, "{err}");
        assert!(job.is_none_or(|job| out.contains(job.as_str()) && out.lines().count() == 2), "{out}");
    }
    let (exit, _, err) = find(&worker, &worker.url(), "--system crm --key guid", "7").await;
    let known = "--key: a job for crm cannot name a person by guid, but by email, user_id\n";
    assert_eq!((exit, err.as_str()), (Exit::Usage, known));
    worker.end().await;
}

/// Runs `submit-csv --dry-run` for a system of each kind, without a broker.
async fn checked(folder: &Path, line: &str, text: &str) -> Said {
    let root = env!("CARGO_MANIFEST_DIR");
    let config = folder.join("worker.toml");
    let key = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";
    let systems = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nstate_dir = \"state\"\nmaster_key = \"{key}\"\n\
         [systems.helpdesk]\nkind = \"connector\"\nfile = \"{root}/connectors/zendesk.toml\"\n\
         [systems.helpdesk.settings]\nsubdomain = \"acme\"\nagent = \"privacy@example.com\"\ntoken = \"t\"\n\
         [systems.database]\nkind = \"sql\"\nfile = \"{root}/tests/sql/shop.toml\"\n\
         url = \"postgresql://worker@127.0.0.1:1/shop?sslmode=disable\"\n\
         [systems.crm]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/erasure\"\n\
         identifiers = {{ user_id = {{ type = \"digits\", required = true }}, email = {{ type = \"email\", required = true }} }}\n"
    );
    std::fs::write(&config, systems).unwrap();
    let path = folder.join("members.csv");
    std::fs::write(&path, text).unwrap();
    let line = format!("submit-csv {line} --dry-run {}", path.display());
    run(words(&line), At { config: Some(config), surroundings: Surroundings::default(), typed: "" }).await
}

#[tokio::test]
async fn a_file_is_checked_for_a_system_of_every_kind_and_no_error_repeats_a_cell() {
    let folder = tempfile::tempdir().unwrap();
    let good = "E-mail,User\na@example.com,7\n";
    let usual = "--key user_id --column User --also email=E-mail";
    for system in ["helpdesk", "database", "crm"] {
        for (line, text, exit, wanted) in [
            (usual, good, Exit::Done, "1 would be queued, 0 duplicates and 0 unusable"),
            ("--key email --column E-mail --also user_id=User", good, Exit::Done, "1 would be queued"),
            (usual, "E-mail,User\nPLANTED,7\nb@example.com,8\n", Exit::Failed, "line 2: targets[0].subject.email: "),
            (
                usual,
                "E-mail,User\nb@example.com,8\nc@example.com,PLANTED\n",
                Exit::Failed,
                "line 3: targets[0].subject.user_id: ",
            ),
            (usual, "E-mail,User\n,8\n", Exit::Failed, "line 2: targets[0].subject.email: is missing and required"),
            (
                usual,
                "E-mail,User\na@example.com,7\nPLANTED@example.com,7\n",
                Exit::Failed,
                "the member of line 2 once more",
            ),
            (
                usual,
                "E-mail,User\na@example.com,7\n\"PLANTED,8\nb@example.com,9\n",
                Exit::Failed,
                "the file is damaged",
            ),
            (
                usual,
                "e-mail,User\na@example.com,7\n",
                Exit::Usage,
                "missing headers in file: \"E-mail\"; found: \"e-mail\"",
            ),
            (
                usual,
                "E-mail,User,User\na@example.com,7,8\n",
                Exit::Usage,
                "the header \"User\" is in the file more than once",
            ),
            ("--key user_id --column User", good, Exit::Usage, "--also email=HEADER: "),
            ("--key member_id --column User", good, Exit::Usage, " takes email, user_id"),
            ("--key user_id --column User --also guid=E-mail", good, Exit::Usage, "; it has email"),
        ] {
            let said = checked(folder.path(), &format!("--system {system} {line}"), text).await;
            let all = format!("{}{}", said.out, said.err);
            assert_eq!(said.exit, exit, "{system} {line}: {all}");
            assert!(all.contains(wanted) && !all.contains("PLANTED"), "{system} {line}: {all}");
        }
    }
}

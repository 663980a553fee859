//! `batch` and `submit` under the same rules, as far as a file has a sender.

use std::path::Path;
use std::process::{Command, Output};

use erasure_worker::sandbox::{RunningSandbox, Sandbox};
use erasure_worker::seal::jwe::seal_proof;
use erasure_worker::seal::{Keyring, MasterKey};
use serde_json::Value;
use testkit::times::a_week_ago;

use crate::bench::{self, KEY, id};

/// A job for a worker with the machine's clock.
fn shop_job(tenant: &str, person: &erasure_worker::sandbox::Person) -> Value {
    let mut job = bench::shop_job(tenant, person);
    job["requested_at"] = a_week_ago().into();
    job
}

fn write_config(folder: &Path, sandbox: &RunningSandbox, more: &str) {
    let text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nmaster_key = \"{KEY}\"\nstate_dir = \"state\"\n\
         [systems.shop]\nkind = \"easycms\"\nbase_url = \"{}\"\nauthorization = \"easycms-token\"\n\
         username = \"shop\"\npassword = \"easycms-password\"\naccount = \"1\"\nverify_interval = \"20ms\"\n{more}",
        sandbox.url("easycms"),
    );
    std::fs::write(folder.join("worker.toml"), text).unwrap();
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_erasure-worker");
    let mut command = Command::new(binary);
    command.args(arguments).args(["--config", "worker.toml"]).current_dir(folder).env_clear();
    command.output().unwrap()
}

fn batch(folder: &Path, jobs: &[Value]) -> i32 {
    let lines: Vec<_> = jobs.iter().map(Value::to_string).collect();
    std::fs::write(folder.join("jobs.ndjson"), lines.join("\n")).unwrap();
    let output = run(folder, &["batch", "--input", "jobs.ndjson", "--events", "events.ndjson"]);
    output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_asks_for_no_signature_but_keeps_tenants_and_ceilings() {
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let people = sandbox.sandbox().add_people(1..4);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tenant = "[tenants.acme]\namqp_users = [\"acme-publisher\"]\nrequire_signature = true\n";
    let keys =
        "[tenants.acme.signature_keys.k]\nkind = \"hmac-sha256\"\nsecret = \"0123456789012345678901234567890123\"\n";
    let left = || {
        people
            .iter()
            .filter(|person| !sandbox.sandbox().remains(person).iter().all(|what| !what.starts_with("easycms")))
            .count()
    };

    write_config(folder, &sandbox, &format!("{tenant}max_jobs_per_hour = 1\n{keys}"));
    let jobs = [shop_job("acme", &people[0]), shop_job("acme", &people[1])];
    assert_eq!(batch(folder, &jobs), 3, "one is held, which only an operator ends");
    let held: Vec<_> =
        events(folder).into_iter().filter(|event| event["type"] == "erasure.job.held_by_guard.v1").collect();
    assert_eq!((held.len(), left()), (1, 2));
    assert_eq!(batch(folder, &jobs), 3, "running it again lets nothing through");
    assert_eq!(left(), 2);
    write_config(folder, &sandbox, &format!("{tenant}{keys}"));
    assert_eq!(batch(folder, &jobs), 0);
    assert_eq!(left(), 1);

    let stranger = shop_job("nobody", &people[2]);
    assert_eq!(batch(folder, std::slice::from_ref(&stranger)), 1);
    assert!(
        events(folder)
            .iter()
            .any(|event| event["subject"] == id(&stranger) && event["data"]["error"]["reason"] == "unauthorised")
    );
    assert_eq!(left(), 1);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_reads_sealed_proofs_before_it_publishes_and_says_which_does_not_open() {
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let people = sandbox.sandbox().add_people(1..2);
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &sandbox, "");
    let ring = |key: &str| Keyring::new(MasterKey::parse(key).unwrap(), vec![]).unwrap();
    let submit = |ring: &Keyring| {
        let mut job = shop_job("acme", &people[0]);
        job["targets"][0]["customer_password"] = seal_proof(&ring.sealing_key(), "p", Some(id(&job))).unwrap().into();
        std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
        run(folder.path(), &["submit", "job.json"])
    };
    let refused = submit(&ring(crate::bench::NEXT_KEY));
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("targets[0].customer_password: is sealed for a key"), "{told}");
    // The right one is past the check: what is missing now is a broker.
    let read = submit(&ring(KEY));
    let told = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(told.contains("amqp") && !told.contains("targets"), "{told}");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_line_is_told_by_its_own_number_with_an_event_and_a_job_over_several_lines_is_one_job() {
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let people = sandbox.sandbox().add_people(1..10);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_config(folder, &sandbox, "");
    let jobs: Vec<Value> = people.iter().map(|person| shop_job("acme", person)).collect();
    let mut lines: Vec<String> = jobs.iter().map(Value::to_string).collect();
    // The seventh breaks off, the ninth is over several lines; a byte order mark stands before all.
    let whole = lines[6].clone();
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        lines[6] = whole[..cut].to_owned();
        lines[8] = format!("{:#}", jobs[8]);
        std::fs::write(folder.join("jobs.ndjson"), format!("\u{feff}{}\n", lines.join("\n"))).unwrap();

        let submitted = run(folder, &["submit", "jobs.ndjson"]);
        let told = String::from_utf8(submitted.stderr).unwrap();
        assert_eq!((submitted.status.code(), told.matches("line ").count()), (Some(2), 1), "{told}");
        assert!(told.starts_with("line 7: body: is not JSON: "), "{told}");
        assert!(told.contains("nothing was published: 1 of 9 jobs are not valid"), "{told}");

        for _ in 0..2 {
            let output = run(folder, &["batch", "--input", "jobs.ndjson", "--events", "events.ndjson"]);
            let log = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{log}");
            assert!(log.contains("line 7: body: is not JSON"), "{log}");
        }
        let rejected: Vec<Value> = events(folder)
            .into_iter()
            .filter(|event| event["type"] == "erasure.job.rejected.v1" && event["data"]["error"]["reason"] == "invalid")
            .collect();
        // Told once, however often the file is run; about another line each time here.
        let last = rejected.last().unwrap()["data"]["error"]["detail"].as_str().unwrap();
        assert!(last.starts_with("line 7: body: is not JSON: "), "{last}");
        let ids: std::collections::BTreeSet<_> = rejected.iter().map(|event| event["subject"].to_string()).collect();
        assert_eq!(ids.len(), rejected.len());
    }
    let completed = events(folder).iter().filter(|event| event["type"] == "erasure.job.completed.v1").count();
    assert_eq!(completed, 8);
    let left =
        people.iter().filter(|person| sandbox.sandbox().remains(person).iter().any(|what| what.starts_with("easycms")));
    assert_eq!(left.count(), 1, "the one whose line breaks off");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_made_a_preview_is_not_published_as_an_erasure() {
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let people = sandbox.sandbox().add_people(1..2);
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &sandbox, "");
    let body = shop_job("acme", &people[0]).to_string().replacen('{', "{\"extensions\":{\"a\":1e999},", 1);
    std::fs::write(folder.path().join("job.json"), body).unwrap();
    for more in [&["--preview"][..], &["--preview", "--requested-by", "ann"]] {
        let refused = run(folder.path(), &[&["submit", "job.json"], more].concat());
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.starts_with("line 1: extensions: cannot be read by every reader"), "{told}");
    }
    // As it is, it is a job: what is missing now is a broker.
    let read = run(folder.path(), &["submit", "job.json"]);
    assert!(String::from_utf8_lossy(&read.stderr).contains("amqp"));
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_is_not_ordered_by_a_time_that_cannot_be_true() {
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_config(folder, &sandbox, "");
    let file = folder.join("members.csv");
    std::fs::write(&file, "mail\nann@example.com\n").unwrap();
    let submit = |more: &[&str]| {
        let order = ["submit-csv", "--system", "shop", "--key", "email", "--column", "mail", "--dry-run"];
        let output = run(folder, &[&order[..], more, &["members.csv"]].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for argument in ["--requested-at", "--confirmed-at"] {
        for (time, why) in [
            ("2999-01-01", "is more than 24 hours ahead of this worker's clock"),
            ("1999-12-31T23:59:59Z", "is before the year 2000"),
        ] {
            let (code, told) = submit(&[argument, time]);
            assert_eq!(code, Some(2), "{told}");
            assert!(told.starts_with(&format!("{argument}: {why}")), "{told}");
        }
    }
    let changed_in_the_future = std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(changed_in_the_future).unwrap();
    let (code, told) = submit(&[]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.starts_with("--requested-at: the time at which the file was changed is more than 24"), "{told}");
    let (_, told) = submit(&["--requested-at", &a_week_ago()]);
    assert!(!told.contains("ahead"), "{told}");
    sandbox.stop().await;
}

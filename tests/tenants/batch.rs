//! `batch` and `submit` under the same rules, as far as a file has a sender.

use std::path::Path;
use std::process::{Command, Output};

use erasure_worker::sandbox::{RunningSandbox, Sandbox};
use erasure_worker::seal::jwe::seal_proof;
use erasure_worker::seal::{Keyring, MasterKey};
use serde_json::Value;

use crate::bench::{KEY, id, shop_job};

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

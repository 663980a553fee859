//! Commitments: only the salt together with the identities opens them.

use serde_json::{Value, json};
use testkit::times;

use crate::batch::{Batch, faults, write_lines};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commitment_opens_only_with_its_salt_and_identities() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(0..14);
    batch.run(&jobs).await;
    let file = batch.path("offered.ndjson");
    let events = batch.path("events.ndjson");
    let arguments = ["--jobs", file.to_str().unwrap(), events.to_str().unwrap()];
    write_lines(&file, &jobs.iter().map(Value::to_string).collect::<Vec<_>>());
    let report = batch.verify(&arguments).await;
    assert_eq!((&report["valid"], &report["opened"]), (&json!(true), &json!(14)), "{report:#}");

    // Proofs, times and confirmations may differ: they are no part of the identity.
    let mut other_proofs = jobs.clone();
    for job in &mut other_proofs {
        job["requested_at"] = times::hours_ago(30).into();
        for target in job["targets"].as_array_mut().unwrap().iter_mut().filter(|target| target["system"] == "easycms") {
            target["customer_password"] = "another".into();
        }
    }
    write_lines(&file, &other_proofs.iter().map(Value::to_string).collect::<Vec<_>>());
    assert_eq!(batch.verify(&arguments).await["opened"], 14);

    // The salt and each part of the identity must be equal.
    let whole = jobs.iter().find(|job| job["targets"].as_array().unwrap().len() == 4).unwrap();
    let changes: [(&str, Value); 9] = [
        ("/receipt_salt", json!("another salt")),
        ("/targets/0/customer_id", json!("7301507")),
        ("/targets/0/customer_email", json!("another@example.com")),
        ("/targets/1/member", json!({ "member_id": whole["targets"][1]["member"]["integration_id"] })),
        ("/targets/2/email", json!("another@example.com")),
        ("/targets/3/guid", json!("GUID")),
        ("/targets/3/reference", json!("another")),
        ("/targets/3/codes/1/code", json!("another")),
        ("/targets/3/overwrite", json!(["email"])),
    ];
    for (path, value) in changes {
        let mut changed = whole.clone();
        *changed.pointer_mut(path).unwrap() = value;
        write_lines(&file, &[changed.to_string()]);
        let report = batch.verify(&arguments).await;
        assert_eq!(report["opened"], 0, "{path}");
        assert_eq!(faults(&report).len(), 1, "{path}: {report:#}");
        assert_eq!(faults(&report)[0].0, "not_opened", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_a_salt_has_a_receipt_without_a_commitment() {
    let batch = Batch::start().await;
    let mut jobs = batch.jobs(20..22);
    for job in &mut jobs {
        job.as_object_mut().unwrap().remove("receipt_salt");
    }
    batch.run(&jobs).await;
    let events = batch.path("events.ndjson");
    assert_eq!(batch.verify(&[events.to_str().unwrap()]).await["valid"], true);
    assert!(
        batch
            .final_events()
            .iter()
            .all(|line| crate::batch::claims(&crate::batch::receipt(line)).get("commitment").is_none())
    );
}

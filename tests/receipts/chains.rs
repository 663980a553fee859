//! The chain over many concurrent jobs, kills and lost stores; and data that no receipt may contain.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use erasure_worker::sandbox::{FaultPlan, Person};
use serde_json::{Value, json};
use testkit::people::FIRST;

use crate::batch::{Batch, claims, normalised, receipt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_jobs_make_one_chain_that_both_verifiers_accept() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(0..70);
    batch.run(&jobs).await;
    let report = batch.verify(&[batch.path("events.ndjson").to_str().unwrap()]).await;
    assert_eq!(report["valid"], true, "{report:#}");
    let chain = &report["chains"][0];
    assert_eq!((&report["receipts"], &chain["first"], &chain["last"]), (&json!(70), &json!(1), &json!(70)));
    assert_eq!((&chain["worker"], &chain["started"]), (&json!("worker-0"), &json!("new_store")));
    let outcomes: Vec<_> = batch.final_events().iter().map(|line| claims(&receipt(line))["outcome"].clone()).collect();
    for outcome in ["completed", "failed", "previewed"] {
        assert!(outcomes.iter().filter(|known| **known == outcome).count() >= 10, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_three_times_during_faults_leaves_one_complete_chain() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(100..170);
    batch.sandbox().set_faults(FaultPlan::misbehave(11));
    batch.run_with_kills(&jobs, &[10, 25, 40]).await;
    let ended = batch.final_events().len();
    assert!(ended >= 60, "{ended}");
    let report = batch.verify(&[batch.path("events.ndjson").to_str().unwrap()]).await;
    assert_eq!((&report["valid"], &report["receipts"]), (&json!(true), &json!(ended)), "{report:#}");
    assert_eq!(report["chains"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_final_event_has_the_same_receipt() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(200..203);
    batch.run(&jobs).await;
    let first = batch.final_events();
    std::fs::remove_file(batch.path("events.ndjson")).unwrap();
    batch.run(&jobs).await;
    assert_eq!(batch.final_events(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_message_has_a_receipt_and_its_repeat_has_the_same() {
    let batch = Batch::start().await;
    let mut jobs = batch.jobs(210..213);
    jobs[1]["targets"][0]["misspelt"] = "field".into();
    batch.run(&jobs).await;
    let first = batch.final_events();
    let report = batch.verify(&[batch.path("events.ndjson").to_str().unwrap()]).await;
    assert_eq!((&report["valid"], &report["receipts"]), (&json!(true), &json!(3)), "{report:#}");
    let refused: Vec<Value> = first.iter().map(|line| claims(&receipt(line))).collect();
    let refused = refused.iter().find(|receipt| receipt["outcome"] == "rejected").unwrap();
    assert_eq!((&refused["reason"], &refused["targets"]), (&json!("invalid"), &json!([])));
    std::fs::remove_file(batch.path("events.ndjson")).unwrap();
    batch.run(&jobs).await;
    assert_eq!(batch.final_events(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_and_a_damaged_store_each_begin_a_new_chain_with_that_reason() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(300..304)).await;
    std::fs::remove_dir_all(batch.path("state")).unwrap();
    batch.run(&batch.jobs(304..308)).await;
    let damaged = batch.path("state/store/db");
    let length = std::fs::metadata(&damaged).unwrap().len();
    std::fs::write(&damaged, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    batch.run(&batch.jobs(308..312)).await;
    let report = batch.verify(&[batch.path("events.ndjson").to_str().unwrap()]).await;
    assert_eq!((&report["valid"], &report["receipts"]), (&json!(true), &json!(12)), "{report:#}");
    let chains = report["chains"].as_array().unwrap();
    assert_eq!(chains.len(), 3);
    assert!(chains.iter().all(|chain| chain["started"] == "new_store" && chain["receipts"] == 4), "{chains:#?}");
}

/// The encoded forms of a text.
fn forms(text: &str) -> Vec<String> {
    let url: String = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).collect();
    let plain = [text.to_owned(), text.to_lowercase(), text.to_uppercase(), url, hex::encode(text)];
    // In base64 a text has one of three alignments.
    let shifted = (0..3).flat_map(|shift| {
        let padded = [vec![b'x'; shift], text.as_bytes().to_vec()].concat();
        let inner = |code: String| code[shift + usize::from(shift > 0)..code.len() - 3].to_owned();
        [inner(STANDARD.encode(&padded)), inner(URL_SAFE_NO_PAD.encode(&padded) + "==")]
    });
    plain.into_iter().chain(shifted).filter(|form| form.len() >= 5).collect()
}

fn planted(person: &Person) -> Vec<String> {
    let mut texts = vec![
        person.email.clone(),
        person.customer_id.clone(),
        person.integration_id.clone(),
        person.customer_password.clone(),
        person.guid.clone(),
        person.reference.clone(),
        format!("salt of {}", person.number),
    ];
    texts.extend(person.codes.clone());
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_receipt_contains_an_identifier_a_proof_a_code_or_the_salt_in_any_form() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(400..421)).await;
    let people: Vec<Person> = (400..421).map(|number| Person::numbered(FIRST + number)).collect();
    let find = |text: &str| -> Vec<String> {
        let all = people.iter().flat_map(planted).flat_map(|secret| forms(&secret));
        all.filter(|form| text.contains(form.as_str())).collect()
    };
    let mut receipts = String::new();
    for line in batch.final_events() {
        let receipt = receipt(&line);
        for part in receipt.split('.').take(2) {
            receipts.push_str(&String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap());
        }
        receipts.push_str(&receipt);
    }
    assert_eq!(find(&receipts), Vec::<String>::new());
    // The same search finds the texts in the jobs.
    let jobs = std::fs::read_to_string(batch.path("jobs.ndjson")).unwrap();
    assert!(find(&jobs).len() >= people.len());
    let secret = people[3].guid.clone();
    for hidden in [hex::encode(&secret), STANDARD.encode(format!("ab{secret} and so on")), secret.to_lowercase()] {
        assert!(!find(&hidden).is_empty(), "{hidden}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_names_preserved_data_and_failures_with_their_reasons() {
    let batch = Batch::start().await;
    let jobs = batch.jobs(500..507);
    batch.run(&jobs).await;
    let receipts: Vec<Value> = batch.final_events().iter().map(|line| claims(&receipt(line))).collect();
    let targets: Vec<&Value> = receipts.iter().flat_map(|receipt| receipt["targets"].as_array().unwrap()).collect();
    let loyalty = targets.iter().find(|target| target["kind"] == "zeta_loyalty" && target["outcome"] == "erased");
    let kept = json!([{ "what": "offer_responses", "why": "kept_by_platform" }]);
    assert_eq!(loyalty.unwrap()["preserved"], kept);
    let failed = targets.iter().find(|target| target["outcome"] == "failed").unwrap();
    assert_eq!((&failed["reason"], &failed["code"]), (&json!("wrong_customer_password"), &json!("ERS-0006")));
    for receipt in &receipts {
        let job = jobs.iter().find(|job| job["job_id"] == receipt["job_id"]).unwrap();
        assert_eq!(receipt["due_at"], normalised(&job["due_at"]));
        assert_eq!(receipt["worker_version"], env!("CARGO_PKG_VERSION"));
    }
}

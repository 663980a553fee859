//! The pages for decisions: previews that wait for a second operator, and jobs above a ceiling.

use erasure_worker::cli::Exit;
use erasure_worker::job::JobKey;
use serde_json::json;
use testkit::cli::{At, run, words};
use testkit::people;
use thirtyfour::Key;

use crate::browser::Browser;
use crate::connectors::systems;
use crate::members::{file, submit, until};
use crate::worker::{TENANT, Worker, key, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_sees_the_losses_and_decides_with_the_keyboard_alone() {
    let worker = Worker::start().await;
    let persons = worker.rig.people(2);
    let mut jobs: Vec<JobKey> = Vec::new();
    for person in &persons {
        let mut job = order(person, 9);
        job["approval"] = json!({ "requested_by": "ann" });
        let mut customer = people::backend(person);
        customer["confirmation"] = json!({ "confirmed_at": "2026-01-02T03:04:05Z" });
        job["targets"].as_array_mut().unwrap().push(customer);
        worker.publish(&job).await;
        jobs.push(key(&job));
    }
    let browser = Browser::open(&format!("{}#/approvals", worker.url())).await;
    browser.sees(&["Approve all 2", "2 of 2 targets found", "4 entitlements", "found; 2 entitlements: S100_EX"]).await;
    let place = async |key: &JobKey| {
        let name = format!("{}/{}", key.tenant, key.job_id);
        let rows =
            browser.script("return [...document.querySelectorAll('td.id a')].map((link) => link.innerText)").await;
        rows.as_array().unwrap().iter().position(|row| row.as_str() == Some(&name)).unwrap()
    };
    browser.picture("approvals").await;

    // The requester is refused; another operator is not. Both use only the keyboard.
    let approve = format!("approve-{}", place(&jobs[0]).await);
    browser.tab_to(&approve).await;
    browser.key(Key::Enter).await;
    browser.sees(&["Exactly this is erased:", "easycms: found", "cleeng: found; 2 entitlements"]).await;
    browser.fill("dialog-by", "ann").await;
    browser.key(Key::Enter).await;
    browser.sees(&["Another operator must do this"]).await;
    assert_eq!(worker.rig.destructive_calls(), 0, "no call before the approval");
    browser.tab_to(&approve).await;
    browser.key(Key::Enter).await;
    browser.fill("dialog-by", "bob").await;
    browser.key(Key::Enter).await;
    browser.sees(&["approved by bob"]).await;

    browser.press(&format!("reject-{}", place(&jobs[1]).await)).await;
    browser.sees(&["nothing is erased."]).await;
    browser.press("dialog-go").await;
    browser.sees(&["No preview awaits approval."]).await;
    browser.page.goto(format!("{}#/jobs?state=completed", worker.url())).await.unwrap();
    browser.sees(&[&format!("{}/{}", jobs[0].tenant, jobs[0].job_id)]).await;
    browser.page.goto(format!("{}#/jobs?state=cancelled", worker.url())).await.unwrap();
    browser.sees(&[&format!("{}/{}", jobs[1].tenant, jobs[1].job_id)]).await;
    let gone =
        |index: usize| ["easycms", "cleeng"].iter().all(|system| worker.rig.left(&persons[index], system).is_empty());
    assert!(gone(0) && !gone(1));
    let page = browser.text().await;
    assert!(!page.contains("example.com"), "{page}");
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_acts_of_a_connector_are_listed_before_the_erasures_of_a_file_are_approved() {
    let worker = Worker::start_with_more(|places| systems(places, "http://127.0.0.1:1/erasure")).await;
    let people = worker.rig.people(2);
    let row = |person: &erasure_worker::sandbox::Person| format!("{},{}\n", person.email, person.customer_password);
    let path = file(&worker, "shop.csv", format!("Mail,Secret\n{}{}", row(&people[0]), row(&people[1])).as_bytes());
    let line = "--system shop --key email --column Mail --also customer_password=Secret --preview --requested-by ann";
    let said = submit(&worker, line, &path).await;
    assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""), "{}", said.out);
    let browser = Browser::open(&format!("{}#/approvals", worker.url())).await;
    browser.sees(&["Approve all 2", "2 of 2 targets found; delete_account: 2 calls"]).await;
    browser.sees(&["shop: found; delete_account: 1 call"]).await;
    let ask = async |line: &str| {
        let line = format!("approvals {line} --url {}", worker.url());
        run(words(&line), At { config: worker.config.file.clone(), ..At::default() }).await
    };
    let said = ask("report").await;
    assert!(said.exit == Exit::Done && said.out.contains("delete_account × 2"), "{}", said.out);
    let job = ask("list").await.out.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let said = ask(&format!("show {job}")).await;
    assert!(said.out.contains("    acts: delete_account × 1\n"), "{}", said.out);
    assert_eq!(worker.rig.destructive_calls(), 0);
    let report: serde_json::Value = serde_json::from_str(&ask("report --json").await.out).unwrap();
    let said = ask(&format!("approve --as-of {} --requested-by ann --by bob", report["as_of"].as_str().unwrap())).await;
    assert!(said.exit == Exit::Done && said.out.starts_with("2 approved"), "{}{}", said.out, said.err);
    assert_eq!(until(&worker, line, &path, &["erased"]).await.exit, Exit::Done);
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_above_a_ceiling_are_shown_released_and_discarded() {
    let worker = Worker::start_guarded(1).await;
    let people = worker.rig.people(3);
    let first = worker.submit(&people[0], 9).await;
    let browser = Browser::open(&format!("{}#/guard", worker.url())).await;
    browser.sees(&["1 of 1", "none"]).await;
    worker.submit(&people[1], 9).await;
    browser.sees(&["1 held", "Release"]).await;
    browser.picture("guard").await;
    browser.tab_to(&format!("discard-tenant-{TENANT}")).await;
    browser.key(Key::Enter).await;
    browser.sees(&["Discard 1 job?", "No system was called"]).await;
    browser.key(Key::Escape).await;
    browser.sees_no(&["Discard 1 job?"]).await;
    browser.key(Key::Enter).await;
    browser.press("dialog-go").await;
    browser.sees(&["1 job discarded.", "none"]).await;
    worker.submit(&people[2], 9).await;
    browser.sees(&["1 held"]).await;
    browser.press(&format!("release-tenant-{TENANT}")).await;
    browser.sees(&["Release 1 job?", "ask the tenant first"]).await;
    browser.press("dialog-go").await;
    browser.sees(&["1 job released.", "none"]).await;
    assert!(!worker.rig.left(&people[1], "easycms").is_empty());
    browser.press("waiting-jobs").await;
    browser.sees(&["guard until"]).await;
    browser.page.goto(format!("{}#/jobs/{}/{}", worker.url(), first.tenant, first.job_id)).await.unwrap();
    browser.sees(&["completed"]).await;
    browser.end().await;
    worker.end().await;
}

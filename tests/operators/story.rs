//! The console's main scenario: a system fails, and an operator repairs the damage.

use erasure_worker::sandbox::{Account, Action, FaultRule, Operation, Person};

use crate::browser::Browser;
use crate::worker::Worker;

/// The action for every call to the shop.
fn shop(action: Action) -> FaultRule {
    FaultRule { operation: None, system: Some("easycms".to_owned()), ..FaultRule::on(Operation::DeleteAccount, action) }
}

/// Sets the person's password at the shop.
fn set_shop_password(worker: &Worker, person: &Person, password: &str) {
    let (email, customer_password) = (person.email.clone(), password.to_owned());
    worker.sandbox().world(|world| {
        world.easycms("easycms").add(Account { email, customer_password, erased: false });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_is_held_with_its_reason_repaired_released_and_its_failed_jobs_are_replayed() {
    let worker = Worker::start().await;
    let people = worker.rig.people(5);
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["The worker is ready.", "easycms", "working"]).await;

    // The shop's deletion fails for three people, whose jobs become dead letters: for two by server errors, for the
    // third by another password. (Three server errors in a row would count as the system's failure, and the jobs
    // would wait.)
    for person in &people[..2] {
        let fails = Action::Status { status: 500, body: String::new(), after_work: false };
        let subject = Some(person.email.clone());
        worker.sandbox().add_fault(FaultRule { subject, ..FaultRule::on(Operation::DeleteAccount, fails) });
    }
    set_shop_password(&worker, &people[2], "another");
    let mut failed = Vec::new();
    for (person, days) in people[..3].iter().zip([2, 20, 40]) {
        failed.push(worker.submit(person, days).await);
    }
    browser
        .until("three dead letters", async || {
            let tiles =
                browser.script("return [...document.querySelectorAll('.tiles div')].map((one) => one.innerText)").await;
            tiles.as_array()?.iter().any(|tile| tile.as_str() == Some("Dead letters\n3")).then_some(())
        })
        .await;

    // Then the shop refuses our credential.
    worker.sandbox().clear_faults();
    worker.sandbox().add_fault(shop(Action::CredentialRefused));
    let held = worker.submit(&people[3], 5).await;
    browser.sees(&["The worker is degraded.", "held", "unauthorised_ours"]).await;
    browser.sees(&[&format!("{}/{}", held.tenant, held.job_id)]).await;
    browser.picture("overview").await;

    // The reason, from the system's answer.
    browser.press("system-easycms").await;
    browser.sees(&["system_unavailable", "user name or password refused"]).await;
    browser.picture("systems").await;

    // Credential and password are corrected at the shop. The operator releases the system.
    worker.sandbox().clear_faults();
    set_shop_password(&worker, &people[2], &people[2].customer_password);
    browser.press("release-easycms").await;
    browser.sees(&["Release easycms?", "If the cause remains"]).await;
    browser.press("dialog-go").await;
    browser.sees(&["easycms is released."]).await;
    browser.sees_no(&["user name or password refused"]).await;

    // The dead letters: their reasons, their remedies, and their replay.
    browser.press_link("Dead letters").await;
    browser.sees(&["3 dead letters", "ERS-0013", "ERS-0006", "delete account"]).await;
    let broken_down =
        "return [...document.querySelectorAll('[id^=code-]')].find((one) => one.innerText === 'ERS-0013').id";
    browser.press(browser.script(broken_down).await.as_str().unwrap()).await;
    browser.sees(&["ERS-0013 system unavailable", "dead-letters replay --system NAME --code ERS-0013"]).await;
    browser.press("dialog-no").await;
    browser.picture("dead-letters").await;
    browser.press("replay-all").await;
    browser.sees(&["Replay 3 dead letters?"]).await;
    browser.press("dialog-go").await;
    browser.sees(&["3 dead letters replayed.", "No dead letters found."]).await;

    // All four jobs complete, also the held one.
    browser.press_link("Jobs").await;
    browser.choose("filter-state", "completed").await;
    browser.press("filter-go").await;
    let mut all: Vec<String> = failed.iter().map(|key| format!("{}/{}", key.tenant, key.job_id)).collect();
    all.push(format!("{}/{}", held.tenant, held.job_id));
    browser.sees(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    browser.picture("jobs").await;
    browser.press(&format!("job-{}", all[0])).await;
    browser.sees(&[&format!("Job {}", all[0]), "completed", "delete account", "erased"]).await;
    for person in &people[..4] {
        assert_eq!(worker.rig.left(person, "easycms"), [""; 0]);
    }
    let page = browser.text().await;
    assert!(!page.contains("example.com"), "{page}");
    browser.end().await;
    worker.end().await;
}

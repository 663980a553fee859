//! The console's main story: a system breaks, and an operator sees it through.

use erasure_worker::sandbox::{Account, Action, FaultRule, Operation, Person};

use crate::browser::Browser;
use crate::worker::Worker;

/// Every call to the shop meets this.
fn shop(action: Action) -> FaultRule {
    FaultRule { operation: None, system: Some("easycms".to_owned()), ..FaultRule::on(Operation::DeleteAccount, action) }
}

/// The shop knows this password as the person's.
fn set_shop_password(worker: &Worker, person: &Person, password: &str) {
    let (email, customer_password) = (person.email.clone(), password.to_owned());
    worker.sandbox().world(|world| {
        world.easycms("easycms").add(Account { email, customer_password, erased: false });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_system_is_held_the_operator_sees_why_mends_it_releases_it_and_replays_what_failed() {
    let worker = Worker::start().await;
    let people = worker.rig.people(5);
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["The worker is ready.", "easycms", "working"]).await;

    // The shop's deletion fails for three people alone, and they become dead letters: it breaks down over two,
    // and has another password of the third's. (Broken down over three in a row, it would be everybody's
    // trouble, and their jobs would wait.)
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

    // Then it does not take our credential any more.
    worker.sandbox().clear_faults();
    worker.sandbox().add_fault(shop(Action::CredentialRefused));
    let held = worker.submit(&people[3], 5).await;
    browser.sees(&["The worker is degraded.", "held", "unauthorised_ours"]).await;
    browser.sees(&[&format!("{}/{}", held.tenant, held.job_id)]).await;
    browser.picture("overview").await;

    // Why, in the words of the system's answer.
    browser.press("system-easycms").await;
    browser.sees(&["system_unavailable", "user name or password refused"]).await;
    browser.picture("systems").await;

    // The credential is put right at the shop, and so is the password; the operator releases the system.
    worker.sandbox().clear_faults();
    set_shop_password(&worker, &people[2], &people[2].customer_password);
    browser.press("release-easycms").await;
    browser.sees(&["Release easycms?", "If the cause remains"]).await;
    browser.press("dialog-go").await;
    browser.sees(&["easycms is released."]).await;
    browser.sees_no(&["user name or password refused"]).await;

    // The dead letters: what they are, what to do, and back to work.
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

    // All four are seen to complete, the held one among them.
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

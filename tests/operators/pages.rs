//! The console's pages: a job's timeline, discard, pauses, search, paging, the token.

use erasure_worker::job::record::Event;
use erasure_worker::job::{At, Ended, JobKey, JobOutcome};
use erasure_worker::sandbox::{Action, FaultRule, Operation};
use erasure_worker::store::{Batch, Table};
use thirtyfour::Key;
use uuid::Uuid;

use crate::browser::Browser;
use crate::worker::{TENANT, Worker};

fn job_url(worker: &Worker, key: &JobKey) -> String {
    format!("{}#/jobs/{}/{}", worker.url(), key.tenant, key.job_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_shows_its_timeline_and_is_discarded_by_name_with_the_keyboard_alone() {
    let worker = Worker::start().await;
    let people = worker.rig.people(1);
    let fails = Action::Status { status: 500, body: "planted reply".to_owned(), after_work: false };
    worker.sandbox().add_fault(FaultRule::on(Operation::DeleteAccount, fails));
    let key = worker.submit(&people[0], 9).await;
    let browser = Browser::open(&job_url(&worker, &key)).await;
    browser.sees(&["failed", "ERS-0013 system unavailable", "2 failed attempts"]).await;
    browser
        .sees(&[
            "Timeline, latest first",
            "resolve 0",
            "intent",
            "delete account 0",
            "answered",
            "found",
            "unavailable",
        ])
        .await;
    browser.sees(&["gdpr", "in 8 days"]).await;
    browser.picture("job").await;

    // Escape changes nothing.
    browser.tab_to("discard").await;
    browser.key(Key::Enter).await;
    browser.sees(&["Discard this job?", "This cannot be undone."]).await;
    browser.key(Key::Escape).await;
    browser.sees_no(&["Discard this job?"]).await;
    assert_eq!(browser.focused().await, "discard");

    // The dialog needs a reason and a name.
    browser.key(Key::Enter).await;
    browser.sees(&["Discard this job?"]).await;
    browser.tab_to("dialog-go").await;
    browser.key(Key::Enter).await;
    browser.sees(&["Discard this job?"]).await;
    assert_eq!(browser.focused().await, "dialog-reason");
    browser.fill("dialog-reason", "erased by hand").await;
    browser.key(Key::Tab).await;
    browser.fill("dialog-by", "operations").await;
    browser.key(Key::Enter).await;
    browser.sees(&["1 dead letter discarded.", "Discarded by operations: erased by hand"]).await;
    browser.press_link("Dead letters").await;
    browser.sees(&["No dead letters found."]).await;
    let page = browser.text().await;
    assert!(!page.contains("planted") && !page.contains("example.com"), "{page}");
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_and_a_tenant_are_paused_and_resumed_and_their_jobs_wait() {
    let worker = Worker::start().await;
    let people = worker.rig.people(2);
    let browser = Browser::open(&format!("{}#/systems", worker.url())).await;
    browser.press("pause-easycms").await;
    browser.fill("dialog-reason", "the vendor asked").await;
    browser.fill("dialog-by", "operations").await;
    browser.press("dialog-go").await;
    browser.sees(&["The system easycms is paused.", "operations: the vendor asked"]).await;
    let key = worker.submit(&people[0], 3).await;
    browser.page.goto(job_url(&worker, &key)).await.unwrap();
    browser.sees(&["waiting", "paused"]).await;
    assert_eq!(worker.sandbox().entries(0).len(), 0);

    browser.page.goto(format!("{}#/systems", worker.url())).await.unwrap();
    browser.press("pause-tenant").await;
    browser.fill("dialog-name", TENANT).await;
    browser.fill("dialog-reason", "a wrong list").await;
    browser.press("dialog-go").await;
    browser.sees(&["operations: a wrong list"]).await;
    browser.press("resume-easycms").await;
    browser.sees_no(&["the vendor asked"]).await;
    // The system works again. The tenant's job still waits.
    worker.submit(&people[1], 3).await;
    browser.page.goto(format!("{}#/jobs?state=waiting", worker.url())).await.unwrap();
    browser.until("two wait", async || (browser.text().await.matches("paused until").count() == 2).then_some(())).await;
    assert_eq!(worker.sandbox().entries(0).len(), 0);
    browser.page.goto(format!("{}#/systems", worker.url())).await.unwrap();
    browser.press(&format!("resume-tenant-{TENANT}")).await;
    browser.sees(&["No tenant is paused."]).await;
    browser.page.goto(format!("{}#/jobs?state=completed", worker.url())).await.unwrap();
    browser.until("both end", async || (browser.text().await.matches("ended ").count() == 2).then_some(())).await;
    browser.end().await;
    worker.end().await;
}

const MANY: u128 = 100_000;

fn ended(number: u128) -> (JobKey, Ended) {
    let outcome = if number.is_multiple_of(5_000) { JobOutcome::Failed } else { JobOutcome::Completed };
    let key = JobKey { tenant: format!("tenant-{}", number % 10), job_id: Uuid::from_u128(number) };
    let event =
        Event { id: Uuid::nil().to_string(), what: outcome.to_string(), body: b"{}".to_vec(), at: At(number as i64) };
    let ended = Ended {
        identity: Vec::new(),
        outcome,
        run: 1,
        seq: 1,
        park: 0,
        body: Vec::new(),
        at: At(number as i64),
        event,
        published: true,
        dead_letter: None,
        dead_lettered: true,
        systems: vec!["easycms".to_owned()],
        certified: None,
    };
    (key, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_jobs_are_paged_through_filtered_and_found() {
    let worker = Worker::start_with(None, |opened| {
        let mut tickets = Vec::new();
        for chunk in 0..MANY / 1_000 {
            let mut batch = Batch::new();
            for number in chunk * 1_000..(chunk + 1) * 1_000 {
                let (key, ended) = ended(number);
                batch.put(Table::Ended, key.to_bytes(), ended.to_bytes());
            }
            tickets.push(opened.store.submit(batch));
        }
        // Writes are durable in order: wait for the last one.
        drop(tickets);
    })
    .await;
    let browser = Browser::open(&format!("{}#/jobs", worker.url())).await;
    let first = format!("tenant-0/{}", Uuid::from_u128(0));
    browser.sees(&[&first]).await;
    let rows = "return document.querySelectorAll('tbody tr').length";
    assert_eq!(browser.script(rows).await, 50);
    browser.press("next-page").await;
    browser.sees(&[&format!("tenant-0/{}", Uuid::from_u128(500))]).await;
    browser.sees_no(&[&first]).await;
    // The browser's back button leads to the previous page.
    browser.page.back().await.unwrap();
    browser.sees(&[&first]).await;

    // All twenty failed jobs are found, although most portions contain none.
    browser.choose("filter-state", "failed").await;
    browser.press("filter-go").await;
    browser.sees(&["No more jobs."]).await;
    assert_eq!(browser.script(rows).await, 20);
    browser.fill("filter-tenant", "tenant-3").await;
    browser.press("filter-go").await;
    browser.sees(&["No jobs found."]).await;

    let wanted = format!("tenant-7/{}", Uuid::from_u128(77_777));
    browser.fill("find-job", &wanted).await;
    browser.press("find-go").await;
    browser.sees(&[&format!("Job {wanted}"), "completed"]).await;
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_requested_kept_for_the_tab_and_removed_on_demand() {
    let worker = Worker::start_with(Some("right-token"), |_| {}).await;
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["Token", "kept for this tab only"]).await;
    browser.fill("dialog-token", "wrong-token").await;
    browser.key(Key::Enter).await;
    // The token is refused and requested again.
    browser
        .until("asked again", async || {
            browser.by_id("dialog-token").await.value().await.ok()?.is_some_and(|text| text.is_empty()).then_some(())
        })
        .await;
    browser.fill("dialog-token", "right-token").await;
    browser.key(Key::Enter).await;
    browser.sees(&["The worker is ready."]).await;
    browser.page.refresh().await.unwrap();
    browser.sees(&["The worker is ready."]).await;
    let kept = browser.script("return [document.cookie, localStorage.length, location.href.includes('token')]").await;
    assert_eq!(kept, serde_json::json!(["", 0, false]));
    browser.press("forget").await;
    browser.sees(&["kept for this tab only"]).await;
    browser.end().await;
    worker.end().await;
}

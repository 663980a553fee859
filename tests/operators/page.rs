//! The console as a page: its policy, its colours, small screens, and a stopped worker.

use thirtyfour::Key;

use crate::browser::Browser;
use crate::worker::Worker;

#[tokio::test(flavor = "multi_thread")]
async fn scripts_from_elsewhere_do_not_run_and_text_never_becomes_markup() {
    let worker = Worker::start().await;
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["The worker is ready."]).await;
    let inline = "const script = document.createElement('script');
        try { script.text = 'window.planted = 1'; document.head.append(script); } catch (error) { return error.name; }
        return window.planted ?? 'blocked'";
    let refused = browser.script(inline).await;
    assert!(refused == "blocked" || refused == "TypeError", "{refused}");
    let markup = "try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name; }";
    assert_eq!(browser.script(markup).await, "TypeError");
    let complaints = browser.complaints().await;
    for blocked in ["TrustedScript", "TrustedHTML"] {
        assert!(complaints.iter().any(|text| text.contains(blocked)), "{complaints:?}");
    }
    // A name in the URL is shown unchanged.
    browser.page.goto(format!("{}#/jobs/%3Cimg%20src=x%3E/1", worker.url())).await.unwrap();
    browser.sees(&["Job <img src=x>/1"]).await;
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_by_keyboard_in_light_and_dark_and_on_a_small_screen() {
    let worker = Worker::start().await;
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["The worker is ready."]).await;
    // The first Tab stop skips the navigation. A new page's heading has the focus.
    browser.key(Key::Tab).await;
    assert_eq!(browser.focused().await, "skip");
    browser.key(Key::Tab).await;
    browser.key(Key::Tab).await;
    browser.key(Key::Enter).await;
    browser.sees(&["No jobs found."]).await;
    assert_eq!(browser.focused().await, "title");

    let colours = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]";
    let mut seen = Vec::new();
    for scheme in ["light", "dark"] {
        let asked = serde_json::json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.page.cdp().send_raw("Emulation.setEmulatedMedia", asked).await.unwrap();
        seen.push(browser.script(colours).await);
    }
    assert_eq!(seen[0], serde_json::json!(["rgb(255, 255, 255)", "rgb(27, 31, 36)"]));
    assert_eq!(seen[1], serde_json::json!(["rgb(21, 24, 28)", "rgb(228, 231, 235)"]));
    browser.page.goto(worker.url()).await.unwrap();
    browser.sees(&["The worker is ready."]).await;
    browser.picture("overview-dark").await;

    browser.page.set_window_rect(0, 0, 500, 800).await.unwrap();
    let wider =
        browser.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    assert_eq!(wider, 0, "the page itself does not scroll sideways");
    browser.end().await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_is_reported_and_the_last_data_stays_on_the_page() {
    let worker = Worker::start().await;
    let browser = Browser::open(&worker.url()).await;
    browser.sees(&["The worker is ready."]).await;
    worker.end().await;
    browser.sees(&["No answer from the worker", "easycms"]).await;
    browser.page.clone().quit().await.unwrap();
}

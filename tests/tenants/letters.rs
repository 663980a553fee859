//! A dead letter does not lie for ever, and does not go without a word.

use std::time::Duration;

use erasure_worker::engine::letters::Swept;

use crate::bench::{Bench, id, shop_job};

const DAY: Duration = Duration::from_secs(86_400);
const AGED: &str = "[dead_letters]\nmax_age = \"20d\"";

async fn failed(bench: &Bench) -> serde_json::Value {
    let mut job = shop_job("acme", &bench.person(1));
    job["targets"][0]["customer_password"] = "wrong".into();
    bench.send(&job);
    bench.post.event(id(&job), "failed").await;
    bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    job
}

#[tokio::test]
async fn a_letter_is_announced_and_removed_only_when_its_notice_is_over() {
    let bench = Bench::with(AGED).await;
    let job = failed(&bench).await;
    bench.pass(15 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept::default());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept { told: 1, removed: 0 });
    let event = bench.post.event(id(&job), "at_risk").await;
    assert_eq!(event["data"]["cause"], "dead_letter_expires");
    assert_eq!(event["data"]["expires_at"], "2026-12-12T10:00:00.000Z");
    assert_eq!(event["data"]["error"]["reason"], "wrong_customer_password");
    assert_eq!(event["data"]["final"], false);
    bench.pass(5 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept::default());
    assert_eq!(bench.post.seen().letters.len(), 1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept { told: 0, removed: 1 });
    assert!(bench.post.seen().letters.is_empty());
    assert_eq!((bench.counted("dead_letters_aged", "told"), bench.counted("dead_letters_aged", "removed")), (1, 1));
    bench.end().await;
}

#[tokio::test]
async fn a_worker_that_was_away_when_notice_was_due_gives_it_in_full() {
    let bench = Bench::with(AGED).await;
    let job = failed(&bench).await;
    bench.pass(100 * DAY);
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept { told: 1, removed: 0 });
    bench.post.event(id(&job), "at_risk").await;
    bench.pass(5 * DAY - Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept::default());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept { told: 0, removed: 1 });
    bench.end().await;
}

#[tokio::test]
async fn a_message_that_never_named_a_job_is_removed_with_nobody_to_tell() {
    let bench = Bench::with(AGED).await;
    bench.post.deliver(Default::default(), "no job", false);
    bench.post.until("the dead letter", |seen| seen.letters.len() == 1).await;
    bench.pass(20 * DAY);
    assert_eq!(bench.engine.sweep_dead_letters().await.unwrap(), Swept { told: 0, removed: 1 });
    assert!(bench.post.seen().events.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_letter_of_unknown_age_is_left_alone() {
    let bench = Bench::with(AGED).await;
    failed(&bench).await;
    let publication = erasure_worker::broker::Publication {
        to: erasure_worker::broker::Destination::DeadLetter,
        properties: Default::default(),
        body: "somebody else's".into(),
    };
    erasure_worker::broker::Broker::publish(&*bench.post, publication).await.unwrap();
    bench.pass(200 * DAY);
    bench.engine.sweep_dead_letters().await.unwrap();
    bench.pass(200 * DAY);
    bench.engine.sweep_dead_letters().await.unwrap();
    let left = bench.post.seen().letters;
    assert_eq!(left.iter().map(|letter| &letter.body[..]).collect::<Vec<_>>(), [b"somebody else's"]);
    bench.end().await;
}

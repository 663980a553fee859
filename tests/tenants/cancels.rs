//! Cancellations arrive on a stream that every worker reads. They are accepted by the same rules as jobs.

use std::time::Duration;

use serde_json::json;

use crate::bench::{Bench, id, sent, shop_job};
use crate::refused::tenants;
use crate::signing::{ed25519, head, with_ed25519};

fn cancel(tenant: &str, job_id: &str) -> String {
    json!({ "schema": "erasure.cancel/v1", "tenant": tenant, "job_id": job_id }).to_string()
}

#[tokio::test]
async fn a_rejected_cancellation_cancels_nothing_and_its_publisher_gets_an_event() {
    let bench = Bench::with(&tenants()).await;
    let person = bench.person(1);
    let job = shop_job("umbrella", &person);
    let body = cancel("umbrella", id(&job));
    bench.post.control(sent(None, Some("guest")), body);
    let event = bench.post.event(id(&job), "cancel_refused").await;
    assert_eq!(event["data"]["error"]["reason"], "unauthorised");
    bench.post.control(sent(None, None), cancel("nobody", id(&job)));
    bench.post.until("the other refusal", |seen| seen.of(id(&job)).len() == 2).await;
    let body = cancel("acme", id(&job));
    let wrong = with_ed25519(&head("EdDSA", "first", bench.now()), body.as_bytes(), &ed25519(2));
    bench.post.control(sent(Some(&wrong), None), body.clone());
    bench.post.until("the third refusal", |seen| seen.of(id(&job)).len() == 3).await;
    bench.post.control(sent(None, None), body);
    bench.post.deliver(sent(None, Some("umbrella-publisher")), job.to_string(), false);
    bench.post.event(id(&job), "completed").await;
    assert_eq!(bench.engine.unauthorised(), 4);
    bench.end().await;
}

#[tokio::test]
async fn an_accepted_cancellation_takes_effect_at_any_age() {
    let bench = Bench::with(&tenants()).await;
    let person = bench.person(1);
    let job = shop_job("umbrella", &person);
    bench.post.control(sent(None, Some("umbrella-publisher")), cancel("umbrella", id(&job)));
    let signed = shop_job("acme", &person);
    let body = cancel("acme", id(&signed));
    let signature = with_ed25519(&head("EdDSA", "first", bench.now()), body.as_bytes(), &ed25519(1));
    bench.pass(Duration::from_secs(30 * 86_400));
    bench.post.control(sent(Some(&signature), None), body);
    bench.post.control(sent(None, Some("guest")), cancel("umbrella", &uuid::Uuid::new_v4().to_string()));
    bench.post.until("the stream's end", |seen| seen.events.len() == 1).await;
    bench.post.deliver(sent(None, Some("umbrella-publisher")), job.to_string(), false);
    bench.post.event(id(&job), "cancelled").await;
    assert_eq!(bench.engine.unauthorised(), 1, "only the marker at the stream's end");
    assert!(bench.is_in_shop(&person));
    bench.end().await;
}

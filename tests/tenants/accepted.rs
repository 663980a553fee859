//! Accepted messages, and the time limits of signatures.

use std::time::Duration;

use erasure_worker::broker::Properties;

use crate::bench::{Bench, id, sent, shop_job};
use crate::refused::tenants;
use crate::signing::{SECRET, ed25519, head, public, with_ed25519, with_hmac};

fn signing_tenant() -> String {
    format!(
        r#"
[tenants.acme]
require_signature = true
[tenants.acme.signature_keys.first]
kind = "ed25519"
public = "{}"
[tenants.acme.signature_keys.shared]
kind = "hmac-sha256"
secret = "{SECRET}"
"#,
        public(&ed25519(1)),
    )
}

#[tokio::test]
async fn without_tenants_in_the_configuration_any_tenant_is_served() {
    let bench = Bench::with("").await;
    let person = bench.person(1);
    let job = shop_job("whoever", &person);
    bench.post.deliver(sent(Some("no signature at all"), None), job.to_string(), false);
    bench.post.event(id(&job), "completed").await;
    assert!(!bench.is_in_shop(&person));
    bench.end().await;
}

#[tokio::test]
async fn both_kinds_of_signature_are_valid_to_the_last_second_of_their_window() {
    let bench = Bench::with(&signing_tenant()).await;
    for (number, iat) in [(1, bench.now() - 15 * 60), (2, bench.now() + 60)] {
        let job = shop_job("acme", &bench.person(number));
        let signature = with_ed25519(&head("EdDSA", "first", iat), job.to_string().as_bytes(), &ed25519(1));
        bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
        bench.post.event(id(&job), "completed").await;
        let job = shop_job("acme", &bench.person(number + 10));
        let signature = with_hmac(&head("HS256", "shared", iat), job.to_string().as_bytes(), SECRET.as_bytes());
        bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
        bench.post.event(id(&job), "completed").await;
    }
    assert_eq!(bench.engine.unauthorised(), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_body_without_an_id_is_accepted_if_the_signature_names_the_message_id() {
    let bench = Bench::with(&signing_tenant()).await;
    let mut job = shop_job("acme", &bench.person(1));
    let job_id = id(&job).to_owned();
    job.as_object_mut().unwrap().remove("job_id");
    let mut header = head("EdDSA", "first", bench.now());
    header["job_id"] = job_id.to_uppercase().into();
    let signature = with_ed25519(&header, job.to_string().as_bytes(), &ed25519(1));
    let properties = Properties { message_id: Some(job_id.clone()), ..sent(Some(&signature), None) };
    bench.post.deliver(properties, job.to_string(), false);
    bench.post.event(&job_id, "completed").await;
    bench.end().await;
}

#[tokio::test]
async fn a_parked_copy_and_a_redelivery_are_never_too_old() {
    let bench = Bench::with(&signing_tenant()).await;
    let person = bench.person(1);
    let mut job = shop_job("acme", &person);
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    let signature = with_ed25519(&head("EdDSA", "first", bench.now()), job.to_string().as_bytes(), &ed25519(1));
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
    bench.post.event(id(&job), "needs_input").await;
    let acked = bench.post.until("the park", |seen| seen.parked.len() == 1).await.acked;
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.post.waits_end(), 1);
    bench.post.until("the next park", |seen| seen.parked.len() == 1).await;
    // A redelivery after a lost ack: the same bytes, with the broker's mark.
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), true);
    bench.post.until("the redelivery's ack", |seen| seen.acked >= acked + 2).await;
    assert_eq!((bench.engine.unauthorised(), bench.post.seen().letters.len()), (0, 0));
    // Without the mark it is a replay.
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
    let event = bench.post.event(id(&job), "rejected").await;
    assert_eq!(event["data"]["final"], false);
    assert!(bench.is_in_shop(&person));
    bench.end().await;
}

#[tokio::test]
async fn a_mark_of_redelivery_alone_does_not_make_an_old_signature_valid() {
    let bench = Bench::with(&signing_tenant()).await;
    let job = shop_job("acme", &bench.person(1));
    let old = head("EdDSA", "first", bench.now() - 3600);
    let signature = with_ed25519(&old, job.to_string().as_bytes(), &ed25519(1));
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), true);
    bench.post.event(id(&job), "rejected").await;
    assert_eq!(bench.calls(), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_continuation_is_checked_like_the_first_message() {
    let bench = Bench::with(&tenants()).await;
    let person = bench.person(1);
    let mut job = shop_job("umbrella", &person);
    job["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.post.deliver(sent(None, Some("umbrella-publisher")), job.to_string(), false);
    bench.post.event(id(&job), "needs_input").await;
    let calls = bench.calls();
    job["targets"][0]["customer_password"] = person.customer_password.clone().into();
    bench.post.deliver(Properties::default(), job.to_string(), false);
    bench.post.event(id(&job), "rejected").await;
    assert_eq!(bench.calls(), calls);
    assert!(bench.is_in_shop(&person));
    bench.end().await;
}

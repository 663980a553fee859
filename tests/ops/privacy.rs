//! No answer contains personal data.

use erasure_worker::broker::{HeaderValue, Properties};
use serde_json::json;

use crate::bench::{bench, id};
use crate::http::{get, post};

/// Every identifier, proof and free text of the messages contains this word, and no other text does.
const WORD: &str = "planted";

#[tokio::test]
async fn no_route_shows_an_identifier_a_code_a_proof_a_reply_or_a_publishers_text() {
    let bench = bench().await;
    let properties = |message_id: String| Properties {
        message_id: Some(message_id),
        correlation_id: Some("planted-correlation".to_owned()),
        app_id: Some("planted-app".to_owned()),
        reply_to: Some("planted-reply".to_owned()),
        headers: [("x-erasure-reason", "planted-reason"), ("note", "planted-note"), ("traceparent", "planted-trace")]
            .map(|(name, value)| (name.to_owned(), HeaderValue::Text(value.to_owned())))
            .into(),
        ..Properties::default()
    };
    let shop = |word: &str| json!({ "system": "shop", "email": format!("{word}.planted@example.com"), "customer_password": "planted-password" });
    let library = json!({ "system": "library", "guid": "PLANTEDGUID", "reference": "planted-reference",
        "codes": [{ "code": "PLANTEDCODE" }] });
    let job = |number: u128, targets: serde_json::Value| {
        json!({ "schema": "erasure.job/v1", "job_id": id(number), "tenant": "acme", "environment": "sandbox",
            "requested_at": "2026-01-02T03:04:05Z", "receipt_salt": "planted-salt",
            "extensions": { "note": "planted-extension" }, "targets": targets })
    };
    let send = |number: u128, targets: serde_json::Value| {
        bench.broker.send(properties(id(number)), job(number, targets).to_string());
    };
    send(1, json!([shop("ann"), shop("absent")]));
    send(2, json!([shop("rejected")]));
    send(3, json!([library, shop("visible")]));
    send(4, json!([shop("flaky")]));
    // Invalid jobs: a field, a value and a member of the wrong form.
    bench.broker.send(properties(id(6)), json!({ "schema": "erasure.job/v1", "planted_field": "planted" }).to_string());
    let mut wrong = job(7, json!([shop("ann")]));
    wrong["environment"] = json!("planted-environment");
    bench.broker.send(properties(id(7)), wrong.to_string());
    bench.broker.send(properties("planted-message-id".to_owned()), "planted: no JSON at all");

    bench.broker.event(&id(1), "completed").await;
    bench.broker.event(&id(2), "failed").await;
    bench.broker.event(&id(3), "needs_input").await;
    bench.until("/v1/dead-letters", |page| page["dead_letters"].as_array().is_some_and(|all| all.len() >= 4)).await;
    // Last, because it stops all others.
    send(5, json!([shop("held")]));
    bench.until("/v1/systems", |all| all["systems"][1]["held"] == true).await;
    let path = format!("/v1/jobs/acme/{}", id(3));
    let waiting = bench.until(&path, |job| job["state"] == "waiting").await;
    assert_eq!(waiting["inputs"][0]["kind"], "confirmation");
    assert!(waiting["timeline"].to_string().contains("sealed"), "a private answer is among what was looked at");

    let mut paths: Vec<_> =
        ["/livez", "/readyz", "/metrics", "/v1/overview", "/v1/paused", "/v1/jobs", "/v1/systems", "/v1/dead-letters"]
            .map(str::to_owned)
            .to_vec();
    for number in 1..=7 {
        paths.push(format!("/v1/jobs/acme/{}", id(number)));
        paths.push(format!("/v1/dead-letters/acme/{}", id(number)));
        paths.push(format!("/v1/dead-letters/default/{}", id(number)));
    }
    let mut looked_at = 0;
    for path in paths {
        let answer = get(bench.addr, &path).await;
        looked_at += usize::from(answer.status == 200);
        let all = format!("{}{}", answer.head, answer.text).to_lowercase();
        assert!(!all.contains(WORD) && !all.contains("example.com"), "{path}: {all}");
    }
    assert!(looked_at >= 12, "{looked_at}");
    for (path, body) in [
        (format!("/v1/jobs/acme/{}/cancel", id(1)), json!({})),
        (format!("/v1/jobs/acme/{}/cancel", id(3)), json!({})),
        ("/v1/systems/shop/release".to_owned(), json!({})),
        ("/v1/dead-letters/discard".to_owned(), json!({ "job_id": id(2), "reason": "done", "by": "operations" })),
        ("/v1/dead-letters/replay".to_owned(), json!({ "all": true })),
    ] {
        let answer = post(bench.addr, &path, &body).await;
        let all = format!("{}{}", answer.head, answer.text).to_lowercase();
        assert!(!all.contains(WORD), "{path}: {all}");
    }
}

//! Dead letters: their list, replay and discard.

use erasure_worker::broker::{DeadLetter, Destination, HeaderValue, Properties};
use erasure_worker::store::Table;
use serde_json::{Value, json};

use crate::bench::{Bench, Setup, bench, bench_with, id, shop_job};
use crate::http::{get, post};

async fn letters(bench: &Bench, query: &str) -> Vec<Value> {
    let page = get(bench.addr, &format!("/v1/dead-letters{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()["dead_letters"].as_array().unwrap().clone()
}

/// Failed jobs, also recorded as failed.
async fn failed(bench: &Bench, numbers: std::ops::RangeInclusive<u128>) {
    for number in numbers {
        let job_id = bench.job(number, "rejected", "failed").await;
        bench.until(&format!("/v1/jobs/acme/{job_id}"), |job| job["event_published"] == true).await;
    }
}

#[tokio::test]
async fn dead_letters_are_listed_by_their_headers_and_a_list_changes_nothing() {
    let bench = bench().await;
    failed(&bench, 1..=2).await;
    let properties = Properties { message_id: Some(id(3)), ..Properties::default() };
    bench.broker.send(properties, "{\"schema\": 1}");
    bench.broker.event(&id(3), "rejected").await;
    bench.until("/v1/dead-letters", |page| page["dead_letters"].as_array().is_some_and(|all| all.len() == 3)).await;

    let all = letters(&bench, "").await;
    let codes: Vec<_> = all.iter().map(|letter| letter["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ERS-0015", "ERS-0015", "ERS-0020"]);
    let first = &all[0];
    assert_eq!((first["tenant"].as_str(), first["job_id"].as_str()), (Some("acme"), Some(&*id(1))));
    assert_eq!((first["system"].as_str(), first["step"].as_str()), (Some("shop"), Some("delete_account")));
    assert_eq!((first["run"].as_i64(), first["attempts"].as_i64()), (Some(1), Some(1)));
    assert_eq!((first["reason"].as_str(), first["retry"].as_str()), (Some("request_rejected"), Some("operator")));
    assert_eq!(first["sealed"], true);
    assert!(first.get("body").is_none());

    for (query, count) in [
        ("?code=ERS-0020", 1),
        ("?system=shop", 2),
        ("?tenant=acme", 2),
        ("?tenant=default", 1),
        (&*format!("?job_id={}", id(2)), 1),
        ("?code=ERS-0020&system=shop", 0),
    ] {
        assert_eq!(letters(&bench, query).await.len(), count, "{query}");
    }
    let page = get(bench.addr, "/v1/dead-letters?limit=1").await.json();
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), page["more"].as_bool()), (1, Some(true)));
    assert_eq!(page["matching"], 3);
    let next = get(bench.addr, "/v1/dead-letters?limit=1&skip=2").await.json();
    assert_eq!((&next["dead_letters"][0]["code"], &next["more"]), (&json!("ERS-0020"), &json!(false)));
    let at = all[1]["at"].as_str().unwrap();
    assert!(letters(&bench, &format!("?from={at}")).await.iter().all(|letter| letter["at"].as_str().unwrap() >= at));
    assert!(letters(&bench, &format!("?to={at}")).await.iter().all(|letter| letter["at"].as_str().unwrap() < at));
    assert_eq!(letters(&bench, "?from=2099-01-01T00:00:00Z").await.len(), 0);
    let one = get(bench.addr, &format!("/v1/dead-letters/acme/{}", id(2))).await.json();
    assert_eq!(one["dead_letters"].as_array().unwrap().len(), 1);
    let none = get(bench.addr, &format!("/v1/dead-letters/acme/{}", id(9))).await;
    assert_eq!(none.problem(404), "unknown-dead-letter");
    assert_eq!(letters(&bench, "").await, all);
}

#[tokio::test]
async fn a_replay_begins_the_next_run_and_takes_only_the_named_dead_letters() {
    let bench = bench().await;
    failed(&bench, 1..=3).await;
    *bench.shop.mended.lock().unwrap() = true;
    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "job_id": id(2) })).await;
    assert_eq!(answer.json(), json!({ "replayed": 1, "unopenable": 0, "looked_at": 3, "more": false }));
    let event = bench.broker.event(&id(2), "completed").await;
    assert_eq!((event["data"]["run"].as_u64(), event["data"]["seq"].as_u64()), (Some(2), Some(2)));
    assert_eq!(letters(&bench, "").await.len(), 2);

    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "all": true, "limit": 1 })).await;
    assert_eq!(answer.json(), json!({ "replayed": 1, "unopenable": 0, "looked_at": 2, "more": true }));
    bench.broker.event(&id(1), "completed").await;
    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "code": "ERS-0015" })).await;
    assert_eq!(answer.json()["replayed"], 1);
    bench.broker.event(&id(3), "completed").await;
    assert_eq!(letters(&bench, "").await.len(), 0);
}

#[tokio::test]
async fn a_replayed_invalid_message_is_republished_unchanged() {
    let bench = bench().await;
    let body = "{\"schema\": 1}";
    let properties = Properties {
        message_id: Some(id(3)),
        correlation_id: Some("order-7".to_owned()),
        user_id: Some("shop".to_owned()),
        ..Properties::default()
    };
    bench.broker.send(properties, body);
    bench.until("/v1/dead-letters", |page| page["dead_letters"].as_array().is_some_and(|all| all.len() == 1)).await;
    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "code": "ERS-0020" })).await;
    assert_eq!(answer.json()["replayed"], 1);
    let back = bench.broker.published(|publication| publication.to == Destination::Requests).await;
    assert_eq!(&back.body[..], body.as_bytes());
    assert_eq!(back.properties.message_id, Some(id(3)));
    assert_eq!(back.properties.correlation_id.as_deref(), Some("order-7"));
    assert_eq!(back.properties.user_id, None);
    assert!(back.properties.headers.keys().all(|name| !name.starts_with("x-erasure-")));
}

#[tokio::test]
async fn a_replay_needs_a_selection_and_a_discard_also_a_reason_and_a_name() {
    let bench = bench().await;
    failed(&bench, 1..=1).await;
    for body in [json!({}), json!({ "limit": 5 }), json!({ "all": false }), json!({ "all": true, "code": "ERS-0015" })]
    {
        assert_eq!(post(bench.addr, "/v1/dead-letters/replay", &body).await.problem(400), "bad-request", "{body}");
    }
    let long = "x".repeat(501);
    for body in [
        json!({ "code": "ERS-0015" }),
        json!({ "code": "ERS-0015", "reason": "done" }),
        json!({ "code": "ERS-0015", "by": "operations" }),
        json!({ "reason": "done", "by": "operations" }),
        json!({ "all": true, "reason": "done", "by": "operations" }),
        json!({ "code": "ERS-0015", "reason": " ", "by": "operations" }),
        json!({ "code": "ERS-0015", "reason": "two\nlines", "by": "operations" }),
        json!({ "code": "ERS-0015", "reason": long, "by": "operations" }),
        json!({ "job_id": "7", "reason": "done", "by": "operations" }),
    ] {
        assert_eq!(post(bench.addr, "/v1/dead-letters/discard", &body).await.problem(400), "bad-request", "{body}");
    }
    assert_eq!(letters(&bench, "").await.len(), 1);
}

#[tokio::test]
async fn a_discarded_job_keeps_its_end_and_the_operators_name_but_no_checkpoints() {
    let bench = bench().await;
    failed(&bench, 1..=2).await;
    let rows = |table| bench.engine.store().scan(table, b"", None, 100).unwrap().len();
    assert!(rows(Table::Job) == 2 && rows(Table::Journal) >= 2);
    let body = json!({ "job_id": id(1), "reason": "erased by hand", "by": "operations" });
    let answer = post(bench.addr, "/v1/dead-letters/discard", &body).await;
    assert_eq!(answer.json(), json!({ "discarded": 1, "looked_at": 2, "more": false }));
    assert_eq!(letters(&bench, "").await.len(), 1);
    let job = get(bench.addr, &format!("/v1/jobs/acme/{}", id(1))).await.json();
    assert_eq!((job["state"].as_str(), &job["timeline"]), (Some("failed"), &json!([])));
    assert_eq!(
        (job["discarded"]["by"].as_str(), job["discarded"]["reason"].as_str()),
        (Some("operations"), Some("erased by hand"))
    );
    let other = get(bench.addr, &format!("/v1/jobs/acme/{}", id(2))).await.json();
    assert!(!other["timeline"].as_array().unwrap().is_empty() && other["discarded"].is_null());
    assert_eq!(rows(Table::Job), 1);
}

#[tokio::test]
async fn the_discard_of_an_old_dead_letter_keeps_a_later_runs_checkpoints() {
    let bench = bench().await;
    failed(&bench, 1..=1).await;
    // The publisher repeats the job: a second run, which waits.
    let mut again = shop_job(&id(1), "rejected");
    again["retry"] = json!(true);
    again["targets"][0].as_object_mut().unwrap().remove("customer_password");
    bench.send(&again);
    let path = format!("/v1/jobs/acme/{}", id(1));
    bench.until(&path, |job| job["state"] == "needs_input").await;
    let body = json!({ "job_id": id(1), "reason": "an old one", "by": "operations" });
    let answer = post(bench.addr, "/v1/dead-letters/discard", &body).await;
    assert_eq!(answer.json()["discarded"], 1);
    let job = get(bench.addr, &path).await.json();
    assert_eq!((job["state"].as_str(), job["run"].as_u64()), (Some("needs_input"), Some(2)));
    assert!(!job["timeline"].as_array().unwrap().is_empty() && job["discarded"].is_null());
}

#[tokio::test]
async fn a_broker_that_refuses_a_replay_keeps_the_dead_letter() {
    let bench = bench().await;
    failed(&bench, 1..=2).await;
    bench.broker.refuses.lock().unwrap().letters = true;
    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!(answer.problem(503), "unavailable");
    assert!(answer.json()["detail"].as_str().unwrap().contains("0 dead letters"), "{}", answer.text);
    assert_eq!(letters(&bench, "").await.len(), 2);
}

#[tokio::test]
async fn an_unopenable_dead_letter_stays_and_is_counted() {
    let bench = bench().await;
    failed(&bench, 1..=2).await;
    *bench.shop.mended.lock().unwrap() = true;
    bench.broker.with_letters(|letters| {
        let mut body = letters[0].body.to_vec();
        let last = body.len() - 1;
        body[last] ^= 1;
        letters[0].body = body.into();
    });
    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!(answer.json(), json!({ "replayed": 1, "unopenable": 1, "looked_at": 2, "more": false }));
    bench.broker.event(&id(2), "completed").await;
    assert_eq!(letters(&bench, "").await[0]["job_id"], id(1));
}

#[tokio::test]
async fn a_message_dead_lettered_by_the_broker_gets_its_code_and_its_event() {
    let bench = bench_with(Setup { runs: false, ..Setup::default() }).await;
    let why = |word: &str| [("x-first-death-reason".to_owned(), HeaderValue::Text(word.to_owned()))];
    let bare = |number: u128, word| DeadLetter {
        properties: Properties { headers: why(word).into(), ..Properties::default() },
        body: shop_job(&id(number), "ann").to_string().into(),
    };
    bench.broker.with_letters(|letters| letters.extend([bare(1, "expired"), bare(2, "ann@example.com")]));
    let engine = std::sync::Arc::clone(&bench.engine);
    tokio::spawn(async move { engine.run().await });

    let event = bench.broker.event(&id(1), "rejected").await;
    assert_eq!(event["data"]["error"]["code"], "ERS-0026");
    assert_eq!((&event["data"]["final"], &event["data"]["tenant"]), (&json!(true), &json!("acme")));
    bench.broker.event(&id(2), "rejected").await;
    bench.until("/v1/dead-letters?code=ERS-0026", |page| page["matching"] == 2).await;
    let all = letters(&bench, "").await;
    assert_eq!((all.len(), &all[0]["job_id"], &all[0]["sealed"]), (2, &json!(id(1)), &json!(true)));
    assert!(all[0]["sentence"].as_str().unwrap().ends_with("(it expired)"));
    assert!(!all[1].to_string().contains("example.com"), "the broker's words are none of ours");

    let answer = post(bench.addr, "/v1/dead-letters/replay", &json!({ "job_id": id(1) })).await;
    assert_eq!(answer.json()["replayed"], 1);
    bench.broker.event(&id(1), "completed").await;
}

#[tokio::test]
async fn a_message_with_our_headers_dead_lettered_by_the_broker_makes_no_event() {
    let bench = bench_with(Setup { runs: false, ..Setup::default() }).await;
    let text = |name: &str, value: &str| (name.to_owned(), HeaderValue::Text(value.to_owned()));
    let forged = [
        text("x-first-death-reason", "expired"),
        text("x-erasure-code", "ERS-0026"),
        text("x-erasure-tenant", "victim"),
        text("x-erasure-job-id", &id(7)),
        text("x-erasure-at", "2020-01-01T00:00:00Z"),
        text("x-erasure-mac", &"00".repeat(32)),
        ("x-erasure-run".to_owned(), HeaderValue::Int(1)),
    ];
    let properties = Properties { headers: forged.into(), ..Properties::default() };
    let letter = DeadLetter { properties, body: "{}".into() };
    bench.broker.with_letters(|letters| letters.push(letter));
    assert_eq!(letters(&bench, "").await[0]["vouched"], false);
    let engine = std::sync::Arc::clone(&bench.engine);
    tokio::spawn(async move { engine.run().await });
    // Its code is that of an invalid message without a job.
    bench.until("/v1/dead-letters?code=ERS-0020", |page| page["matching"] == 1).await;
    let all = letters(&bench, "").await;
    assert_eq!((&all[0]["vouched"], &all[0]["tenant"], &all[0]["job_id"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!(all[0]["run"], 0);
    let to_victim =
        bench.broker.seen().published.into_iter().filter(|it| String::from_utf8_lossy(&it.body).contains("victim"));
    assert_eq!(to_victim.count(), 0);
}

//! Approvals over the API and the command line: who may decide, about which preview, and the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use erasure_worker::broker::Publication;
use erasure_worker::cli::Exit;
use erasure_worker::engine::Policy;
use erasure_worker::ops::OpsSettings;
use erasure_worker::store::{MemoryStore, Store, Table};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::post::Post;

use crate::bench::{Bench, Setup, bench, bench_with, id, shop_job};
use crate::command_line::say;
use crate::http::{ask, get, post};

fn path(number: u128, more: &str) -> String {
    format!("/v1/approvals/acme/{}{more}", id(number))
}

fn wanted(number: u128, word: &str, by: &str) -> Value {
    let mut job = shop_job(&id(number), word);
    job["approval"] = json!({ "requested_by": by });
    job
}

impl Bench {
    /// Publishes a job that needs an approval. Returns its first parked copy.
    async fn asks(&self, number: u128, word: &str, by: &str) -> Publication {
        self.send(&wanted(number, word, by));
        let copy = self.broker.parked(&id(number), 1).await;
        self.until(&path(number, ""), |one| one["preview"].is_string()).await;
        copy
    }

    async fn preview(&self, number: u128) -> Value {
        get(self.addr, &path(number, "")).await.json()["preview"].clone()
    }

    async fn decides(&self, number: u128, word: &str, by: &str) -> crate::http::Answer {
        let body = json!({ "preview": self.preview(number).await, "by": by });
        post(self.addr, &path(number, &format!("/{word}")), &body).await
    }
}

#[tokio::test]
async fn a_decision_needs_another_operator_and_the_shown_preview_and_is_made_once() {
    let bench = bench().await;
    let copy = bench.asks(1, "ann", "ann").await;
    let one = get(bench.addr, &path(1, "")).await.json();
    assert_eq!((&one["targets"][0]["preview"]["found"], &one["decided"]), (&json!(true), &Value::Null));
    assert_eq!(bench.decides(1, "approve", "ANN").await.problem(403), "wrong-operator");
    for (body, status, problem) in [
        (json!({ "preview": "00", "by": "bob" }), 409, "preview-changed"),
        (json!({ "preview": one["preview"] }), 400, "bad-request"),
        (json!({ "preview": one["preview"], "by": "" }), 400, "bad-request"),
        (json!({ "by": "bob" }), 400, "bad-request"),
    ] {
        assert_eq!(post(bench.addr, &path(1, "/approve"), &body).await.problem(status), problem, "{body}");
    }
    let unknown = post(bench.addr, &path(2, "/approve"), &json!({ "preview": "00", "by": "bob" })).await;
    assert_eq!(unknown.problem(404), "unknown-approval");
    let decided = bench.decides(1, "approve", "bob").await.json();
    assert_eq!((&decided["decision"], &decided["by"]), (&json!("approved"), &json!("bob")));
    assert_eq!(bench.decides(1, "approve", "carol").await.problem(409), "already-decided");
    bench.broker.come_back(&copy);
    let ended = bench.broker.event(&id(1), "completed").await;
    assert_eq!(ended["data"]["approval"]["by"], "bob");
    bench.until("/v1/approvals", |page| page["approvals"].as_array().is_some_and(Vec::is_empty)).await;
}

#[tokio::test]
async fn an_operator_with_a_token_decides_only_under_the_own_name() {
    let change = |settings: &mut OpsSettings| {
        let token = |name: &str| (name.to_owned(), SecretString::from(format!("token-of-{name}")));
        settings.operators = BTreeMap::from([token("ann"), token("bob")]);
    };
    let token = Some(SecretString::from("shared"));
    let bench = bench_with(Setup { token, change, ..Setup::default() }).await;
    bench.send(&wanted(1, "ann", "ann"));
    let copy = bench.broker.parked(&id(1), 1).await;
    let as_of = |whom: &str| format!("Bearer {whom}");
    let asked = async |whom: &str, method: &str, path: &str, body: &Value| {
        let (token, body) = (as_of(whom), body.to_string());
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        ask(bench.addr, method, path, &headers, body.as_bytes()).await
    };
    let preview = asked("token-of-bob", "GET", &path(1, ""), &json!({})).await.json()["preview"].clone();
    let approve = path(1, "/approve");
    for (whom, by, status) in [
        ("nobody", json!({ "preview": preview, "by": "bob" }), 401),
        ("shared", json!({ "preview": preview, "by": "bob" }), 403),
        ("token-of-ann", json!({ "preview": preview, "by": "bob" }), 403),
        ("token-of-ann", json!({ "preview": preview }), 403),
        ("token-of-bob", json!({ "preview": preview, "by": "ann" }), 403),
    ] {
        assert_eq!(asked(whom, "POST", &approve, &by).await.status, status, "{whom} {by}");
    }
    // Other decisions, too, refuse another operator's name.
    let pause = json!({ "reason": "trial", "by": "ann" });
    assert_eq!(asked("token-of-bob", "POST", "/v1/systems/shop/pause", &pause).await.problem(403), "wrong-operator");
    let decided = asked("token-of-bob", "POST", &approve, &json!({ "preview": preview })).await.json();
    assert_eq!(decided["by"], "bob");
    bench.broker.come_back(&copy);
    bench.broker.event(&id(1), "completed").await;
}

#[tokio::test]
async fn many_jobs_are_approved_at_once_except_the_operators_own_and_those_after_the_report() {
    let bench = bench().await;
    let mut copies = Vec::new();
    for (number, word, by) in [(1, "ann", "ann"), (2, "eve", "ann"), (3, "zoe", "bob")] {
        copies.push(bench.asks(number, word, by).await);
    }
    let said = say(&bench, "approvals list --limit 2").await;
    assert_eq!((said.exit, said.out.lines().count()), (Exit::Done, 3), "{}", said.out);
    assert!(said.err.contains(&format!("--after acme/{}", id(2))), "{}", said.err);
    let said = say(&bench, "approvals show acme/00000000-0000-0000-0000-000000000001").await;
    assert!(said.out.contains("requested_by: ann") && said.out.contains("found: yes"), "{}", said.out);
    let said = say(&bench, "approvals report").await;
    assert!(said.out.starts_with("3 jobs wait") && said.out.contains("MONEY BACK"), "{}", said.out);
    let report = get(bench.addr, "/v1/approvals/report").await.json();
    assert_eq!((&report["jobs"], &report["systems"][0]["found"]), (&json!(3), &json!(3)));
    bench.asks(4, "late", "ann").await;

    let as_of = report["as_of"].as_str().unwrap();
    let said = say(&bench, &format!("approvals approve --as-of {as_of} --by bob")).await;
    assert_eq!(said.exit, Exit::Failed, "one job is bob's own");
    assert!(
        said.out.starts_with("2 approved") && said.err.starts_with("1 are not decided"),
        "{} {}",
        said.out,
        said.err
    );
    assert_eq!(get(bench.addr, "/v1/approvals/report").await.json()["jobs"], 2);
    for copy in &copies[..2] {
        bench.broker.come_back(copy);
    }
    for number in [1, 2] {
        bench.broker.event(&id(number), "completed").await;
    }
    let preview = bench.preview(3).await;
    let line = format!("approvals reject acme/{} --preview {} --by bob", id(3), preview.as_str().unwrap());
    let said = say(&bench, &line).await;
    assert_eq!((said.exit, said.out.starts_with("1 rejected")), (Exit::Done, true), "{}", said.out);
    bench.broker.come_back(&copies[2]);
    let ended = bench.broker.event(&id(3), "cancelled").await;
    assert_eq!(ended["data"]["approval"]["decision"], "rejected");
    let rest = get(bench.addr, "/v1/approvals").await.json();
    assert_eq!(rest["approvals"].as_array().unwrap().len(), 1, "{rest}");
}

#[tokio::test]
async fn if_so_configured_every_erasure_needs_an_approval_and_its_tenant_counts_as_requester() {
    let policy = Policy { needs_approval: true, ..Policy::default() };
    let bench = bench_with(Setup { policy, ..Setup::default() }).await;
    let mut preview = shop_job(&id(2), "eve");
    preview["mode"] = json!("preview");
    bench.send(&preview);
    bench.broker.event(&id(2), "previewed").await;
    bench.asks(3, "cid", "ann").await;
    assert_eq!(get(bench.addr, &path(3, "")).await.json()["requested_by"], json!(["ann"]));

    bench.send(&shop_job(&id(1), "ann"));
    let copy = bench.broker.parked(&id(1), 1).await;
    let one = bench.until(&path(1, ""), |one| one["preview"].is_string()).await;
    assert_eq!(one["requested_by"], json!(["acme"]));
    assert_eq!(bench.decides(1, "approve", "Acme").await.problem(403), "wrong-operator");
    assert_eq!(bench.decides(1, "approve", "bob").await.status, 200);
    bench.broker.come_back(&copy);
    let ended = bench.broker.event(&id(1), "completed").await;
    assert_eq!(
        (&ended["data"]["approval"]["requested_by"], &ended["data"]["approval"]["by"]),
        (&json!(["acme"]), &json!("bob"))
    );
}

#[tokio::test]
async fn a_job_that_failed_before_approvals_were_required_needs_one_only_if_nothing_had_begun() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = bench_with(Setup { store: Arc::clone(&store), ..Setup::default() }).await;
    // Refused at the deletion: a call had begun.
    first.job(1, "rejected", "failed").await;
    let broker = Post::with_control(&first.broker.control);
    drop(first);
    let policy = Policy { needs_approval: true, ..Policy::default() };
    let second = bench_with(Setup { store, policy, broker, ..Setup::default() }).await;
    let mut again = shop_job(&id(1), "rejected");
    again["retry"] = json!(true);
    second.send(&again);
    second.broker.event(&id(1), "failed").await;
    assert_eq!(get(second.addr, "/v1/approvals").await.json()["approvals"], json!([]));
}

#[tokio::test]
async fn the_next_worker_obeys_an_approval_with_the_store_and_without() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = bench_with(Setup { store: Arc::clone(&store), ..Setup::default() }).await;
    let copies = [first.asks(1, "ann", "ann").await, first.asks(2, "eve", "ann").await];
    for number in [1, 2] {
        assert_eq!(first.decides(number, "approve", "bob").await.status, 200);
    }
    let broker = || Post::with_control(&first.broker.control);
    let kept = bench_with(Setup { store, broker: broker(), ..Setup::default() }).await;
    assert_eq!(get(kept.addr, &path(1, "")).await.json()["decided"]["by"], "bob");
    kept.broker.come_back(&copies[0]);
    kept.broker.event(&id(1), "completed").await;

    // The worker finds the same data as in the preview, so the decision is still valid.
    let lost = bench_with(Setup { broker: broker(), ..Setup::default() }).await;
    lost.broker.come_back(&copies[1]);
    let parked = lost.broker.parked(&id(2), 1).await;
    let one = lost.until(&path(2, ""), |one| one["preview"].is_string()).await;
    assert_eq!((&one["decided"]["by"], &one["decided"]["decision"]), (&json!("bob"), &json!("approved")));
    lost.broker.come_back(&parked);
    lost.broker.event(&id(2), "completed").await;
}

#[tokio::test]
async fn without_store_and_stream_an_approval_is_lost_and_requested_again() {
    let first = bench().await;
    let copy = first.asks(2, "eve", "ann").await;
    assert_eq!(first.decides(2, "approve", "bob").await.status, 200);
    let lost = bench().await;
    lost.broker.come_back(&copy);
    let again = lost.broker.event(&id(2), "needs_input").await;
    assert_eq!(
        (&again["data"]["inputs"][0]["kind"], &again["data"]["approval"]["decision"]),
        (&json!("approval"), &Value::Null)
    );
    let one = lost.until(&path(2, ""), |one| one["preview"].is_string()).await;
    assert_eq!((&one["decided"], &one["again"]), (&Value::Null, &json!(false)));
}

#[tokio::test]
async fn approvals_show_no_personal_data_and_refuse_invalid_requests() {
    let bench = bench().await;
    let mut job = wanted(1, "planted.ann", "ann");
    job["targets"].as_array_mut().unwrap().push(json!({
        "system": "library", "guid": "PLANTEDGUID", "reference": "planted-reference", "codes": [{ "code": "PLANTEDCODE" }],
    }));
    bench.send(&job);
    bench.until(&path(1, ""), |one| one["preview"].is_string()).await;
    for path in
        [path(1, ""), "/v1/approvals".to_owned(), "/v1/approvals/report".to_owned(), format!("/v1/jobs/acme/{}", id(1))]
    {
        let answer = get(bench.addr, &path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text.to_lowercase();
        assert!(!text.contains("planted") && !text.contains("example.com"), "{path}: {text}");
    }
    for table in [Table::Job, Table::Journal, Table::Meta, Table::Outbox] {
        for (row, value) in bench.engine.store().scan(table, b"", None, usize::MAX).unwrap() {
            let all = [row, value].concat();
            let text = String::from_utf8_lossy(&all).to_lowercase();
            assert!(!text.contains("planted"), "{table:?}: {text}");
        }
    }
    for path in
        ["/v1/approvals?limit=0", "/v1/approvals?after=x", "/v1/approvals?page=1", "/v1/approvals/report?limit=1"]
    {
        assert_eq!(get(bench.addr, path).await.problem(400), "bad-request", "{path}");
    }
    for body in
        [json!({ "by": "bob" }), json!({ "as_of": "yesterday", "by": "bob" }), json!({ "all": true, "by": "bob" })]
    {
        assert_eq!(post(bench.addr, "/v1/approvals/approve", &body).await.problem(400), "bad-request", "{body}");
    }
}

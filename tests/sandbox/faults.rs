//! Each fault has its documented effect, on the named calls alone.

use erasure_worker::sandbox::{Action, End, FaultPlan, FaultRule, Operation, Page};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Stand, answer, json_answer};

/// People 0 to 9 in all systems.
async fn stand() -> Stand {
    let stand = Stand::start().await;
    stand.sandbox().add_people(0..10);
    stand
}

/// Revokes the first code of a person.
fn revoke(stand: &Stand, person: u64) -> RequestBuilder {
    let call = stand.call(Method::DELETE, &format!("vitalsource/v4/codes/CODE{person}A"));
    call.header("X-VitalSource-API-Key", "VITALSOURCEKEY")
}

async fn with_fault(action: Action) -> Stand {
    let stand = stand().await;
    stand.sandbox().add_fault(FaultRule::on(Operation::RevokeCode, action).nth(1));
    stand
}

fn cancelled(stand: &Stand, person: u64) -> bool {
    let code = format!("CODE{person}A");
    stand.sandbox().world(|world| world.vitalsource("vitalsource").code(&code).unwrap().cancelled)
}

#[tokio::test]
async fn a_status_replaces_the_answer_and_the_work() {
    let stand = with_fault(Action::Status { status: 503, body: "later".into(), after_work: false }).await;
    assert_eq!(answer(revoke(&stand, 1)).await, (503, "later".into()));
    assert!(!cancelled(&stand, 1) && !stand.last().ambiguous());
    assert_eq!(answer(revoke(&stand, 1)).await.0, 200);
}

#[tokio::test]
async fn a_status_after_the_work_hides_that_the_work_was_done() {
    let stand = with_fault(Action::Status { status: 500, body: String::new(), after_work: true }).await;
    assert_eq!(answer(revoke(&stand, 1)).await.0, 500);
    assert!(cancelled(&stand, 1));
    assert!(stand.last().effect && stand.last().ambiguous());
}

#[tokio::test]
async fn drop_before_closes_the_connection_without_the_work() {
    let stand = with_fault(Action::DropBefore).await;
    let error = revoke(&stand, 1).send().await.unwrap_err();
    assert!(error.is_request() && error.status().is_none());
    assert!(!cancelled(&stand, 1));
    let entry = stand.last();
    assert_eq!((entry.end, entry.status, entry.fault.as_deref()), (End::Dropped, None, Some("drop_before")));
    assert_eq!(answer(revoke(&stand, 1)).await.0, 200);
}

#[tokio::test]
async fn drop_after_does_the_work_and_closes_the_connection() {
    let stand = with_fault(Action::DropAfter).await;
    // The client's second call reuses a connection.
    assert_eq!(answer(stand.get("_sandbox/summary")).await.0, 200);
    assert!(revoke(&stand, 1).send().await.is_err());
    assert!(cancelled(&stand, 1));
    let entry = stand.last();
    assert_eq!((entry.end, entry.status, entry.effect), (End::Dropped, None, true));
    assert_eq!(stand.sandbox().entries(0).len(), 1, "the client sent the call twice");
}

#[tokio::test]
async fn garbage_is_a_200_with_bytes_that_are_not_utf8() {
    let stand = with_fault(Action::Garbage).await;
    let reply = revoke(&stand, 1).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(std::str::from_utf8(&reply.bytes().await.unwrap()).is_err());
    assert!(cancelled(&stand, 1) && stand.last().ambiguous());
}

#[tokio::test]
async fn not_taken_answers_success_without_the_work() {
    let stand = with_fault(Action::NotTaken).await;
    assert_eq!(answer(revoke(&stand, 1)).await.0, 200);
    let entry = stand.last();
    assert!(!cancelled(&stand, 1) && !entry.effect && !entry.ambiguous());
    assert_eq!(entry.fault.as_deref(), Some("not_taken"));
    assert_eq!(answer(revoke(&stand, 1)).await.0, 200);
    assert!(cancelled(&stand, 1) && stand.last().effect);
}

#[tokio::test]
async fn a_gateway_page_replaces_the_answer_with_any_status() {
    let stand = stand().await;
    for page in Page::ALL {
        for status in [200, 401, 404, 502] {
            let action = Action::GatewayPage { status, page, after_work: false };
            stand
                .sandbox()
                .set_faults(FaultPlan { seed: 0, rules: vec![FaultRule::on(Operation::RevokeCode, action).nth(1)] });
            let (answered, body) = answer(revoke(&stand, 1)).await;
            assert_eq!((answered, body), (status, page.content(status).1));
            assert!(!cancelled(&stand, 1) && !stand.last().ambiguous(), "{page:?} {status}");
        }
    }
    assert!(Page::Proxy.content(404).1.contains("<h1>404 Not Found</h1>"));
    let action = Action::GatewayPage { status: 404, page: Page::DefaultBackend, after_work: true };
    stand.sandbox().set_faults(FaultPlan { seed: 0, rules: vec![FaultRule::on(Operation::RevokeCode, action)] });
    assert_eq!(answer(revoke(&stand, 1)).await, (404, "default backend - 404".into()));
    assert!(cancelled(&stand, 1) && stand.last().ambiguous());
}

#[tokio::test]
async fn a_rate_limit_has_a_retry_after() {
    let stand = with_fault(Action::RateLimited { retry_after: 7 }).await;
    let reply = revoke(&stand, 1).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert!(!cancelled(&stand, 1));
}

#[tokio::test]
async fn a_refused_credential_is_answered_in_each_systems_form() {
    let stand = stand().await;
    let rule = FaultRule { operation: None, ..FaultRule::on(Operation::Unknown, Action::CredentialRefused) };
    stand.sandbox().add_fault(rule);
    assert_eq!(answer(revoke(&stand, 1)).await.0, 401);
    assert!(!stand.last().credentials_ok && !cancelled(&stand, 1));
    let rpc = json_answer(stand.post("cleeng/rpc").json(&json!({}))).await;
    assert_eq!((rpc.0, &rpc.1["error"]["code"]), (200, &json!(3)));
    let shop = json_answer(stand.post("easycms/public_api/get_customer_exists")).await;
    assert_eq!((shop.0, &shop.1["OUTPUT"]["response_type"]), (200, &json!("error")));
    let member = json_answer(stand.get("loyalty/api/profile")).await;
    assert_eq!(member, (401, json!({ "error": "expired_token" })));
}

#[tokio::test]
async fn a_delayed_call_does_its_work_although_the_client_has_disconnected() {
    let stand = with_fault(Action::Delay { ms: 1_000, after_work: false }).await;
    let call = tokio::spawn(revoke(&stand, 1).send());
    stand.sandbox().wait_for(|entries| !entries.is_empty()).await;
    // Aborting the task closes the client's connection.
    call.abort();
    stand.sandbox().wait_for(|entries| entries[0].effect && entries[0].end != End::InHand).await;
    assert_eq!((stand.last().end, stand.last().status), (End::ClientGone, None));
    assert!(cancelled(&stand, 1) && stand.last().ambiguous());
}

#[tokio::test]
async fn a_delay_after_the_work_delays_only_the_answer() {
    let stand = with_fault(Action::Delay { ms: 30_000, after_work: true }).await;
    let call = tokio::spawn(revoke(&stand, 1).send());
    stand.sandbox().wait_for(|entries| entries.iter().any(|entry| entry.operation == Operation::RevokeCode)).await;
    // The work comes first: a read sees it while the call still waits.
    let read = stand.get("vitalsource/v4/codes/CODE1A").header("X-VitalSource-API-Key", "VITALSOURCEKEY");
    assert!(answer(read).await.1.contains("<deactivation-details>"));
    assert!(!call.is_finished());
    call.abort();
}

#[tokio::test]
async fn a_rule_applies_by_the_calls_number_count_and_subject() {
    let stand = stand().await;
    let fail = || Action::Status { status: 503, body: String::new(), after_work: false };
    let statuses = async |people: [u64; 4]| {
        let mut statuses = Vec::new();
        for person in people {
            statuses.push(answer(revoke(&stand, person)).await.0);
        }
        statuses
    };
    let set = |rule| stand.sandbox().set_faults(FaultPlan { seed: 0, rules: vec![rule] });
    set(FaultRule::on(Operation::RevokeCode, fail()).nth(2).times(2));
    assert_eq!(statuses([0, 1, 2, 3]).await, [200, 503, 503, 200]);
    set(FaultRule::on(Operation::RevokeCode, fail()).subject("CODE5A"));
    assert_eq!(statuses([4, 5, 5, 6]).await, [200, 503, 503, 200]);
    set(FaultRule::on(Operation::RevokeCode, fail()).nth(1).per_subject());
    assert_eq!(statuses([7, 8, 8, 7]).await, [503, 503, 200, 200]);
    set(FaultRule::on(Operation::UpdateUser, fail()));
    assert_eq!(statuses([1, 2, 9, 9]).await, [200, 200, 200, 469]);
}

#[tokio::test]
async fn a_probability_gives_the_same_faults_for_the_same_seed_in_any_order_of_subjects() {
    let draw = async |seed: u64, people: Vec<u64>| {
        let stand = stand().await;
        let fail = Action::Status { status: 503, body: String::new(), after_work: false };
        let rules = vec![FaultRule::on(Operation::RevokeCode, fail).probability(0.5)];
        stand.sandbox().set_faults(FaultPlan { seed, rules });
        let mut failed = Vec::new();
        for person in people {
            if answer(revoke(&stand, person)).await.0 == 503 {
                failed.push(person);
            }
        }
        failed.sort_unstable();
        failed
    };
    let (forward, backward) = (draw(1, (0..10).collect()).await, draw(1, (0..10).rev().collect()).await);
    assert_eq!(forward, backward);
    assert!(!forward.is_empty() && forward.len() < 10);
    assert_ne!(forward, draw(2, (0..10).collect()).await);
}

#[tokio::test]
async fn rules_are_set_listed_and_cleared_over_http() {
    let stand = stand().await;
    let rule = json!({ "operation": "vitalsource.revoke_code", "times": 1, "action": { "kind": "drop_before" } });
    stand.control(Method::PUT, "faults", json!({ "seed": 3, "rules": [] })).await;
    stand.control(Method::POST, "faults", json!([rule])).await;
    assert!(revoke(&stand, 1).send().await.is_err());
    let (_, listed) = json_answer(stand.get("_sandbox/faults")).await;
    assert_eq!(listed[0]["fired"], 1);
    assert_eq!(listed[0]["rule"]["operation"], "vitalsource.revoke_code");
    assert_eq!(answer(stand.call(Method::DELETE, "_sandbox/faults")).await.0, 204);
    assert_eq!(json_answer(stand.get("_sandbox/faults")).await.1, json!([]));
    let misspelt = json!({ "operation": "vitalsource.revoke", "action": { "kind": "drop_before" } });
    assert_eq!(answer(stand.post("_sandbox/faults").json(&misspelt)).await.0, 400);
    let (_, preset) = json_answer(stand.post("_sandbox/faults/misbehave?seed=9")).await;
    assert_eq!(preset["seed"], 9);
    assert_eq!(preset["rules"].as_array().map(Vec::len), Some(FaultPlan::misbehave(9).rules.len()));
}

#[tokio::test]
async fn a_stop_ends_waiting_calls_and_frees_the_port_and_the_data_stays() {
    let stand = with_fault(Action::Delay { ms: 3_600_000, after_work: false }).await;
    let call = tokio::spawn(revoke(&stand, 1).send());
    stand.sandbox().wait_for(|entries| !entries.is_empty()).await;
    let (addr, sandbox) = (stand.running.addr, stand.sandbox().clone());
    stand.running.stop().await;
    assert!(call.await.unwrap().is_err());
    let again = sandbox.serve(addr).await.unwrap();
    let state: Value = stand.client.get(again.url("_sandbox/state")).send().await.unwrap().json().await.unwrap();
    assert_eq!(state["vitalsource"]["codes"]["CODE1A"]["cancelled"], false);
}

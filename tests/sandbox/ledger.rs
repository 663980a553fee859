//! The ledger records the calls, and counts the repeats that a careful worker never makes.

use erasure_worker::sandbox::{
    Action, End, Entry, FaultPlan, FaultRule, Misuse, OTP_APART, Operation, Person, Summary, mint_jwt, summarise,
};
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Stand, answer, json_answer};

async fn stand() -> (Stand, Person) {
    let stand = Stand::start().await;
    let person = stand.sandbox().add_people(7..8).remove(0);
    (stand, person)
}

fn api(call: RequestBuilder) -> RequestBuilder {
    call.header("X-VitalSource-API-Key", "VITALSOURCEKEY")
        .header("X-Publisher-Token", "publisher-token")
        .header("Accept", "application/vnd.stellar-v1+json")
        .header("Authorization1", "easycms-token")
}

/// The destructive calls, each with its read-backs.
fn pairs(stand: &Stand, person: &Person) -> Vec<(Operation, RequestBuilder, Vec<RequestBuilder>)> {
    let call = |method, path: String| api(stand.call(method, &path));
    let id = &person.customer_id;
    let shop = |path: &str| {
        let fields = [
            ("username", "shop"),
            ("password", "easycms-password"),
            ("account", "1"),
            ("email", &person.email),
            ("customer_password", &person.customer_password),
        ];
        call(Method::POST, format!("easycms/public_api/{path}")).form(&fields)
    };
    let params = json!({ "publisherToken": "publisher-token", "customerEmail": person.email, "offerId": "S100_EX",
        "subscriptionData": { "status": "terminated" } });
    let rpc = json!({ "method": "updateCustomerSubscription", "params": params, "id": 1 });
    let core = |kind: &str, id: u64| {
        let why = if kind == "passes" { "publisherCancel" } else { "userCancel" };
        call(Method::POST, format!("cleeng/core/{kind}/{id}/terminate")).json(&json!({ "terminationType": why }))
    };
    let list = || call(Method::GET, format!("cleeng/core/entitlements?customerId={id}&offset=0&limit=9&status=all"));
    let offers =
        || call(Method::GET, format!("cleeng/mediastore/customers/{id}/offers")).bearer_auth(mint_jwt(id, None));
    let member = || call(Method::GET, "loyalty/program/api/members/INT-7?access_token=program-token".into());
    let profile = |method| call(method, "loyalty/api/profile".into()).bearer_auth(&person.access_token);
    let password = || Form::new().text("current_password", person.current_password.clone());
    let token = || Form::new().text("access_token", "program-token");
    vec![
        (Operation::UpdateSubscription, call(Method::POST, "cleeng/rpc".into()).json(&rpc), vec![list(), offers()]),
        (Operation::TerminateSubscription, core("subscriptions", 1_000_014), vec![list(), offers()]),
        (Operation::TerminatePass, core("passes", 1_000_015), vec![list(), offers()]),
        (
            Operation::DeleteCustomer,
            call(Method::DELETE, format!("cleeng/core/customers/{id}")),
            vec![call(Method::GET, format!("cleeng/core/customers/{id}"))],
        ),
        (
            Operation::DeleteMember,
            call(Method::DELETE, "loyalty/program/api/members/M7".into()).multipart(token()),
            vec![member()],
        ),
        (Operation::DeleteProfile, profile(Method::DELETE).multipart(password()), vec![member()]),
        (Operation::DeleteAccount, shop("set_customer_delete_account"), vec![shop("get_customer_exists")]),
        (
            Operation::RevokeCode,
            call(Method::DELETE, "vitalsource/v4/codes/CODE7A".into()),
            vec![call(Method::GET, "vitalsource/v4/codes/CODE7A".into())],
        ),
        (
            Operation::UpdateUser,
            call(Method::PUT, format!("vitalsource/v3/users.xml/{}", person.guid))
                .body("<user><email>X@EXAMPLE.COM</email></user>"),
            vec![call(Method::GET, format!("vitalsource/v3/users.xml/{}", person.reference))],
        ),
    ]
}

/// Multipart bodies cannot be cloned, so each sending builds its own pair.
fn pair(stand: &Stand, person: &Person, operation: Operation) -> (RequestBuilder, Vec<RequestBuilder>) {
    let found = pairs(stand, person).into_iter().find(|(named, ..)| *named == operation).unwrap();
    (found.1, found.2)
}

async fn summary(stand: &Stand) -> Summary {
    stand.get("_sandbox/summary").send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_lost_destructive_call_of_any_kind_repeated_without_a_read_back_is_counted() {
    let (stand, person) = stand().await;
    for (operation, ..) in pairs(&stand, &person) {
        stand.sandbox().clear_ledger();
        let rules = vec![FaultRule::on(operation, Action::DropBefore).nth(1)];
        stand.sandbox().set_faults(FaultPlan { seed: 0, rules });
        assert!(pair(&stand, &person, operation).0.send().await.is_err());
        pair(&stand, &person, operation).0.send().await.unwrap();
        let summary = summary(&stand).await;
        assert_eq!(summary.ambiguous_repeats.len(), 1, "{operation:?}");
        let repeat = &summary.ambiguous_repeats[0];
        assert_eq!((repeat.operation, repeat.repeat_seq), (operation, repeat.first_seq + 1));
        assert!(repeat.subject.is_some());
        assert_eq!(summary.by_operation[&operation].unanswered, 1);
    }
}

#[tokio::test]
async fn a_repeat_after_any_of_its_read_backs_is_not_counted() {
    let (stand, person) = stand().await;
    for (operation, _, reads) in pairs(&stand, &person) {
        for (place, _) in reads.iter().enumerate() {
            stand.sandbox().clear_ledger();
            let rules = vec![FaultRule::on(operation, Action::DropBefore).nth(1)];
            stand.sandbox().set_faults(FaultPlan { seed: 0, rules });
            assert!(pair(&stand, &person, operation).0.send().await.is_err());
            pair(&stand, &person, operation).1.remove(place).send().await.unwrap();
            pair(&stand, &person, operation).0.send().await.unwrap();
            let summary = summary(&stand).await;
            assert_eq!(summary.ambiguous_repeats, [], "{operation:?} {place}");
            assert_eq!(summary.calls, 3);
        }
        // A fresh person for the next kind of call.
        stand.sandbox().reset();
        stand.sandbox().add_people(7..8);
    }
}

#[tokio::test]
async fn a_failed_read_or_a_read_of_another_subject_does_not_count_as_a_read_back() {
    let (stand, person) = stand().await;
    stand.sandbox().add_people(8..9);
    let operation = Operation::RevokeCode;
    let lose = || {
        stand.sandbox().clear_ledger();
        let failing_read = Action::Status { status: 503, body: String::new(), after_work: false };
        let rules = vec![
            FaultRule::on(operation, Action::DropAfter).nth(1),
            FaultRule::on(Operation::GetCode, failing_read).subject("CODE7A"),
        ];
        stand.sandbox().set_faults(FaultPlan { seed: 0, rules });
    };
    for read in ["vitalsource/v4/codes/CODE7A", "vitalsource/v4/codes/CODE8A"] {
        lose();
        assert!(pair(&stand, &person, operation).0.send().await.is_err());
        api(stand.get(read)).send().await.unwrap();
        pair(&stand, &person, operation).0.send().await.unwrap();
        assert_eq!(summary(&stand).await.ambiguous_repeats.len(), 1, "{read}");
    }
}

#[tokio::test]
async fn a_retry_after_a_plain_failure_is_no_repeat_but_a_retry_after_success_is() {
    let (stand, person) = stand().await;
    let failing = Action::Status { status: 503, body: String::new(), after_work: false };
    stand.sandbox().add_fault(FaultRule::on(Operation::DeleteAccount, failing).nth(1));
    for _ in 0..2 {
        pair(&stand, &person, Operation::DeleteAccount).0.send().await.unwrap();
    }
    let before = summary(&stand).await;
    assert_eq!((before.ambiguous_repeats.len(), before.effective_repeats.len()), (0, 0));
    pair(&stand, &person, Operation::DeleteAccount).0.send().await.unwrap();
    let after = summary(&stand).await;
    assert_eq!((after.ambiguous_repeats.len(), after.effective_repeats.len()), (0, 1));
}

#[tokio::test]
async fn calls_about_different_offers_of_one_customer_are_no_repeat() {
    let (stand, person) = stand().await;
    stand.sandbox().add_fault(FaultRule::on(Operation::UpdateSubscription, Action::DropAfter));
    for offer in ["S100_EX", "P200_EX"] {
        let params = json!({ "publisherToken": "publisher-token", "customerEmail": person.email, "offerId": offer,
            "subscriptionData": { "status": "terminated" } });
        let body = json!({ "method": "updateCustomerSubscription", "params": params, "id": 1 });
        assert!(stand.post("cleeng/rpc").json(&body).send().await.is_err());
    }
    let summary = summary(&stand).await;
    assert_eq!((summary.ambiguous_repeats.len(), summary.effects), (0, 2));
}

fn otp(seq: u64, at_ms: u64) -> Entry {
    Entry {
        seq,
        at_ms,
        system: "loyalty".into(),
        operation: Operation::RequestOtp,
        method: "POST".into(),
        path: "/api/profile/otp".into(),
        subject: Some("d1".into()),
        object: None,
        end: End::Answered,
        status: Some(200),
        fault: None,
        worked: true,
        effect: true,
        destructive: false,
        credentials_ok: true,
        misuse: None,
    }
}

#[test]
fn a_second_one_time_password_within_a_minute_is_counted() {
    assert_eq!(summarise(&[otp(1, 0), otp(2, 59_999)], OTP_APART).otp_repeats.len(), 1);
    assert_eq!(summarise(&[otp(1, 0), otp(2, 60_000)], OTP_APART).otp_repeats.len(), 0);
    let refused = Entry { effect: false, worked: false, status: Some(503), ..otp(1, 0) };
    assert_eq!(summarise(&[refused, otp(2, 10)], OTP_APART).otp_repeats.len(), 0);
    let lost = Entry { end: End::Dropped, status: None, ..otp(1, 0) };
    assert_eq!(summarise(&[lost, otp(2, 10)], OTP_APART).otp_repeats.len(), 1);
}

#[tokio::test]
async fn an_entry_describes_the_call_without_identifiers_and_the_ledger_is_read_after_a_number() {
    let (stand, person) = stand().await;
    pair(&stand, &person, Operation::DeleteMember).0.send().await.unwrap();
    let (_, all) = json_answer(stand.get("_sandbox/ledger")).await;
    let mut entry = all[0].clone();
    assert!(entry["at_ms"].take().as_u64() > Some(1_700_000_000_000));
    let expected = json!({
        "seq": 1, "at_ms": null, "system": "loyalty", "operation": "loyalty.delete_member", "method": "DELETE",
        "path": "/program/api/members/{id}", "subject": "db-7", "object": null, "end": "answered", "status": 200,
        "fault": null, "worked": true, "effect": true, "destructive": true, "credentials_ok": true, "misuse": null,
    });
    assert_eq!(entry, expected);
    assert_eq!(json_answer(stand.get("_sandbox/ledger?after=1")).await.1, json!([]));
    assert_eq!(answer(stand.call(Method::DELETE, "_sandbox/ledger")).await.0, 204);
    assert_eq!(answer(stand.get("loyalty/other")).await.0, 404);
    let (_, rest) = json_answer(stand.get("_sandbox/ledger?after=1")).await;
    assert_eq!((&rest[0]["seq"], &rest[0]["operation"]), (&json!(2), &json!("unknown")));
}

#[tokio::test]
async fn the_summary_counts_calls_effects_faults_and_misuse() {
    let (stand, person) = stand().await;
    pair(&stand, &person, Operation::RevokeCode).0.send().await.unwrap();
    pair(&stand, &person, Operation::RevokeCode).0.send().await.unwrap();
    answer(stand.get("loyalty/api/profile")).await;
    let summary = summary(&stand).await;
    assert_eq!(summary, stand.sandbox().summary());
    let revoked = &summary.by_operation[&Operation::RevokeCode];
    assert_eq!((revoked.calls, revoked.effects, revoked.faults, revoked.unanswered), (2, 1, 0, 0));
    assert_eq!((summary.calls, summary.effects, summary.misuse[&Misuse::WrongAccept]), (3, 1, 1));
}

#[tokio::test]
async fn a_persons_data_remains_until_every_system_has_erased_it() {
    let (stand, person) = stand().await;
    let all = [
        "cleeng: customer",
        "cleeng: entitlement",
        "loyalty: member",
        "easycms: account",
        "vitalsource: code",
        "vitalsource: user",
    ];
    assert_eq!(stand.sandbox().remains(&person), all);
    let calls = [
        Operation::UpdateSubscription,
        Operation::TerminatePass,
        Operation::DeleteCustomer,
        Operation::DeleteMember,
        Operation::DeleteAccount,
        Operation::RevokeCode,
    ];
    for operation in calls {
        pair(&stand, &person, operation).0.send().await.unwrap();
    }
    assert_eq!(stand.sandbox().remains(&person), ["vitalsource: code", "vitalsource: user"]);
    api(stand.call(Method::DELETE, "vitalsource/v4/codes/CODE7B")).send().await.unwrap();
    let body = "<user><first-name>A</first-name><last-name>B</last-name><affiliate>C</affiliate>\
                <email>D@EXAMPLE.COM</email></user>";
    let update = api(stand.call(Method::PUT, &format!("vitalsource/v3/users.xml/{}", person.guid)));
    update.body(body).send().await.unwrap();
    assert_eq!(stand.sandbox().remains(&person), Vec::<&str>::new());
}

#[tokio::test]
async fn people_are_added_by_number_and_a_reset_removes_all() {
    let (stand, _) = stand().await;
    let reply = stand.post("_sandbox/people").json(&json!({ "from": 1, "count": 2 })).send().await.unwrap();
    let people: Value = reply.json().await.unwrap();
    assert_eq!(people[1]["email"], "person2@example.com");
    assert!(stand.state().await["cleeng"]["customers"]["100000002"].is_object());
    assert_eq!(answer(stand.post("_sandbox/reset")).await.0, 204);
    assert_eq!(stand.state().await.get("cleeng"), None);
}

#[tokio::test]
async fn the_requesters_endpoint_records_its_calls() {
    let (stand, _) = stand().await;
    let call = stand.post("requester/abandon").header("X-Signature", "abc").json(&json!({ "job_id": "j1" }));
    assert_eq!(answer(call).await.0, 204);
    let state = stand.state().await;
    assert_eq!(state["requester"]["abandoned"][0]["headers"]["x-signature"], "abc");
    assert_eq!(state["requester"]["abandoned"][0]["body"], r#"{"job_id":"j1"}"#);
    assert_eq!((stand.last().operation, stand.last().subject.as_deref()), (Operation::Abandon, Some("j1")));
}

#[tokio::test]
async fn an_unknown_field_or_system_in_a_control_call_is_refused() {
    let (stand, _) = stand().await;
    let misspelt = json!({ "id": "1", "email": "a@example.com", "sharred": true });
    assert_eq!(answer(stand.post("_sandbox/cleeng/customers").json(&misspelt)).await.0, 400);
    assert_eq!(answer(stand.call(Method::PUT, "_sandbox/cleeng/settings").json(&json!({ "x": 1 }))).await.0, 400);
    assert_eq!(answer(stand.post("_sandbox/other/customers").json(&json!([]))).await.0, 404);
    assert_eq!(answer(stand.get("other/path")).await.0, 404);
}

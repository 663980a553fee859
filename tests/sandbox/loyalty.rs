//! The Loyalty platform's peculiarities.

use erasure_worker::sandbox::Misuse;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Stand, answer, json_answer};

const ACCEPT: &str = "application/vnd.stellar-v1+json";

/// Two members; the second one's card id is the first one's member id.
async fn stand() -> Stand {
    let stand = Stand::start().await;
    let members = json!([
        { "database_id": "d1", "member_id": "77", "integration_id": "INT/1 ä", "card_id": "c1",
          "email": "ann@example.com", "password": "secret", "access_tokens": ["token-1"] },
        { "database_id": "d2", "member_id": "78", "integration_id": "INT-2", "card_id": "77",
          "email": "bob@example.com", "password": "other", "access_tokens": ["token-2"] },
    ]);
    stand.seed("loyalty/members", members).await;
    stand
}

fn call(stand: &Stand, method: Method, path: &str) -> RequestBuilder {
    stand.call(method, &format!("loyalty/{path}")).header("Accept", ACCEPT)
}

fn read(stand: &Stand, id: &str) -> RequestBuilder {
    call(stand, Method::GET, &format!("program/api/members/{id}?access_token=program-token"))
}

fn delete(stand: &Stand, id: &str) -> RequestBuilder {
    let form = Form::new().text("access_token", "program-token");
    call(stand, Method::DELETE, &format!("program/api/members/{id}")).multipart(form)
}

fn delete_profile(stand: &Stand, token: &str, field: &'static str, value: &str) -> RequestBuilder {
    let form = Form::new().text(field, value.to_owned());
    call(stand, Method::DELETE, "api/profile").bearer_auth(token).multipart(form)
}

#[tokio::test]
async fn the_vendors_media_type_must_be_accepted() {
    let stand = stand().await;
    let path = "loyalty/program/api/members/d1?access_token=program-token";
    assert_eq!(json_answer(stand.get(path)).await.0, 406);
    assert_eq!(stand.last().misuse, Some(Misuse::WrongAccept));
    assert_eq!(json_answer(stand.get(path).header("Accept", ACCEPT)).await.0, 200);
}

#[tokio::test]
async fn a_bare_id_matches_four_kinds_of_id_and_may_find_the_wrong_person() {
    let stand = stand().await;
    for id in ["d1", "77", "INT%2F1%20%C3%A4", "c1"] {
        let (status, body) = json_answer(read(&stand, id)).await;
        assert_eq!((status, &body["email"]), (200, &json!("ann@example.com")), "{id}");
    }
    // Bob's card id finds Ann: it is her member id.
    assert_eq!(json_answer(delete(&stand, "77")).await, (200, json!({ "success": true })));
    assert_eq!(stand.last().subject.as_deref(), Some("d1"));
    let members = stand.state().await["loyalty"]["members"].clone();
    assert_eq!(members["d1"]["deleted"]["by"], "program_api");
    assert_eq!(members["d2"]["deleted"], Value::Null);
}

#[tokio::test]
async fn the_program_api_takes_its_token_only_as_a_multipart_field() {
    let stand = stand().await;
    let path = "program/api/members/d1";
    let urlencoded = call(&stand, Method::DELETE, path).form(&[("access_token", "program-token")]);
    assert_eq!(json_answer(urlencoded).await, (400, json!({ "error": "invalid_request" })));
    assert_eq!(stand.last().misuse, Some(Misuse::NotMultipart));
    assert_eq!(json_answer(call(&stand, Method::DELETE, path).bearer_auth("program-token")).await.0, 400);
    let wrong = call(&stand, Method::DELETE, path).multipart(Form::new().text("access_token", "wrong"));
    assert_eq!(json_answer(wrong).await, (401, json!({ "error": "expired_token" })));
    assert!(!stand.last().credentials_ok);
    assert_eq!(json_answer(delete(&stand, "d1").bearer_auth("x")).await.0, 200);
    assert_eq!(stand.last().misuse, Some(Misuse::NeedlessAuthorization));
}

#[tokio::test]
async fn a_deleted_member_is_absent_in_both_interfaces() {
    let stand = stand().await;
    assert_eq!(json_answer(delete(&stand, "d1")).await.0, 200);
    assert_eq!(json_answer(read(&stand, "d1")).await.0, 404);
    assert_eq!(json_answer(delete(&stand, "d1")).await.0, 404);
    let profile = call(&stand, Method::GET, "api/profile").bearer_auth("token-1");
    assert_eq!(json_answer(profile).await, (401, json!({ "error": "expired_token" })));
}

#[tokio::test]
async fn a_deletion_shows_after_some_reads_or_some_time() {
    let stand = stand().await;
    stand.set("loyalty", json!({ "visible_reads": 2 })).await;
    assert_eq!(json_answer(delete(&stand, "d1")).await.0, 200);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(json_answer(read(&stand, "d1")).await.0);
    }
    assert_eq!(seen, [200, 200, 404]);
    stand.set("loyalty", json!({ "visible_reads": 0, "visible_ms": 3_600_000 })).await;
    assert_eq!(json_answer(delete(&stand, "d2")).await.0, 200);
    assert_eq!(json_answer(read(&stand, "d2")).await.0, 200);
}

#[tokio::test]
async fn a_password_deletes_only_with_the_members_own_token() {
    let stand = stand().await;
    let wrong = delete_profile(&stand, "token-1", "current_password", "wrong");
    assert_eq!(json_answer(wrong).await, (422, json!({ "error": "invalid_request" })));
    let expired = delete_profile(&stand, "old", "current_password", "secret");
    assert_eq!(json_answer(expired).await, (401, json!({ "error": "expired_token" })));
    let profile = call(&stand, Method::GET, "api/profile").bearer_auth("token-1");
    assert_eq!(json_answer(profile).await.1["member_id"], "77");
    assert_eq!(json_answer(delete_profile(&stand, "token-1", "current_password", "secret")).await.0, 200);
    assert_eq!(stand.state().await["loyalty"]["members"]["d1"]["deleted"]["by"], "member_api");
}

#[tokio::test]
async fn a_one_time_password_is_sent_expires_and_needs_the_configured_field() {
    let stand = stand().await;
    stand.set("loyalty", json!({ "member_proof": "otp", "otp_field": "otp_code" })).await;
    let request = || call(&stand, Method::POST, "api/profile/otp").bearer_auth("token-1");
    let mailbox = || stand.get("_sandbox/loyalty/otp/d1");
    assert_eq!(json_answer(request()).await.0, 200);
    let (_, first) = json_answer(mailbox()).await;
    assert_eq!(first["sent"], 1);
    let wrong_field = delete_profile(&stand, "token-1", "code", first["code"].as_str().unwrap());
    assert_eq!(json_answer(wrong_field).await.0, 422);

    stand.set("loyalty", json!({ "otp_validity_ms": 0 })).await;
    assert_eq!(json_answer(request()).await.0, 200);
    let (_, stale) = json_answer(mailbox()).await;
    assert_eq!(stale["sent"], 2);
    assert_eq!(
        json_answer(delete_profile(&stand, "token-1", "otp_code", stale["code"].as_str().unwrap())).await.0,
        422
    );

    stand.set("loyalty", json!({ "otp_validity_ms": 300_000 })).await;
    assert_eq!(json_answer(request()).await.0, 200);
    let (_, fresh) = json_answer(mailbox()).await;
    assert_eq!(
        json_answer(delete_profile(&stand, "token-1", "otp_code", fresh["code"].as_str().unwrap())).await.0,
        200
    );
}

#[tokio::test]
async fn without_its_mail_key_the_platform_sends_no_one_time_password() {
    let stand = stand().await;
    stand.set("loyalty", json!({ "member_proof": "otp", "mfa_key_set": false })).await;
    let request = call(&stand, Method::POST, "api/profile/otp").bearer_auth("token-1");
    assert_eq!(answer(request).await, (500, "Internal Server Error".into()));
}

#[tokio::test]
async fn a_token_alone_deletes_if_the_platform_permits_it() {
    let stand = stand().await;
    let bare = || call(&stand, Method::DELETE, "api/profile").bearer_auth("token-1");
    assert_eq!(json_answer(bare()).await.0, 400);
    stand.set("loyalty", json!({ "member_proof": "token" })).await;
    assert_eq!(json_answer(bare()).await.0, 200);
}

#[tokio::test]
async fn errors_and_members_have_several_shapes() {
    let stand = stand().await;
    stand.set("loyalty", json!({ "error_body": "name" })).await;
    assert_eq!(answer(read(&stand, "nobody")).await, (404, r#"{"name":"not_found"}"#.into()));
    stand.set("loyalty", json!({ "error_body": "text" })).await;
    assert_eq!(answer(read(&stand, "nobody")).await, (404, "not_found".into()));
    stand.set("loyalty", json!({ "member_shape": "data" })).await;
    assert_eq!(json_answer(read(&stand, "d1")).await.1["data"]["card_id"], "c1");
    stand.set("loyalty", json!({ "member_shape": "opaque" })).await;
    assert_eq!(json_answer(read(&stand, "d1")).await.1, json!({ "status": "ok" }));
}

#[tokio::test]
async fn an_import_deletes_known_members_and_skips_unknown_ones() {
    let stand = stand().await;
    let import = |path: &str, file: &'static str| stand.post(&format!("_sandbox/loyalty/import{path}")).body(file);
    let (status, body) = json_answer(import("", "INT-2\nINT-9\n")).await;
    assert_eq!((status, &body["error"]), (422, &json!("Missing headers in file")));
    let (status, body) = answer(import("", "Integration ID\nINT-2\nINT-9\n")).await;
    assert_eq!((status, body.as_str()), (200, "Integration ID,status\nINT-2,deleted\nINT-9,skipped\n"));
    assert_eq!(stand.state().await["loyalty"]["members"]["d2"]["deleted"]["by"], "import");
    let (_, body) = answer(import("?leave_out=1", "email\nANN@example.com\nbob@example.com\n")).await;
    assert_eq!(body, "email,status\nbob@example.com,skipped\n");
    assert_eq!(json_answer(read(&stand, "d1")).await.0, 404);
}

#[tokio::test]
async fn a_member_can_be_deleted_manually() {
    let stand = stand().await;
    let by_hand = || stand.post("_sandbox/loyalty/manual_deletion").json(&json!({ "key": "member_id", "value": "77" }));
    assert_eq!(json_answer(by_hand()).await.1, json!({ "deleted": true }));
    assert_eq!(json_answer(by_hand()).await.1, json!({ "deleted": false }));
    assert_eq!(json_answer(read(&stand, "77")).await.0, 404);
}

#[tokio::test]
async fn a_second_instance_has_its_own_people_and_settings() {
    let stand = stand().await;
    stand.seed("loyalty@2/members", json!({ "database_id": "x1" })).await;
    stand.set("loyalty@2", json!({ "program_token": "second" })).await;
    let second = stand.get("loyalty@2/program/api/members/x1?access_token=second").header("Accept", ACCEPT);
    assert_eq!(json_answer(second).await.0, 200);
    assert_eq!(stand.last().system, "loyalty@2");
    assert_eq!(json_answer(read(&stand, "x1")).await.0, 404);
}

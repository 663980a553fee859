//! EasyCMS's peculiarities.

use erasure_worker::sandbox::Misuse;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{Stand, answer, json_answer};

const DELETE: &str = "easycms/public_api/set_customer_delete_account";
const EXISTS: &str = "easycms/public_api/get_customer_exists";
const NO_MATCH: &str = "this_account_does_not_exist_or_your_credentials_do_not_match_this_account";

async fn stand() -> Stand {
    let stand = Stand::start().await;
    stand.seed("easycms/accounts", json!({ "email": "ann+shop@example.com", "customer_password": "p&w=1" })).await;
    stand
}

fn fields(password: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("username", "shop"),
        ("password", "easycms-password"),
        ("account", "1"),
        ("email", "ann+shop@example.com"),
        ("customer_password", password),
    ]
}

fn post(stand: &Stand, path: &str, password: &'static str) -> RequestBuilder {
    stand.post(path).header("Authorization1", "easycms-token").form(&fields(password))
}

async fn output(call: RequestBuilder) -> Value {
    let (status, body) = json_answer(call).await;
    assert_eq!(status, 200);
    assert!(body["INFO"].is_object());
    body["OUTPUT"].clone()
}

#[tokio::test]
async fn a_repeated_deletion_answers_like_a_wrong_password() {
    let stand = stand().await;
    let wrong = output(post(&stand, DELETE, "wrong")).await;
    assert_eq!(wrong, json!({ "response_type": "error", "message": NO_MATCH }));
    let done = output(post(&stand, DELETE, "p&w=1")).await;
    assert_eq!(done, json!({ "response_type": "success", "message": "customer_acccount_deleted_successfully" }));
    assert_eq!(output(post(&stand, DELETE, "p&w=1")).await, wrong);
}

#[tokio::test]
async fn the_count_is_a_number_a_text_or_missing() {
    let stand = stand().await;
    assert_eq!(output(post(&stand, EXISTS, "")).await, json!({ "TOTAL_COUNT": 1 }));
    stand.set("easycms", json!({ "total_count": "string" })).await;
    assert_eq!(output(post(&stand, EXISTS, "")).await, json!({ "TOTAL_COUNT": "1" }));
    output(post(&stand, DELETE, "p&w=1")).await;
    assert_eq!(output(post(&stand, EXISTS, "")).await, json!({ "TOTAL_COUNT": "0" }));
    stand.set("easycms", json!({ "total_count": "missing" })).await;
    assert_eq!(output(post(&stand, EXISTS, "")).await, json!({}));
}

#[tokio::test]
async fn an_output_may_be_a_bare_string_or_missing() {
    let stand = stand().await;
    stand.set("easycms", json!({ "output": "bare_string" })).await;
    assert_eq!(output(post(&stand, DELETE, "wrong")).await, json!(NO_MATCH));
    stand.set("easycms", json!({ "output": "missing" })).await;
    assert_eq!(output(post(&stand, DELETE, "p&w=1")).await, Value::Null);
    assert!(stand.last().effect);
}

#[tokio::test]
async fn each_wrong_worker_credential_has_its_own_text_on_http_200() {
    let stand = stand().await;
    let wrong_header = stand.post(DELETE).header("Authorization1", "wrong").form(&fields("p&w=1"));
    let message = output(wrong_header).await["message"].clone();
    assert_eq!(message, "UN-AUTHORIZED - header is set but the header value is not correct!");
    for place in 0..3 {
        let mut wrong = fields("p&w=1");
        wrong[place].1 = "wrong";
        let call = stand.post(DELETE).header("Authorization1", "easycms-token").form(&wrong);
        let message = output(call).await["message"].clone();
        assert_eq!(message, "UN-AUTHORIZED - _user_name_password_is_set_but_wrong_value!");
        assert!(!stand.last().credentials_ok);
    }
}

#[tokio::test]
async fn credentials_in_the_query_string_are_refused_and_recorded_as_misuse() {
    let stand = stand().await;
    let path = format!("{DELETE}?username=shop&password=easycms-password");
    assert_eq!(output(post(&stand, &path, "p&w=1")).await["response_type"], "error");
    assert_eq!(stand.last().misuse, Some(Misuse::CredentialsInQuery));
    assert_eq!(stand.sandbox().summary().misuse[&Misuse::CredentialsInQuery], 1);
    assert!(!stand.last().effect);
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_recorded_as_misuse() {
    let stand = stand().await;
    let call = stand.post(DELETE).header("Authorization1", "easycms-token").json(&json!({ "username": "shop" }));
    assert_eq!(output(call).await["response_type"], "error");
    assert_eq!(stand.last().misuse, Some(Misuse::NotForm));
}

#[tokio::test]
async fn a_path_with_a_wrong_trailing_slash_is_redirected() {
    let stand = stand().await;
    assert_eq!(output(post(&stand, &format!("{EXISTS}/"), "")).await["TOTAL_COUNT"], 1);
    for (right, wrong_path, right_path) in
        [("with", DELETE.to_owned(), format!("/{DELETE}/")), ("without", format!("{DELETE}/"), format!("/{DELETE}"))]
    {
        stand.set("easycms", json!({ "slash": right })).await;
        let reply = post(&stand, &wrong_path, "p&w=1").send().await.unwrap();
        assert_eq!(reply.status(), 301);
        assert_eq!(reply.headers()["location"], *right_path);
        assert!(!stand.last().effect);
    }
}

#[tokio::test]
async fn an_unreachable_mail_server_gives_the_error_of_an_invalid_address() {
    let stand = stand().await;
    stand.set("easycms", json!({ "mail_server_answers": false })).await;
    assert_eq!(output(post(&stand, DELETE, "p&w=1")).await["message"], "email_is_not_valid");
    stand.set("easycms", json!({ "mail_server_answers": true })).await;
    assert_eq!(output(post(&stand, DELETE, "p&w=1")).await["response_type"], "success");
}

#[tokio::test]
async fn two_addresses_in_one_call_are_refused() {
    let stand = stand().await;
    let mut twice = fields("p&w=1");
    twice.push(("email", "bob@example.com"));
    let call = stand.post(DELETE).header("Authorization1", "easycms-token").form(&twice);
    assert_eq!(output(call).await["message"], "Maximum query size is 1 rows per query");
}

#[tokio::test]
async fn an_unknown_path_is_404() {
    let stand = stand().await;
    assert_eq!(answer(stand.post("easycms/public_api/other")).await.0, 404);
}

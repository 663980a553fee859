//! EasyCMS's replies and requests.

use erasure_worker::job::{Answer, FailureKind, Identity, InputKind, Reason, Spec, StepName};
use erasure_worker::systems::easycms::{EasyCms, EasyCmsSettings};
use erasure_worker::systems::{Facts, System};

use crate::stub::{Expect, Expect::Is, Stub, ask, assert_clean, fails, missing, one, quick, reply, reply_with, rows};

const UNREADABLE: Expect = Expect::Fails(FailureKind::Unreadable, Reason::UnreadableReply);
const AMBIGUOUS: Expect = Expect::Fails(FailureKind::Ambiguous, Reason::UnreadableReply);
const OURS: Expect = Expect::Fails(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable);
const EMAIL: Expect = Expect::Fails(FailureKind::Unreadable, Reason::EmailNotValid);
const REJECTED: Expect = Expect::Fails(FailureKind::Rejected, Reason::RequestRejected);

const BAD_HEADER: &str = r#"{"INFO":{},"OUTPUT":{"response_type":"error","message":"UN-AUTHORIZED - header is set but the header value is not correct!"}}"#;
const BAD_USER: &str = r#"{"INFO":{},"OUTPUT":"UN-AUTHORIZED - _user_name_password_is_set_but_wrong_value!"}"#;
const BAD_EMAIL: &str = r#"{"INFO":{},"OUTPUT":{"response_type":"error","message":"email_is_not_valid"}}"#;
const NO_ACCOUNT: &str = r#"{"INFO":{},"OUTPUT":{"response_type":"error","message":"this_account_does_not_exist_or_your_credentials_do_not_match_this_account"}}"#;
const TOO_LARGE: &str =
    r#"{"INFO":{},"OUTPUT":{"response_type":"error","message":"Maximum query size is 1 rows per query"}}"#;

pub fn client(stub: &Stub, delete_path: &str) -> EasyCms {
    let settings = EasyCmsSettings {
        base_url: stub.url.clone(),
        delete_path: delete_path.into(),
        authorization: "tok-header".into(),
        username: "shop & co".into(),
        password: "pa$$ w+rd".into(),
        account: "1".into(),
        probe_email: None,
    };
    EasyCms::new("easycms", settings, &quick()).expect("client")
}

pub const PATH: &str = "/public_api/set_customer_delete_account";

pub fn spec() -> Spec {
    Spec::EasyCms { email: "Ann+1@example.com".into(), customer_password: Some("pa$$&=%é".into()) }
}

/// Checks a step's result for each reply.
async fn table(stub: &Stub, client: &EasyCms, step: StepName, expected: &[(u16, &str, Expect)]) {
    rows(stub, client, &spec(), one(step), &Facts::default(), expected).await;
}

#[tokio::test]
async fn only_a_count_of_zero_means_absent() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    let found = || Is(Answer::Found(Identity::Same));
    table(&stub, &client, StepName::ReadBack, &[(200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0}}"#, missing(false))])
        .await;
    let gone = || missing(true);
    table(
        &stub,
        &client,
        StepName::ReadBack,
        &[
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":1}}"#, found()),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":"2"}}"#, found()),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0}}"#, gone()),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":"0"}}"#, gone()),
            (200, r#"{"OUTPUT":{"TOTAL_COUNT":0}}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0,"CUSTOMERS":[{"id":1}]}}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0},"error":"secret text"}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{}}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":null}}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":-1}}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":""}}"#, UNREADABLE),
            (
                200,
                r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0,"response_type":"error","message":"secret text"}}"#,
                UNREADABLE,
            ),
            (200, r#"{"INFO":{},"OUTPUT":"0"}"#, UNREADABLE),
            (200, r#"{"INFO":{},"OUTPUT":[]}"#, UNREADABLE),
            (200, r#"{"INFO":{"total_count":0}}"#, UNREADABLE),
            (200, r#"{"TOTAL_COUNT":0}"#, UNREADABLE),
            (200, "", UNREADABLE),
            (200, NO_ACCOUNT, UNREADABLE),
            (200, BAD_HEADER, OURS),
            (200, BAD_USER, OURS),
            (200, BAD_EMAIL, EMAIL),
            (200, TOO_LARGE, REJECTED),
            (
                500,
                r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0}}"#,
                fails(FailureKind::Unavailable, Reason::SystemUnavailable),
            ),
            (500, BAD_USER, OURS),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_deletion_is_done_only_if_the_response_type_says_success() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    let unclear = || Is(Answer::Unclear(Reason::WrongCustomerPassword));
    let done = r#"{"INFO":{"start":0},"OUTPUT":{"response_type":"success","message":"customer_acccount_deleted_successfully"}}"#;
    table(
        &stub,
        &client,
        StepName::DeleteAccount,
        &[
            (200, done, Is(Answer::Done)),
            (200, r#"{"INFO":{},"OUTPUT":{"response_type":"success"}}"#, Is(Answer::Done)),
            (
                200,
                r#"{"INFO":{},"OUTPUT":{"response_type":"success","message":"this_account_does_not_exist_x"}}"#,
                unclear(),
            ),
            (200, r#"{"INFO":{},"OUTPUT":{"message":"customer_acccount_deleted_successfully"}}"#, AMBIGUOUS),
            (200, r#"{"INFO":{},"OUTPUT":"customer_acccount_deleted_successfully"}"#, AMBIGUOUS),
            (200, r#"{"INFO":{},"OUTPUT":{"response_type":"error","message":"secret text"}}"#, AMBIGUOUS),
            (200, r#"{"response_type":"success"}"#, AMBIGUOUS),
            (200, r#"{"INFO":{}}"#, AMBIGUOUS),
            (200, "", AMBIGUOUS),
            (200, "<html>secret text</html>", AMBIGUOUS),
            (200, NO_ACCOUNT, unclear()),
            (
                200,
                r#"{"INFO":{},"OUTPUT":"this_account_does_not_exist_or_your_credentials_do_not_match_this_account"}"#,
                unclear(),
            ),
            (200, r#"{"message":"This_Account_does_not_exist"}"#, AMBIGUOUS),
            (200, "this_account_does_not_exist_or_your_credentials_do_not_match_this_account", AMBIGUOUS),
            (200, BAD_HEADER, OURS),
            (200, BAD_USER, OURS),
            (200, "\"UN-AUTHORIZED - something new\"", OURS),
            (200, BAD_EMAIL, EMAIL),
            (200, TOO_LARGE, REJECTED),
            (500, done, fails(FailureKind::Ambiguous, Reason::SystemUnavailable)),
            (404, done, AMBIGUOUS),
            (404, "", AMBIGUOUS),
            (403, "", AMBIGUOUS),
        ],
    )
    .await;
}

#[tokio::test]
async fn credentials_are_sent_encoded_and_only_in_header_and_body() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    stub.play([reply(200, "{}"), reply(200, "{}")]);
    let _ = ask(&client, &spec(), one(StepName::DeleteAccount), &Facts::default()).await;
    let _ = ask(&client, &spec(), one(StepName::Resolve), &Facts::default()).await;
    let seen = stub.seen();
    assert_eq!(seen[0].line, "POST /public_api/set_customer_delete_account HTTP/1.1");
    assert_eq!(seen[0].header("Authorization1"), Some("tok-header"));
    assert_eq!(seen[0].header("Authorization"), None);
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        seen[0].body,
        "username=shop+%26+co&password=pa%24%24+w%2Brd&account=1&email=Ann%2B1%40example.com\
         &customer_password=pa%24%24%26%3D%25%C3%A9"
    );
    assert_eq!(seen[1].line, "POST /public_api/get_customer_exists HTTP/1.1");
    assert!(!seen[1].body.contains("customer_password"));
}

#[tokio::test]
async fn the_existence_call_keeps_the_trailing_slash_of_the_delete_path() {
    let stub = Stub::start().await;
    let client = client(&stub, "/public_api/set_customer_delete_account/");
    stub.play([reply(200, "{}"), reply(200, "{}")]);
    let _ = ask(&client, &spec(), one(StepName::DeleteAccount), &Facts::default()).await;
    let _ = ask(&client, &spec(), one(StepName::Resolve), &Facts::default()).await;
    let seen = stub.seen();
    assert_eq!(seen[0].line, "POST /public_api/set_customer_delete_account/ HTTP/1.1");
    assert_eq!(seen[1].line, "POST /public_api/get_customer_exists/ HTTP/1.1");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_reported_without_its_path() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    for (location, note) in [
        ("/public_api/set_customer_delete_account/", "redirected to the same path with a slash at its end"),
        ("https://prolasku.fi/public_api/x", "redirected to another host"),
        ("/x?email=ann@example.com", "redirected to another path"),
        ("/ann@example.com", "redirected to another path"),
        ("/customers/Ann-Example/", "redirected to another path"),
    ] {
        stub.play([reply_with(301, &format!("Location: {location}\r\n"), "")]);
        let failure = ask(&client, &spec(), one(StepName::DeleteAccount), &Facts::default()).await.expect_err("301");
        assert_eq!(
            (failure.kind, failure.note.map(|note| note.to_string()).as_deref()),
            (FailureKind::UnauthorisedOurs, Some(note))
        );
        stub.only();
    }
}

#[tokio::test]
async fn without_the_customers_password_nothing_is_sent() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    let spec = Spec::EasyCms { email: "ann@example.com".into(), customer_password: None };
    let failure = ask(&client, &spec, one(StepName::DeleteAccount), &Facts::default()).await.expect_err("asks");
    assert_eq!(failure.kind, FailureKind::UnauthorisedTheirs(InputKind::CustomerPassword));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_probe_names_no_person_and_reports_a_refused_credential() {
    let stub = Stub::start().await;
    let client = client(&stub, PATH);
    for (body, works) in [
        (r#"{"INFO":{},"OUTPUT":{"TOTAL_COUNT":0}}"#, true),
        (BAD_EMAIL, true),
        (BAD_HEADER, false),
        (BAD_USER, false),
        ("", false),
    ] {
        stub.play([reply(200, body)]);
        let result = client.probe().await;
        assert_eq!(result.is_ok(), works, "{body}");
        result.err().iter().for_each(assert_clean);
        let seen = stub.only();
        assert_eq!(seen.line, "POST /public_api/get_customer_exists HTTP/1.1");
        assert!(seen.body.contains("email=probe%40example.com"));
    }
}

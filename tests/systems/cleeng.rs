//! Cleeng's replies and requests.

mod entitlements;

use erasure_worker::job::{Answer, Entitlement, FailureKind, Identity, Reason, Spec, Step, StepName};
use erasure_worker::systems::cleeng::{Cleeng, CleengSettings, Termination};
use erasure_worker::systems::http::BuildError;
use erasure_worker::systems::{Facts, System};

use crate::stub::Expect::{self, Is};
use crate::stub::{Stub, ask, assert_clean, fails, missing, one, quick, reply, rows};

const CUSTOMER: &str = r#"{"success":true,"message":"","data":{"id":123456789,"email":"ann@EXAMPLE.com"}}"#;

const UNREADABLE: Expect = Expect::Fails(FailureKind::Unreadable, Reason::UnreadableReply);

const AMBIGUOUS: Expect = Expect::Fails(FailureKind::Ambiguous, Reason::UnreadableReply);

const OURS: Expect = Expect::Fails(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable);

pub fn settings(url: &str) -> CleengSettings {
    CleengSettings {
        core_url: format!("{url}/3.1"),
        rpc_url: format!("{url}/3.0/json-rpc"),
        mediastore_url: format!("{url}/media/"),
        publisher_token: "tok-publisher".into(),
        termination: Termination::JsonRpc,
        probe_customer_id: None,
    }
}

pub fn client(stub: &Stub) -> Cleeng {
    Cleeng::new("cleeng", settings(&stub.url), &quick()).expect("client")
}

pub fn backend() -> Spec {
    Spec::CleengBackend { customer_id: "123456789".into(), customer_email: "Ann@example.com".into() }
}

fn mediastore() -> Spec {
    Spec::CleengMediastore {
        customer_token: "tok-customer".into(),
        customer_id: "123456789".into(),
        customer_email: "Ann@example.com".into(),
    }
}

pub fn entitlement() -> Entitlement {
    Entitlement {
        offer_id: "S1_PL".into(),
        status: "active".into(),
        gives_access: true,
        externally_managed: false,
        is_pass: false,
        id: None,
    }
}

fn holding(entitlement: Entitlement) -> Facts {
    Facts { entitlement: Some(entitlement), ..Facts::default() }
}

async fn proven(stub: &Stub) -> Cleeng {
    let client = client(stub);
    stub.play([reply(200, CUSTOMER)]);
    ask(&client, &backend(), one(StepName::Resolve), &Facts::default()).await.expect("customer");
    stub.seen();
    client
}

#[tokio::test]
async fn a_customer_is_the_same_only_by_id_and_folded_email() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let found = |identity| Is(Answer::Found(identity));
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::Resolve),
        &Facts::default(),
        &[
            (404, r#"{"message":"Customer not found"}"#, missing(false)),
            (200, CUSTOMER, found(Identity::Same)),
            (404, r#"{"message":"Customer not found"}"#, missing(true)),
            (404, r#"{"success":false,"message":"Customer not found."}"#, missing(true)),
            (404, "", UNREADABLE),
            (404, "{}", UNREADABLE),
            (404, "<html>nothing here</html>", UNREADABLE),
            (404, "default backend - 404", UNREADABLE),
            (404, r#"{"message":"no Route matched with those values"}"#, UNREADABLE),
            (404, r#"{"success":true,"message":"Customer not found"}"#, UNREADABLE),
            (410, r#"{"message":"Customer not found"}"#, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (200, r#"{"data":{"id":"123456789","email":" ANN@example.com "}}"#, found(Identity::Same)),
            (200, r#"{"id":123456789,"email":"ann@example.com"}"#, found(Identity::Same)),
            (200, r#"{"success":true,"data":{"id":123456789,"email":"x@example.com"}}"#, found(Identity::Other)),
            (200, r#"{"success":true,"data":{"id":5,"email":"ann@example.com"}}"#, found(Identity::Other)),
            (200, r#"{"success":true,"data":{"id":123456789,"email":""}}"#, found(Identity::Blank)),
            (200, r#"{"success":true,"data":{"id":123456789,"email":null}}"#, found(Identity::Blank)),
            (
                200,
                r#"{"success":true,"data":{"id":123456789,"email":null,"firstName":"Ann"}}"#,
                found(Identity::Unreadable),
            ),
            (200, r#"{"success":true,"data":{"email":"ann@example.com"}}"#, found(Identity::Unreadable)),
            (200, r#"{"success":true,"data":{"id":123456789}}"#, found(Identity::Unreadable)),
            (200, r#"{"success":true,"data":{"id":{},"email":"ann@example.com"}}"#, UNREADABLE),
            (200, r#"{"success":false,"data":{"id":123456789,"email":"ann@example.com"}}"#, UNREADABLE),
            (200, r#"{"success":true,"data":[]}"#, UNREADABLE),
            (200, r#"{"something":"else"}"#, UNREADABLE),
            (200, "<html>login</html>", UNREADABLE),
            (200, "", UNREADABLE),
            (400, r#"{"message":"Invalid customerId format"}"#, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (401, "{}", OURS),
            (403, "{}", OURS),
            (302, "", OURS),
            (503, "{}", fails(FailureKind::Unavailable, Reason::SystemUnavailable)),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_search_by_email_needs_an_empty_list_for_absence_and_that_address_for_a_customer() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let found = |identity| Is(Answer::Found(identity));
    let open = || Is(Answer::Unclear(Reason::Unproven));
    rows(
        &stub,
        &client,
        &backend(),
        Step::item(StepName::Resolve, 1),
        &Facts::default(),
        &[
            // The token has not found a customer yet.
            (200, r#"{"items":[]}"#, open()),
            (200, r#"{"items":[{"id":5,"email":"bob@example.com"}]}"#, open()),
            (200, r#"{"items":[]}"#, open()),
            (200, r#"{"items":[{"id":5,"email":"ANN@example.com"}]}"#, found(Identity::Other)),
            (200, r#"{"items":[]}"#, missing(true)),
            (200, r#"{"items":[],"total":0}"#, missing(true)),
            (200, r#"{"success":true,"data":[]}"#, missing(true)),
            (404, r#"{"message":"Customer not found"}"#, missing(true)),
            (200, r#"{"success":true,"data":[{"id":"123456789","email":"ann@example.com"}]}"#, found(Identity::Same)),
            (
                200,
                r#"{"items":[{"id":4,"email":"bob@example.com"},{"id":5,"email":"ann@example.com"}]}"#,
                found(Identity::Other),
            ),
            // The system ignored the filter and returned the first customer.
            (200, r#"{"items":[{"id":5,"email":"bob@example.com"}]}"#, open()),
            (200, r#"{"items":[{"id":5}]}"#, open()),
            (200, r#"{"items":[{"email":"ann@example.com"}]}"#, open()),
            (200, r#"{"items":[{"id":{},"email":"ann@example.com"}]}"#, open()),
            (200, r#"{"items":[1]}"#, open()),
            (200, r#"{"items":[],"total":1}"#, open()),
            (200, r#"{"items":[],"next":"2"}"#, open()),
            (200, r#"{"items":{}}"#, open()),
            (200, r#"{"data":[]}"#, open()),
            (200, r#"{"success":true,"data":{}}"#, open()),
            (200, r#"{"something":"else"}"#, open()),
            (200, "{}", open()),
            (400, r#"{"message":"email is not valid"}"#, open()),
            (404, r#"{"message":"Not found"}"#, open()),
            (422, r#"{"message":"secret text"}"#, open()),
            (200, r#"{"success":false,"data":[]}"#, UNREADABLE),
            (200, r#"{"items":[],"errors":["busy"]}"#, UNREADABLE),
            (200, "[]", UNREADABLE),
            (200, "<html>login</html>", UNREADABLE),
            (200, "", UNREADABLE),
            (404, "", UNREADABLE),
            (401, "{}", OURS),
            (302, "", OURS),
            (503, "{}", fails(FailureKind::Unavailable, Reason::SystemUnavailable)),
        ],
    )
    .await;
    stub.play([reply(200, r#"{"items":[]}"#)]);
    ask(&client, &backend(), Step::item(StepName::Resolve, 1), &Facts::default()).await.expect("nobody");
    let seen = stub.only();
    assert_eq!(seen.line, "GET /3.1/customers?email=Ann%40example.com&limit=1 HTTP/1.1");
    assert_eq!(seen.header("x-publisher-token"), Some("tok-publisher"));
}

#[tokio::test]
async fn after_a_delete_another_customers_record_is_no_evidence() {
    let stub = Stub::start().await;
    let client = client(&stub);
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::ReadBack),
        &Facts::default(),
        &[
            (200, r#"{"data":{"id":5,"email":"gone@example.com"}}"#, UNREADABLE),
            (200, r#"{"data":{"id":123456789,"email":"gone@example.com"}}"#, Is(Answer::Found(Identity::Other))),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_delete_is_done_only_if_success_is_true() {
    let stub = Stub::start().await;
    let client = proven(&stub).await;
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::DeleteCustomer),
        &Facts::default(),
        &[
            (200, r#"{"data":[],"success":true,"message":"User deleted successfully"}"#, Is(Answer::Done)),
            (200, r#"{"data":[],"success":false,"message":"secret text"}"#, AMBIGUOUS),
            (200, r#"{"success":"true"}"#, AMBIGUOUS),
            (200, r#"{"success":true,"rows":[1]}"#, AMBIGUOUS),
            (200, "", AMBIGUOUS),
            (204, "", AMBIGUOUS),
            (404, "", AMBIGUOUS),
            (404, r#"{"message":"no Route matched with those values"}"#, AMBIGUOUS),
            (422, r#"{"message":"secret text"}"#, AMBIGUOUS),
            (401, "", AMBIGUOUS),
            (
                404,
                r#"{"message":"User does not exist or is also associated with other broadcasters"}"#,
                Is(Answer::Unclear(Reason::SharedCustomer)),
            ),
            (
                422,
                r#"{"message":"User has an active subscription"}"#,
                fails(FailureKind::Refused, Reason::ActiveEntitlement),
            ),
            (400, r#"{"message":"Invalid customerId format"}"#, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (401, r#"{"message":"secret text"}"#, OURS),
            (500, "{}", fails(FailureKind::Ambiguous, Reason::SystemUnavailable)),
        ],
    )
    .await;
    stub.play([reply(200, r#"{"success":true}"#)]);
    ask(&client, &backend(), one(StepName::DeleteCustomer), &Facts::default()).await.expect("done");
    let seen = stub.only();
    assert_eq!(seen.line, "DELETE /3.1/customers/123456789 HTTP/1.1");
    assert_eq!(seen.header("x-publisher-token"), Some("tok-publisher"));
    assert_eq!(seen.body, "");
}

#[tokio::test]
async fn a_probe_distinguishes_a_refused_token_and_a_wrong_address_from_good_ones() {
    let stub = Stub::start().await;
    let client = client(&stub);
    for (status, body, works) in [
        (200, r#"{"items":[]}"#, true),
        (400, r#"{"message":"x"}"#, true),
        (404, r#"{"message":"x"}"#, true),
        (404, "<html>x</html>", false),
        (200, "<html>x</html>", false),
        (401, "{}", false),
        (503, "{}", false),
    ] {
        stub.play([reply(status, body)]);
        let result = client.probe().await;
        assert_eq!(result.is_ok(), works, "{status} {body}");
        result.err().iter().for_each(assert_clean);
        assert!(stub.only().line.starts_with("GET /3.1/entitlements?customerId=0&"));
    }
}

#[tokio::test]
async fn wrong_settings_are_named_by_their_key() {
    let wrong = |change: fn(&mut CleengSettings)| {
        let mut settings = settings("http://127.0.0.1:1");
        change(&mut settings);
        Cleeng::new("cleeng", settings, &quick()).err()
    };
    assert_eq!(wrong(|s| s.core_url = "api".into()), Some(BuildError::Address { key: "core_url" }));
    assert_eq!(wrong(|s| s.publisher_token = "".into()), Some(BuildError::Credential { key: "publisher_token" }));
    assert_eq!(wrong(|s| s.publisher_token = "a\nb".into()), Some(BuildError::Credential { key: "publisher_token" }));
}

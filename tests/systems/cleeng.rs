//! Cleeng's replies and requests.

use erasure_worker::job::{Answer, Entitlement, FailureKind, Identity, InputKind, Reason, Spec, Step, StepName};
use erasure_worker::systems::cleeng::{Cleeng, CleengSettings, Termination};
use erasure_worker::systems::http::BuildError;
use erasure_worker::systems::{Facts, System};
use serde_json::{Value, json};

use crate::stub::{Expect, Expect::Is, Stub, ask, assert_clean, fails, missing, one, quick, reply, rows};

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
async fn a_customer_is_the_one_named_only_by_id_and_folded_email() {
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
async fn a_look_up_by_email_says_nobody_only_by_an_empty_list_and_somebody_only_by_a_record_with_that_address() {
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
            // Nobody was seen by this token yet.
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
            // As if the filter were not known: whoever is first.
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
async fn a_delete_is_done_only_where_success_is_true() {
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
async fn entitlements_that_clearly_ended_are_left_out_and_all_others_kept() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let list = json!({"items": [
        {"offerId": "S1_PL", "status": "active", "subscriptionId": 77, "customerId": 123456789},
        {"offerId": "S2_PL", "status": "cancelled", "expiresAt": 1},
        {"offerId": "S3_PL", "status": "expired"},
        {"offerId": "S4_PL", "status": "terminated"},
        {"offerId": "S5_PL", "status": "ended"},
        {"offerId": "P6_PL", "status": "active", "passId": "88", "subscriptionId": 99, "isExternallyManaged": true},
        {"offerId": "P7_PL", "status": "active", "offerType": "P", "subscriptionId": 99},
        {"offerId": "S8_PL", "status": "something new"},
        {"offerId": "S9_PL"},
        {"offerId": "S1_PL", "status": "active", "subscriptionId": 77, "expiresAt": 2},
    ]});
    stub.play([reply(200, list.to_string())]);
    let answer = ask(&client, &backend(), one(StepName::ListEntitlements), &Facts::default()).await.expect("list");
    let Answer::Entitlements(list) = answer else { panic!("a list") };
    let told: Vec<_> = list
        .iter()
        .map(|row| (row.offer_id.as_str(), row.status.as_str(), row.is_pass, row.id.as_deref(), row.externally_managed))
        .collect();
    assert_eq!(
        told,
        [
            ("S1_PL", "active", false, Some("77"), false),
            ("S2_PL", "cancelled", false, None, false),
            ("P6_PL", "active", true, Some("88"), true),
            ("P7_PL", "active", true, None, false),
            ("S8_PL", "unknown", false, None, false),
            ("S9_PL", "unknown", false, None, false),
        ]
    );
    assert!(list.iter().all(|row| row.gives_access));
    assert_eq!(
        stub.only().line,
        "GET /3.1/entitlements?customerId=123456789&offset=0&limit=20&status=all&offerType=SPAR HTTP/1.1"
    );
    assert!(client.credential().is_proven(), "a row named the customer");
}

#[tokio::test]
async fn a_list_that_is_not_recognised_is_never_empty() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let none = || Is(Answer::Entitlements(Vec::new()));
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::ListEntitlements),
        &Facts::default(),
        &[
            (200, r#"{"items":[]}"#, none()),
            (200, r#"{"success":true,"data":[]}"#, none()),
            (200, r#"{"success":false,"data":[]}"#, UNREADABLE),
            (200, r#"{"items":[],"data":[]}"#, UNREADABLE),
            (200, r#"{"items":null}"#, UNREADABLE),
            (200, r#"{"items":[],"total":0,"offset":0}"#, none()),
            (200, r#"{"items":[],"total":2}"#, UNREADABLE),
            (200, r#"{"items":[],"rows":[{"offerId":"S1_PL"}]}"#, UNREADABLE),
            (200, r#"{"items":[],"message":"secret text"}"#, UNREADABLE),
            (200, r#"{"items":[],"hasMore":true}"#, UNREADABLE),
            (200, r#"{"data":{}}"#, UNREADABLE),
            (200, "[]", UNREADABLE),
            (200, r#"{"data":[]}"#, UNREADABLE),
            (200, "{}", UNREADABLE),
            (200, "", UNREADABLE),
            (200, r#"{"items":[1]}"#, UNREADABLE),
            (200, r#"{"items":[{"status":"active"}]}"#, UNREADABLE),
            (200, r#"{"items":[{"offerId":"S1_PL","status":"active","customerId":5}]}"#, UNREADABLE),
            (404, r#"{"message":"secret text"}"#, UNREADABLE),
            (401, "{}", OURS),
        ],
    )
    .await;
    assert!(!client.credential().is_proven(), "with another publisher's token all lists are empty");
}

fn page(from: usize, count: usize) -> Value {
    let row = |index| json!({"offerId": format!("S{index}_PL"), "status": "active"});
    json!({"success": true, "data": (from..from + count).map(row).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_list_is_read_until_a_short_page() {
    let stub = Stub::start().await;
    let client = client(&stub);
    stub.play([page(0, 20), page(20, 20), page(40, 3)].map(|page| reply(200, page.to_string())));
    let answer = ask(&client, &backend(), one(StepName::ListEntitlements), &Facts::default()).await.expect("list");
    assert!(matches!(answer, Answer::Entitlements(list) if list.len() == 43));
    let offsets: Vec<bool> = stub
        .seen()
        .iter()
        .zip([0, 20, 40])
        .map(|(seen, offset)| seen.line.contains(&format!("offset={offset}&")))
        .collect();
    assert_eq!(offsets, [true, true, true]);
}

#[tokio::test]
async fn a_page_that_fails_fails_the_list() {
    let stub = Stub::start().await;
    let client = client(&stub);
    stub.play([reply(200, page(0, 20).to_string()), reply(503, "")]);
    let failure = ask(&client, &backend(), one(StepName::ListEntitlements), &Facts::default()).await.expect_err("503");
    assert_eq!(failure.kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn a_list_that_never_moves_on_is_unreadable_and_one_given_at_once_is_whole() {
    let stub = Stub::start().await;
    let client = client(&stub);
    stub.play([page(0, 20), page(0, 20)].map(|page| reply(200, page.to_string())));
    let result = ask(&client, &backend(), one(StepName::ListEntitlements), &Facts::default()).await;
    assert_eq!(result.expect_err("no end").kind, FailureKind::Unreadable);
    stub.play([page(0, 25), page(0, 25)].map(|page| reply(200, page.to_string())));
    let result = ask(&client, &backend(), one(StepName::ListEntitlements), &Facts::default()).await;
    assert!(matches!(result, Ok(Answer::Entitlements(list)) if list.len() == 25));
}

#[tokio::test]
async fn the_first_list_of_the_mediastore_flow_uses_the_customers_token_and_the_next_ours() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let theirs = fails(FailureKind::UnauthorisedTheirs(InputKind::CustomerToken), Reason::InputRefused);
    let row =
        r#"{"responseData":{"items":[{"offerId":"S1_PL","status":"active","isExternallyManaged":true}]},"errors":[]}"#;
    let managed = Entitlement { externally_managed: true, ..entitlement() };
    rows(
        &stub,
        &client,
        &mediastore(),
        one(StepName::ListEntitlements),
        &Facts::default(),
        &[
            (200, row, Is(Answer::Entitlements(vec![managed]))),
            (200, r#"{"responseData":{"items":[]},"errors":[]}"#, Is(Answer::Entitlements(Vec::new()))),
            (200, r#"{"responseData":{"items":[]},"errors":["secret text"]}"#, UNREADABLE),
            (200, r#"{"responseData":{},"errors":[]}"#, UNREADABLE),
            (200, r#"{"items":[]}"#, UNREADABLE),
            (401, r#"{"errors":["secret text"]}"#, theirs.clone()),
            (403, r#"{"errors":["secret text"]}"#, theirs),
            (401, "", UNREADABLE),
            (403, "<html>secret text</html>", UNREADABLE),
            (401, r#"{"message":"no Route matched with those values"}"#, UNREADABLE),
            (200, r#"{"responseData":{"items":[],"total":1},"errors":[]}"#, UNREADABLE),
            (200, r#"{"responseData":{"items":[],"pages":[[1]]},"errors":[]}"#, UNREADABLE),
        ],
    )
    .await;
    assert!(!client.credential().is_proven(), "the customer's token proves nothing of ours");
    stub.play([reply(200, row), reply(200, r#"{"items":[]}"#)]);
    ask(&client, &mediastore(), one(StepName::ListEntitlements), &Facts::default()).await.expect("offers");
    ask(&client, &mediastore(), Step::item(StepName::ListEntitlements, 1), &Facts::default()).await.expect("list");
    let seen = stub.seen();
    assert_eq!(seen[0].line, "GET /media/customers/123456789/offers HTTP/1.1");
    assert_eq!(seen[0].header("authorization"), Some("Bearer tok-customer"));
    assert_eq!(seen[0].header("x-publisher-token"), None);
    assert!(seen[1].line.starts_with("GET /3.1/entitlements?"));
    assert_eq!(seen[1].header("authorization"), None);
}

#[tokio::test]
async fn an_entitlement_ended_by_offer_is_done_only_where_the_result_says_terminated() {
    let stub = Stub::start().await;
    let client = client(&stub);
    let unclear = || Is(Answer::Unclear(Reason::ActiveEntitlement));
    let refused = |reason| fails(FailureKind::Refused, reason);
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::TerminateEntitlement),
        &holding(entitlement()),
        &[
            (200, r#"{"result":{"offerId":"S1_PL","status":"terminated"},"id":1}"#, Is(Answer::Done)),
            (200, r#"{"result":{"offerId":"S1_PL","status":"terminated"},"error":null,"id":"1"}"#, Is(Answer::Done)),
            (200, r#"{"result":{"offerId":"S1_PL","status":"terminated"},"error":false,"id":"1"}"#, Is(Answer::Done)),
            (200, r#"{"result":{"status":"terminated"},"error":false,"id":"1"}"#, unclear()),
            (200, r#"{"result":{"offerId":"S1_PL","status":"cancelled"},"id":1}"#, unclear()),
            (200, r#"{"result":{"offerId":"S1_PL","status":"terminated"},"id":1,"jsonrpc":"1.0"}"#, AMBIGUOUS),
            (404, r#"{"result":{"offerId":"S1_PL","status":"terminated"},"id":1}"#, AMBIGUOUS),
            (200, r#"{"result":{},"id":1}"#, unclear()),
            (200, r#"{"result":{"offerId":"S2_PL","status":"terminated"},"id":1}"#, AMBIGUOUS),
            (200, r#"{"result":{"status":"terminated"},"id":2}"#, AMBIGUOUS),
            (200, r#"{"result":{"status":"terminated"}}"#, AMBIGUOUS),
            (200, r#"{"result":true,"id":1}"#, AMBIGUOUS),
            (200, "OK", AMBIGUOUS),
            (200, r#"{"error":{"code":3,"message":"secret text"},"id":1}"#, OURS),
            (200, r#"{"error":{"code":"10","message":"secret text"},"id":1}"#, refused(Reason::IdentityMismatch)),
            (200, r#"{"error":{"code":4},"id":1}"#, refused(Reason::ActiveEntitlement)),
            (200, r#"{"error":{"code":8},"id":1}"#, refused(Reason::ActiveEntitlement)),
            (200, r#"{"error":{"code":16},"id":1}"#, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (200, r#"{"error":{"code":-32602},"id":null}"#, fails(FailureKind::Rejected, Reason::RequestRejected)),
            (200, r#"{"error":{"code":-32603},"id":1}"#, AMBIGUOUS),
            (200, r#"{"error":true,"result":{"status":"terminated"},"id":1}"#, AMBIGUOUS),
            (500, r#"{"error":{"code":3},"id":1}"#, fails(FailureKind::Ambiguous, Reason::SystemUnavailable)),
            (200, r#"{"error":{"code":10},"id":7}"#, AMBIGUOUS),
            (200, r#"{"error":{"message":"secret text"},"id":1}"#, AMBIGUOUS),
            (
                500,
                r#"{"result":{"status":"terminated"},"id":1}"#,
                fails(FailureKind::Ambiguous, Reason::SystemUnavailable),
            ),
            (401, "", AMBIGUOUS),
        ],
    )
    .await;
    let managed = Entitlement { externally_managed: true, ..entitlement() };
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::TerminateEntitlement),
        &holding(managed),
        &[
            (200, r#"{"error":{"code":8},"id":1}"#, refused(Reason::ExternallyManaged)),
            (200, r#"{"error":{"code":77},"id":1}"#, refused(Reason::ExternallyManaged)),
            (200, r#"{"error":{"code":3},"id":1}"#, OURS),
        ],
    )
    .await;
    stub.play([reply(200, r#"{"result":{"status":"terminated"},"id":1}"#)]);
    ask(&client, &backend(), one(StepName::TerminateEntitlement), &holding(entitlement())).await.expect("done");
    let seen = stub.only();
    assert_eq!(seen.line, "POST /3.0/json-rpc HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&seen.body).expect("json");
    assert_eq!(body["method"], "updateCustomerSubscription");
    assert_eq!(body["id"], 1);
    assert_eq!(body["params"]["publisherToken"], "tok-publisher");
    assert_eq!(body["params"]["customerEmail"], "Ann@example.com");
    assert_eq!(body["params"]["offerId"], "S1_PL");
    assert_eq!(body["params"]["subscriptionData"]["status"], "terminated");
    assert_eq!(body["params"]["subscriptionData"]["cancellationType"], "userCancel");
}

#[tokio::test]
async fn an_entitlement_with_an_id_is_ended_through_core_where_so_configured() {
    let stub = Stub::start().await;
    let by_id = CleengSettings { termination: Termination::Core, ..settings(&stub.url) };
    let client = Cleeng::new("cleeng", by_id, &quick()).expect("client");
    let with_id = Entitlement { id: Some("7/7".into()), ..entitlement() };
    let unclear = || Is(Answer::Unclear(Reason::ActiveEntitlement));
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::TerminateEntitlement),
        &holding(with_id.clone()),
        &[
            (200, r#"{"id":"7/7","status":"terminated"}"#, Is(Answer::Done)),
            (200, r#"{"id":"7/7","status":"active"}"#, unclear()),
            (200, r#"{"id":77,"status":"terminated"}"#, unclear()),
            (200, r#"{"id":"7/7","offerId":"S2_PL","status":"terminated"}"#, unclear()),
            (200, r#"{"status":"terminated"}"#, unclear()),
            (200, "{}", unclear()),
            (200, "", AMBIGUOUS),
            (404, r#"{"message":"secret text"}"#, unclear()),
            (404, "<html>secret text</html>", AMBIGUOUS),
            (422, r#"{"message":"secret text"}"#, fails(FailureKind::Refused, Reason::ActiveEntitlement)),
            (422, "", AMBIGUOUS),
            (401, r#"{"message":"secret text"}"#, OURS),
        ],
    )
    .await;
    let managed = Entitlement { externally_managed: true, ..with_id.clone() };
    rows(
        &stub,
        &client,
        &backend(),
        one(StepName::TerminateEntitlement),
        &holding(managed),
        &[(422, r#"{"message":"secret text"}"#, fails(FailureKind::Refused, Reason::ExternallyManaged))],
    )
    .await;
    let pass = Entitlement { is_pass: true, ..with_id.clone() };
    for (facts, line, body) in [
        (holding(with_id), "POST /3.1/subscriptions/7%2F7/terminate HTTP/1.1", r#"{"terminationType":"userCancel"}"#),
        (holding(pass), "POST /3.1/passes/7%2F7/terminate HTTP/1.1", ""),
        (holding(entitlement()), "POST /3.0/json-rpc HTTP/1.1", "updateCustomerSubscription"),
    ] {
        stub.play([reply(200, "{}")]);
        let _ = ask(&client, &backend(), one(StepName::TerminateEntitlement), &facts).await;
        let seen = stub.only();
        assert_eq!(seen.line, line);
        assert!(seen.body.contains(body));
    }
}

#[tokio::test]
async fn a_probe_tells_a_refused_token_and_a_wrong_address_from_a_good_one() {
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

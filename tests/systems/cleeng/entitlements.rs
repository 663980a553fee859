//! Entitlements: their list, its pages, and the end of an entitlement.

use erasure_worker::job::{Answer, Entitlement, FailureKind, InputKind, Reason, Step, StepName};
use erasure_worker::systems::cleeng::{Cleeng, CleengSettings, Termination};
use erasure_worker::systems::{Facts, System};
use serde_json::{Value, json};

use super::{AMBIGUOUS, OURS, UNREADABLE, backend, client, entitlement, holding, mediastore, settings};
use crate::stub::Expect::Is;
use crate::stub::{Stub, ask, fails, one, quick, reply, rows};

#[tokio::test]
async fn only_clearly_ended_entitlements_are_omitted() {
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
    let read: Vec<_> = list
        .iter()
        .map(|row| (row.offer_id.as_str(), row.status.as_str(), row.is_pass, row.id.as_deref(), row.externally_managed))
        .collect();
    assert_eq!(
        read,
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
async fn an_unrecognised_list_never_counts_as_empty() {
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
async fn a_list_with_repeated_pages_is_unreadable_and_a_list_in_one_page_is_complete() {
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
async fn the_mediastore_flow_first_lists_with_the_customers_token_and_then_with_ours() {
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
async fn an_entitlement_ended_by_offer_is_done_only_if_the_result_says_terminated() {
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
async fn an_entitlement_with_an_id_is_ended_by_core_if_so_configured() {
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

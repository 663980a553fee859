//! Cleeng's peculiarities.

use erasure_worker::sandbox::mint_jwt;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Stand, json_answer};

const ID: &str = "123456789";
const OFFERS: &str = "cleeng/mediastore/customers/123456789/offers";

/// One customer with an active subscription, a cancelled pass and an active rental.
async fn stand() -> Stand {
    let stand = Stand::start().await;
    let entitlements = json!([
        { "offer_id": "S1", "id": 11, "expires_at": 1 },
        { "offer_id": "P1", "id": 12, "kind": "pass", "status": "cancelled" },
        { "offer_id": "R1", "id": 13, "kind": "rental" },
    ]);
    let customer = json!({ "id": ID, "email": "Ann@example.com", "first_name": "Ann", "entitlements": entitlements });
    stand.seed("cleeng/customers", customer).await;
    stand
}

fn core(stand: &Stand, method: Method, path: &str) -> RequestBuilder {
    stand.call(method, &format!("cleeng/core/{path}")).header("X-Publisher-Token", "publisher-token")
}

fn list(stand: &Stand, query: &str) -> RequestBuilder {
    core(stand, Method::GET, &format!("entitlements?customerId={ID}&{query}"))
}

fn delete(stand: &Stand, id: &str) -> RequestBuilder {
    core(stand, Method::DELETE, &format!("customers/{id}"))
}

fn update(stand: &Stand, offer: &str) -> RequestBuilder {
    update_as(stand, offer, "ann@example.com", "publisher-token", "terminated")
}

fn update_as(stand: &Stand, offer: &str, email: &str, token: &str, status: &str) -> RequestBuilder {
    let params = json!({
        "publisherToken": token, "customerEmail": email, "offerId": offer,
        "subscriptionData": { "status": status, "cancellationType": "userCancel", "cancellationReason": "erasure" },
    });
    let body = json!({ "method": "updateCustomerSubscription", "params": params, "jsonrpc": "2.0", "id": 1 });
    stand.post("cleeng/rpc").json(&body)
}

fn offers_of(body: &Value) -> Vec<&str> {
    body.as_array().unwrap().iter().map(|row| row["offerId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_needs_both_offset_and_limit() {
    let stand = stand().await;
    assert_eq!(json_answer(list(&stand, "status=all&limit=10")).await.0, 400);
    assert_eq!(json_answer(list(&stand, "status=all&offset=0")).await.0, 400);
}

#[tokio::test]
async fn customers_are_found_by_email_in_any_letter_case_until_they_are_erased() {
    let stand = stand().await;
    let customers = |query: &str| core(&stand, Method::GET, &format!("customers?{query}"));
    assert_eq!(json_answer(customers("limit=1")).await.0, 400);
    let (_, found) = json_answer(customers("email=ANN%40example.com&limit=1")).await;
    assert_eq!((&found["items"][0]["id"], &found["items"][0]["email"]), (&json!(ID), &json!("Ann@example.com")));
    for nobody in ["email=bob%40example.com&limit=1", "externalId=7&limit=1"] {
        assert_eq!(json_answer(customers(nobody)).await, (200, json!({ "items": [] })));
    }
    stand.set("cleeng", json!({ "list_shape": "data" })).await;
    let (_, found) = json_answer(customers("email=ann%40example.com&limit=1")).await;
    assert_eq!((&found["success"], found["data"].as_array().unwrap().len()), (&json!(true), 1));
    update(&stand, "S1").send().await.unwrap();
    assert_eq!(json_answer(delete(&stand, ID)).await.0, 200);
    let (_, found) = json_answer(customers("email=ann%40example.com&limit=1")).await;
    assert_eq!(found["data"], json!([]));
}

#[tokio::test]
async fn rentals_are_listed_only_if_every_kind_is_requested() {
    let stand = stand().await;
    let (_, some) = json_answer(list(&stand, "offset=0&limit=10&status=all")).await;
    assert_eq!(offers_of(&some["items"]), ["S1", "P1"]);
    let (_, all) = json_answer(list(&stand, "offset=0&limit=10&status=all&offerType=SPAR")).await;
    assert_eq!(offers_of(&all["items"]), ["S1", "P1", "R1"]);
    assert_eq!(
        all["items"][0],
        json!({
            "customerId": ID, "offerId": "S1", "status": "active", "expiresAt": 1, "subscriptionId": 11
        })
    );
    assert_eq!(all["items"][1]["passId"], 12);
}

#[tokio::test]
async fn a_list_has_pages_and_two_shapes() {
    let stand = stand().await;
    stand.set("cleeng", json!({ "list_shape": "data", "list_ids": false })).await;
    let (_, page) = json_answer(list(&stand, "offset=1&limit=1&status=all&offerType=SPAR")).await;
    assert_eq!(page["success"], true);
    assert_eq!(offers_of(&page["data"]), ["P1"]);
    assert_eq!(page["data"][0].get("passId"), None);
}

#[tokio::test]
async fn an_unstable_order_shifts_rows_between_pages() {
    let stand = stand().await;
    stand.set("cleeng", json!({ "unstable_order": true })).await;
    let (_, first) = json_answer(list(&stand, "offset=0&limit=3&status=all&offerType=SPAR")).await;
    let (_, second) = json_answer(list(&stand, "offset=0&limit=3&status=all&offerType=SPAR")).await;
    assert_ne!(offers_of(&first["items"]), offers_of(&second["items"]));
}

#[tokio::test]
async fn rpc_answers_success_with_a_text_id_and_each_form_of_an_empty_error() {
    for (setting, expected) in [("false", Some(json!(false))), ("null", Some(Value::Null)), ("absent", None)] {
        let stand = stand().await;
        stand.set("cleeng", json!({ "rpc_error": setting })).await;
        let (status, body) = json_answer(update(&stand, "S1")).await;
        assert_eq!((status, &body["id"]), (200, &json!("1")));
        assert_eq!(body["result"], json!({ "offerId": "S1", "status": "terminated", "expiresAt": 1 }));
        assert_eq!(body.get("error").cloned(), expected);
    }
}

#[tokio::test]
async fn rpc_errors_have_http_status_200() {
    let stand = stand().await;
    let code = async |call| {
        let (status, body) = json_answer(call).await;
        assert_eq!(status, 200);
        assert!(body["error"]["message"].is_string() && body.get("result").is_none());
        body["error"]["code"].as_i64().unwrap()
    };
    assert_eq!(code(update_as(&stand, "S1", "ann@example.com", "wrong", "terminated")).await, 3);
    assert!(!stand.last().credentials_ok);
    assert_eq!(code(update(&stand, "S9")).await, 4);
    assert_eq!(code(update_as(&stand, "S1", "bob@example.com", "publisher-token", "terminated")).await, 10);
    assert_eq!(code(update_as(&stand, "S1", "ann@example.com", "publisher-token", "gone")).await, 16);
}

#[tokio::test]
async fn neither_termination_call_ends_an_entitlement_of_an_app_store() {
    let stand = Stand::start().await;
    let entitlements = json!([{ "offer_id": "S1", "id": 11, "externally_managed": true }]);
    stand.seed("cleeng/customers", json!({ "id": ID, "email": "ann@example.com", "entitlements": entitlements })).await;
    assert!(json_answer(update(&stand, "S1")).await.1["error"]["code"].is_number());
    let terminate = core(&stand, Method::POST, "subscriptions/11/terminate");
    assert_eq!(json_answer(terminate.json(&json!({ "terminationType": "userCancel" }))).await.0, 422);
    assert!(stand.sandbox().entries(0).iter().all(|entry| !entry.effect));
}

#[tokio::test]
async fn core_terminates_by_id_once_and_separates_subscriptions_from_passes() {
    let stand = stand().await;
    let terminate = async |path: &str| {
        json_answer(core(&stand, Method::POST, path).json(&json!({ "terminationType": "userCancel" }))).await
    };
    let (status, body) = terminate("subscriptions/11/terminate").await;
    assert_eq!((status, &body["offerId"], &body["status"]), (200, &json!("S1"), &json!("terminated")));
    assert_eq!(stand.last().subject.as_deref(), Some(ID));
    assert_eq!(terminate("subscriptions/11/terminate").await.0, 422);
    assert_eq!(terminate("subscriptions/12/terminate").await.0, 404);
    // A pass has another set of termination types, and needs none.
    assert_eq!(terminate("passes/12/terminate").await.0, 422);
    assert_eq!(json_answer(core(&stand, Method::POST, "passes/12/terminate")).await.0, 200);
}

#[tokio::test]
async fn the_answers_to_a_deletion_have_the_vendors_texts() {
    let stand = stand().await;
    let (status, body) = json_answer(delete(&stand, "12x")).await;
    assert_eq!((status, body["message"].as_str().unwrap()), (400, "Invalid customerId format"));
    let (status, body) = json_answer(delete(&stand, ID)).await;
    assert_eq!((status, body["message"].as_str().unwrap()), (422, "User has an active subscription"));
    json_answer(update(&stand, "S1")).await;
    let (status, body) = json_answer(delete(&stand, ID)).await;
    assert_eq!(status, 200);
    assert_eq!(body, json!({ "data": [], "success": true, "message": "User deleted successfully" }));
    let (status, body) = json_answer(delete(&stand, ID)).await;
    assert_eq!(status, 404);
    assert_eq!(body["message"], "User does not exist or is also associated with other broadcasters");
}

#[tokio::test]
async fn a_deletion_leaves_a_cancelled_pass() {
    let stand = stand().await;
    json_answer(update(&stand, "S1")).await;
    json_answer(delete(&stand, ID)).await;
    let customer = stand.state().await["cleeng"]["customers"][ID].clone();
    assert_eq!(customer["erased"], true);
    assert_eq!(customer["entitlements"][1]["status"], "cancelled");
}

#[tokio::test]
async fn the_deletion_of_a_shared_customer_answers_404_and_keeps_the_customer() {
    let stand = Stand::start().await;
    stand.seed("cleeng/customers", json!([{ "id": ID, "email": "ann@example.com", "shared": true }])).await;
    let (shared, unknown) = (json_answer(delete(&stand, ID)).await, json_answer(delete(&stand, "999999999")).await);
    assert_eq!(shared, unknown);
    assert_eq!(shared.0, 404);
    let (status, body) = json_answer(core(&stand, Method::GET, &format!("customers/{ID}"))).await;
    assert_eq!((status, &body["data"]["email"]), (200, &json!("ann@example.com")));
}

#[tokio::test]
async fn an_anonymised_customer_reads_as_missing_or_as_another_person() {
    for scrubbed in [false, true] {
        let stand = Stand::start().await;
        stand.seed("cleeng/customers", json!({ "id": ID, "email": "ann@example.com", "first_name": "Ann" })).await;
        stand.set("cleeng", json!({ "anonymised": if scrubbed { "scrubbed" } else { "not_found" } })).await;
        assert_eq!(json_answer(delete(&stand, ID)).await.0, 200);
        let (status, body) = json_answer(core(&stand, Method::GET, &format!("customers/{ID}"))).await;
        if scrubbed {
            assert_eq!((status, &body["data"]["id"]), (200, &json!(ID)));
            assert_ne!(body["data"]["email"], "ann@example.com");
            assert_ne!(body["data"]["firstName"], "Ann");
        } else {
            assert_eq!((status, &body["message"]), (404, &json!("Customer not found")));
        }
    }
}

#[tokio::test]
async fn offers_need_a_valid_token_of_that_customer() {
    let stand = stand().await;
    let offers = async |token: Option<String>| {
        let call = stand.get(OFFERS);
        json_answer(match token {
            Some(token) => call.bearer_auth(token),
            None => call,
        })
        .await
    };
    let (status, body) = offers(Some(mint_jwt(ID, None))).await;
    assert_eq!(status, 200);
    assert_eq!(body["errors"], json!([]));
    assert_eq!(body["responseData"]["items"][0]["isExternallyManaged"], false);
    assert_eq!(offers_of(&body["responseData"]["items"]), ["S1", "P1", "R1"]);
    for refused in [None, Some(mint_jwt(ID, Some(1))), Some(mint_jwt("999999999", None)), Some("nonsense".into())] {
        let (status, body) = offers(refused).await;
        assert_eq!(status, 401);
        assert!(body["errors"][0].is_string());
    }
}

#[tokio::test]
async fn a_token_from_the_control_interface_is_accepted_until_it_expires() {
    let stand = stand().await;
    let minted = stand.get(&format!("_sandbox/jwt?customer_id={ID}"));
    let token = json_answer(minted).await.1["customer_token"].as_str().unwrap().to_owned();
    assert_eq!(json_answer(stand.get(OFFERS).bearer_auth(token)).await.0, 200);
    let minted = stand.get(&format!("_sandbox/jwt?customer_id={ID}&valid_for=-1"));
    let token = json_answer(minted).await.1["customer_token"].as_str().unwrap().to_owned();
    assert_eq!(json_answer(stand.get(OFFERS).bearer_auth(token)).await.0, 401);
}

#[tokio::test]
async fn a_wrong_publisher_token_is_401_on_core() {
    let stand = stand().await;
    let call = stand.get(&format!("cleeng/core/customers/{ID}")).header("X-Publisher-Token", "wrong");
    assert_eq!(json_answer(call).await.0, 401);
    assert!(!stand.last().credentials_ok);
}

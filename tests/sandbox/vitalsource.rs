//! VitalSource's peculiarities.

use erasure_worker::sandbox::Misuse;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{Stand, answer};

async fn stand() -> Stand {
    let stand = Stand::start().await;
    let users = json!([
        { "guid": "G1", "reference": "shop-1", "first_name": "Ann & <b>", "last_name": "Ash", "email": "ann@example.com",
          "affiliate": "A1" },
        { "guid": "G2", "reference": "shop-2" },
    ]);
    stand.seed("vitalsource/users", users).await;
    let codes = json!([
        { "code": "C1", "owner": "G1", "sku": "BOOK-1", "redeemed_at": "2026-01-01 00:00:00 UTC" },
        { "code": "C2", "owner": "G1", "sku": "BOOK-2" },
        { "code": "C3" },
    ]);
    stand.seed("vitalsource/codes", codes).await;
    stand
}

fn call(stand: &Stand, method: Method, path: &str) -> RequestBuilder {
    stand.call(method, &format!("vitalsource/{path}")).header("X-VitalSource-API-Key", "VITALSOURCEKEY")
}

async fn get(stand: &Stand, path: &str) -> (u16, String) {
    answer(call(stand, Method::GET, path)).await
}

async fn revoke(stand: &Stand, code: &str) -> (u16, String) {
    answer(call(stand, Method::DELETE, &format!("v4/codes/{code}"))).await
}

async fn update(stand: &Stand, name: &str, body: &'static str) -> (u16, String) {
    answer(call(stand, Method::PUT, &format!("v3/users.xml/{name}")).header("Content-Type", "text/xml").body(body))
        .await
}

#[tokio::test]
async fn a_revoke_answers_with_an_empty_body_and_a_repeat_with_469() {
    let stand = stand().await;
    assert_eq!(revoke(&stand, "C1").await, (200, String::new()));
    let (status, body) = revoke(&stand, "C1").await;
    assert_eq!(status, 469);
    assert!(body.contains("<error-code>469</error-code>"));
    stand.set("vitalsource", json!({ "already_cancelled_status": 422 })).await;
    let (status, body) = revoke(&stand, "C1").await;
    assert_eq!(status, 422);
    assert!(body.contains("Code has already been canceled"));
}

#[tokio::test]
async fn an_unknown_code_gives_404_and_a_key_without_permission_403() {
    let stand = stand().await;
    let (status, body) = revoke(&stand, "C9").await;
    assert_eq!(status, 404);
    assert!(body.contains("Invalid Code"));
    stand.set("vitalsource", json!({ "may_revoke": false })).await;
    assert_eq!(revoke(&stand, "C1").await.0, 403);
    assert!(!stand.last().effect);
}

#[tokio::test]
async fn a_numbered_refusal_leaves_open_whether_the_content_was_removed() {
    for number in [1005, 1006, 1007, 1008, 1009, 1014] {
        for removed in [false, true] {
            let stand = stand().await;
            let refusal = json!({ "code": number, "content_removed": removed });
            let code = json!({ "code": "C4", "owner": "G1", "redeemed_at": "long ago", "wont_revoke": refusal });
            stand.seed("vitalsource/codes", code).await;
            let (status, body) = revoke(&stand, "C4").await;
            assert_eq!(status, 422);
            assert!(body.contains(&format!("<error-code>{number}</error-code>")));
            let (_, read) = get(&stand, "v4/codes/C4").await;
            assert_eq!(read.contains("<deactivation-details>"), removed);
            assert_eq!(read.contains("<redemption-details>"), !removed);
        }
    }
}

#[tokio::test]
async fn a_refusal_may_end_but_an_unassigned_code_is_always_refused() {
    let stand = stand().await;
    let refusal = json!({ "code": 1007, "times": 1 });
    stand.seed("vitalsource/codes", json!({ "code": "C4", "owner": "G1", "wont_revoke": refusal })).await;
    assert_eq!(revoke(&stand, "C4").await.0, 422);
    assert_eq!(revoke(&stand, "C4").await.0, 200);
    assert!(revoke(&stand, "C3").await.1.contains("<error-code>1006</error-code>"));
}

#[tokio::test]
async fn a_code_reads_with_its_owners_name_and_address() {
    let stand = stand().await;
    let (_, redeemed) = get(&stand, "v4/codes/C1").await;
    assert!(redeemed.contains("<user-name>Ann &amp; &lt;b&gt; Ash</user-name>"));
    assert!(redeemed.contains("<user-email>ann@example.com</user-email>"));
    assert!(redeemed.contains("<redemption-details>Redeemed on 2026-01-01 00:00:00 UTC</redemption-details>"));
    let (_, fresh) = get(&stand, "v4/codes/C2").await;
    assert!(fresh.contains("<redemption-details>Not Redeemed</redemption-details>"));
    revoke(&stand, "C1").await;
    let (_, cancelled) = get(&stand, "v4/codes/C1").await;
    assert!(cancelled.contains("<deactivation-details>") && !cancelled.contains("<redemption-details>"));
    assert_eq!(get(&stand, "v4/codes/C9").await.0, 404);
}

#[tokio::test]
async fn a_user_is_read_by_guid_or_reference_and_an_unknown_user_gives_404_or_an_error_on_200() {
    let stand = stand().await;
    let by_guid = get(&stand, "v3/users.xml/G1").await;
    assert_eq!(by_guid, get(&stand, "v3/users.xml/shop-1").await);
    assert!(by_guid.1.contains("<first-name>Ann &amp; &lt;b&gt;</first-name>"));
    assert_eq!(get(&stand, "v3/users.xml/G9").await.0, 404);
    stand.set("vitalsource", json!({ "unknown_user": "error_on_ok" })).await;
    let (status, body) = get(&stand, "v3/users.xml/G9").await;
    assert_eq!(status, 200);
    assert!(body.contains("<error-response><error-code>604</error-code>"));
}

#[tokio::test]
async fn an_update_changes_only_the_sent_fields() {
    let stand = stand().await;
    let sent = "<?xml version=\"1.0\"?><user><first-name>X &amp; Y</first-name><email>QW@EXAMPLE.COM</email></user>";
    let (status, body) = update(&stand, "G1", sent).await;
    assert_eq!(status, 200);
    assert!(body.starts_with("<user><guid>G1</guid>"));
    let user = stand.state().await["vitalsource"]["users"]["G1"].clone();
    assert_eq!(
        user,
        json!({ "guid": "G1", "reference": "shop-1", "first_name": "X & Y", "last_name": "Ash",
                "email": "QW@EXAMPLE.COM", "affiliate": "A1" })
    );
    assert!(stand.last().effect);
    stand.set("vitalsource", json!({ "update_reply": "empty" })).await;
    assert_eq!(update(&stand, "G1", sent).await, (200, String::new()));
    assert!(!stand.last().effect, "a repeat of the same values counts as an effect");
}

#[tokio::test]
async fn update_errors_have_http_status_200() {
    let stand = stand().await;
    let (status, body) = update(&stand, "G9", "<user><email>A@EXAMPLE.COM</email></user>").await;
    assert_eq!(status, 200);
    assert!(body.contains("<error-code>603</error-code>"));
    let (status, body) = update(&stand, "G1", "<user><reference>shop-2</reference></user>").await;
    assert_eq!(status, 200);
    assert!(body.contains("<error-code>904</error-code>"));
    assert_eq!(update(&stand, "G1", "not xml").await.0, 400);
}

#[tokio::test]
async fn an_overwritten_reference_no_longer_finds_the_user_but_the_guid_does() {
    let stand = stand().await;
    let sent = "<user><reference>random</reference></user>";
    assert_eq!(update(&stand, "shop-1", sent).await.0, 200);
    assert!(update(&stand, "shop-1", sent).await.1.contains("<error-code>603</error-code>"));
    assert_eq!(update(&stand, "G1", sent).await.0, 200);
    assert_eq!(get(&stand, "v3/users.xml/random").await.0, 200);
}

#[tokio::test]
async fn the_tokens_licences_are_listed_until_their_code_is_revoked() {
    let stand = stand().await;
    let body = "<credentials><credential reference=\"shop-1\"/></credentials>";
    let (status, reply) = answer(call(&stand, Method::POST, "v3/credentials.xml").body(body)).await;
    assert_eq!(status, 200);
    let (_, token) = reply.split_once("access-token=\"").unwrap();
    let (token, _) = token.split_once('"').unwrap();
    let licences = || answer(call(&stand, Method::GET, "v3/licenses.xml").header("X-VitalSource-Access-Token", token));
    let (_, listed) = licences().await;
    assert!(listed.contains("sku=\"BOOK-1\"") && listed.contains("expiration=\"never\""));
    assert!(!listed.contains("BOOK-2"), "an unredeemed code gives a licence");
    revoke(&stand, "C1").await;
    assert_eq!(licences().await, (200, "<licenses/>".into()));
    let other = json!({ "owner": "G1", "sku": "GIFT", "expiration": "Thu, 10 Mar 2016 22:14:54 GMT" });
    stand.seed("vitalsource/licenses", other).await;
    assert!(licences().await.1.contains("expiration=\"Thu, 10 Mar 2016 22:14:54 GMT\""));
}

#[tokio::test]
async fn credentials_for_an_unknown_reference_give_an_error_on_200() {
    let stand = stand().await;
    let body = "<credentials><credential reference=\"nobody\"/></credentials>";
    let (status, reply) = answer(call(&stand, Method::POST, "v3/credentials.xml").body(body)).await;
    assert_eq!(status, 200);
    assert!(reply.contains("<error-code>603</error-code>"));
    let bad = call(&stand, Method::GET, "v3/licenses.xml").header("X-VitalSource-Access-Token", "bad");
    assert_eq!(answer(bad).await.0, 401);
}

#[tokio::test]
async fn a_wrong_key_is_401() {
    let stand = stand().await;
    let wrong = stand.get("vitalsource/v3/users.xml/G1").header("X-VitalSource-API-Key", "WRONG");
    assert_eq!(answer(wrong).await.0, 401);
    assert!(!stand.last().credentials_ok);
}

#[tokio::test]
async fn the_rate_limit_is_per_endpoint_and_calls_during_the_block_extend_it() {
    let stand = stand().await;
    let limit = json!({ "calls": 2, "window_ms": 60_000, "penalty_ms": 30_000 });
    stand.set("vitalsource", json!({ "rate_limit": limit })).await;
    let read = async || {
        let reply = call(&stand, Method::GET, "v3/users.xml/G1").send().await.unwrap();
        let wait = reply.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse::<u64>().unwrap());
        (reply.status().as_u16(), wait)
    };
    assert_eq!(read().await, (200, None));
    assert_eq!(read().await, (200, None));
    assert_eq!(read().await, (429, Some(60)));
    assert_eq!(stand.last().misuse, None);
    let (status, wait) = read().await;
    assert_eq!(status, 429);
    assert!(wait > Some(60), "{wait:?}");
    assert_eq!(stand.last().misuse, Some(Misuse::CalledWhileBlocked));
    assert_eq!(get(&stand, "v4/codes/C1").await.0, 200);
}

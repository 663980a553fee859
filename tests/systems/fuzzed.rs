//! Mutations of lists in systems' replies: no panic, and no missing row.

use erasure_worker::job::{Answer, StepName};
use erasure_worker::systems::Facts;
use serde_json::Value;
use testkit::mutate::{Mutator, corpus};

use crate::stub::{Stub, ask, one, reply};
use crate::{cleeng, vitalsource};

const CREDENTIAL: &str = "<credentials><credential access-token=\"t\" guid=\"GUID-1\"/></credentials>";

const JSON: [&str; 12] = [
    "{\"offerId\":\"S9\",\"status\":\"active\"},",
    "\"status\":\"active\"",
    "\"status\":\"ended\"",
    "\"offerId\":",
    "\"items\":[]",
    "\"data\":[]",
    "\"success\":true",
    "\"success\":\"true\"",
    "null",
    "[]",
    "1e400",
    "\"customerId\":123456789",
];

const XML: [&str; 12] = [
    "<license expiration=\"never\"/>",
    "<license>",
    "</license>",
    "expiration=\"2016-01-01\"",
    "&#0;",
    "&lol;",
    "<!DOCTYPE a [<!ENTITY lol \"lol\">]>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "<?x ?>",
    "\u{feff}",
];

/// The offers of rows that certainly give access, read without the client.
fn active(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let rows = [body.get("items"), body.get("data")].into_iter().flatten().filter_map(Value::as_array).flatten();
    let is_active =
        |row: &&Value| row["status"] == "active" && !row["offerId"].as_str().unwrap_or("").trim().is_empty();
    rows.filter(is_active).map(|row| row["offerId"].as_str().unwrap().trim().to_owned()).collect()
}

#[tokio::test]
async fn no_mutated_list_of_entitlements_panics_or_hides_an_active_entitlement() {
    let stub = Stub::start().await;
    let client = cleeng::client(&stub);
    let mut mutator = Mutator::new(corpus("entitlements"), &JSON, 7301);
    let mut read = 0;
    for _ in 0..2_500 {
        let body = mutator.mutation();
        stub.play([reply(200, body.clone())]);
        let step = one(StepName::ListEntitlements);
        let Ok(answer) = ask(&client, &cleeng::backend(), step, &Facts::default()).await else { continue };
        let Answer::Entitlements(list) = answer else { panic!("{answer:?}") };
        read += 1;
        for offer in active(&body) {
            let shown = String::from_utf8_lossy(&body);
            assert!(list.iter().any(|entitlement| entitlement.offer_id == offer), "{offer} is hidden: {shown}");
        }
    }
    assert!(read > 100, "{read} lists were read: the mutations are too wild");
}

#[tokio::test]
async fn no_mutated_list_of_licences_panics_and_no_truncated_list_is_read() {
    let stub = Stub::start().await;
    let client = vitalsource::client(&stub);
    let (account, facts) = (vitalsource::account(Some("GUID-1"), Some("REF 1")), vitalsource::facts());
    let check = async |body: Vec<u8>| {
        stub.play([reply(200, CREDENTIAL), reply(200, body)]);
        ask(&client, &account, one(StepName::CheckLicenses), &facts).await
    };
    let mut mutator = Mutator::new(corpus("licenses"), &XML, 7301);
    let mut read = 0;
    for _ in 0..1_500 {
        let body = mutator.mutation();
        let shown = String::from_utf8_lossy(&body).into_owned();
        let most = shown.to_lowercase().matches("license").count();
        match check(body).await {
            Ok(Answer::Licenses { unexpired }) => {
                read += 1;
                assert!(unexpired as usize <= most, "{shown}");
            }
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => {}
        }
    }
    assert!(read > 50, "{read} lists were read: the mutations are too wild");
    for whole in corpus("licenses") {
        let whole = whole.trim_ascii_end();
        for cut in 0..whole.len() {
            let answer = check(whole[..cut].to_vec()).await;
            assert!(answer.is_err(), "cut at {cut}: {}", String::from_utf8_lossy(&whole[..cut]));
        }
    }
}

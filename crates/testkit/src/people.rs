//! Jobs as publishers write them, for the sandbox's people.
//!
//! The rule it keeps: plain JSON of the contract, written by hand, not by the worker's own types.

use erasure_worker::sandbox::{Person, mint_jwt};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::times;

/// The first person's number: long, so that no identifier is part of another text by chance.
pub const FIRST: u64 = 7_301_500;

/// A job for these targets, with the person's confirmation.
pub fn job(targets: &[Value]) -> Value {
    let mut job = unconfirmed(targets);
    confirm(&mut job);
    job
}

/// A job for these targets, without a confirmation.
pub fn unconfirmed(targets: &[Value]) -> Value {
    json!({
        "schema": "erasure.job/v1",
        "job_id": Uuid::new_v4().to_string(),
        "tenant": "acme",
        "environment": "sandbox",
        "requested_at": times::a_week_ago(),
        "regulation": "gdpr",
        "targets": targets,
    })
}

/// Adds the person's confirmation to a job.
pub fn confirm(job: &mut Value) {
    job["confirmation"] = json!({ "confirmed_at": times::a_week_ago(), "by": "subject" });
}

/// A job's id.
pub fn id(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}

/// Cleeng, by the broadcaster's own key.
pub fn backend(person: &Person) -> Value {
    json!({
        "system": "cleeng", "flow": "backend",
        "customer_id": person.customer_id, "customer_email": person.email,
    })
}

/// Cleeng, by the customer's token.
pub fn mediastore(person: &Person) -> Value {
    json!({
        "system": "cleeng", "flow": "mediastore", "customer_email": person.email,
        "customer_token": mint_jwt(&person.customer_id, None),
    })
}

/// The person as a loyalty member, by one kind of id.
pub fn member(person: &Person, key: &str) -> Value {
    let value = match key {
        "member_id" => &person.member_id,
        "integration_id" => &person.integration_id,
        "card_id" => &person.card_id,
        "database_id" => &person.database_id,
        _ => &person.email,
    };
    json!({ key: value })
}

/// Loyalty, by the program's token and one kind of id.
pub fn program(person: &Person, key: &str) -> Value {
    json!({ "system": "loyalty", "method": "program_api", "member": member(person, key) })
}

/// Loyalty, by the member's token.
pub fn member_api(person: &Person) -> Value {
    json!({
        "system": "loyalty", "method": "member_api", "access_token": person.access_token,
        "member": member(person, "integration_id"),
    })
}

/// Loyalty, deleted by hand.
pub fn manual(person: &Person) -> Value {
    json!({ "system": "loyalty", "method": "manual", "member": member(person, "member_id") })
}

/// Loyalty, deleted by a file.
pub fn import(person: &Person) -> Value {
    json!({ "system": "loyalty", "method": "import", "member": member(person, "integration_id") })
}

/// The shop's account.
pub fn easycms(person: &Person) -> Value {
    json!({ "system": "easycms", "email": person.email, "customer_password": person.customer_password })
}

/// The shop's account, by the connector file.
pub fn shop(person: &Person) -> Value {
    json!({
        "system": "shop", "subject": { "email": person.email },
        "proofs": { "customer_password": person.customer_password },
    })
}

/// VitalSource, by GUID, reference and both codes.
pub fn vitalsource(person: &Person) -> Value {
    let codes: Vec<Value> = person.codes.iter().map(|code| json!({ "code": code })).collect();
    json!({ "system": "vitalsource", "guid": person.guid, "reference": person.reference, "codes": codes })
}

/// VitalSource, with the use of each code. A refund is expected for the first code alone.
pub fn redeemed(person: &Person) -> Value {
    let mut target = vitalsource(person);
    for (code, days) in target["codes"].as_array_mut().unwrap().iter_mut().zip([1, 300]) {
        code["redeemed_at"] = json!(times::hours_ago(days * 24));
        code["percent_read"] = json!(12);
    }
    target
}

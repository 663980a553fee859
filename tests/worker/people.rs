//! Jobs as publishers write them, for the sandbox's invented people.
//!
//! The rule it keeps: plain JSON from the contract, made by hand, not by the worker's own types.

use erasure_worker::sandbox::Person;
use serde_json::{Value, json};
use testkit::times;
use uuid::Uuid;

/// A whole job for these targets, with the person's confirmation.
pub fn job(targets: &[Value]) -> Value {
    let mut job = unconfirmed(targets);
    confirm(&mut job);
    job
}

/// A whole job for these targets.
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

/// The id of a job.
pub fn id(job: &Value) -> String {
    job["job_id"].as_str().unwrap().to_owned()
}

pub fn backend(person: &Person) -> Value {
    json!({
        "system": "cleeng", "flow": "backend",
        "customer_id": person.customer_id, "customer_email": person.email,
    })
}

pub fn mediastore(person: &Person) -> Value {
    json!({
        "system": "cleeng", "flow": "mediastore", "customer_email": person.email,
        "customer_token": erasure_worker::sandbox::mint_jwt(&person.customer_id, None),
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

pub fn program(person: &Person, key: &str) -> Value {
    json!({ "system": "loyalty", "method": "program_api", "member": member(person, key) })
}

pub fn member_api(person: &Person) -> Value {
    json!({
        "system": "loyalty", "method": "member_api", "access_token": person.access_token,
        "member": member(person, "integration_id"),
    })
}

pub fn manual(person: &Person) -> Value {
    json!({ "system": "loyalty", "method": "manual", "member": member(person, "member_id") })
}

pub fn easycms(person: &Person) -> Value {
    json!({ "system": "easycms", "email": person.email, "customer_password": person.customer_password })
}

/// With GUID, reference and both codes; the first is expected to be refunded.
pub fn vitalsource(person: &Person) -> Value {
    json!({
        "system": "vitalsource", "guid": person.guid, "reference": person.reference,
        "codes": [
            { "code": person.codes[0], "redeemed_at": times::hours_ago(24), "percent_read": 12 },
            { "code": person.codes[1], "redeemed_at": times::hours_ago(300 * 24), "percent_read": 12 },
        ],
    })
}

//! Jobs as publishers send them, and a worker that accepts them.

use erasure_worker::job::draft;
use erasure_worker::job::parse::Refusal;
use erasure_worker::job::{Accepts, Job, Kind, MemberKey, Rules, Term};
use serde_json::{Value, json};

/// The job id of every example.
pub const JOB_ID: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";

/// A worker with one system of each kind, and two more loyalty platforms: keyed by e-mail, and without an import.
pub fn accepts() -> Accepts {
    let mut by_integration = Rules::new(Kind::ZetaLoyalty);
    by_integration.import_key = Some(MemberKey::IntegrationId);
    let mut by_email = Rules::new(Kind::ZetaLoyalty);
    by_email.import_key = Some(MemberKey::Email);
    let systems = [
        ("cleeng", Rules::new(Kind::Cleeng)),
        ("loyalty", by_integration),
        ("loyalty_mail", by_email),
        ("loyalty_plain", Rules::new(Kind::ZetaLoyalty)),
        ("easycms", Rules::new(Kind::EasyCms)),
        ("vitalsource", Rules::new(Kind::VitalSource)),
    ];
    Accepts {
        environment: "production".to_owned(),
        systems: systems.into_iter().map(|(name, rules)| (name.to_owned(), rules)).collect(),
        regulations: [("lgpd".to_owned(), Term::days(15))].into(),
    }
}

/// A job with these targets and nothing optional.
pub fn bare(targets: Value) -> Value {
    json!({
        "schema": "erasure.job/v1",
        "job_id": JOB_ID,
        "requested_at": "2026-11-22T10:00:00Z",
        "targets": targets,
    })
}

/// A job with one target.
pub fn one(target: Value) -> Value {
    bare(json!([target]))
}

/// A token with these claims and no valid signature.
pub fn jwt(claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({ "alg": "none" })), part(claims), "c2ln")
}

pub fn cleeng() -> Value {
    json!({ "system": "cleeng", "flow": "backend", "customer_id": "123456789", "customer_email": "ann@example.com" })
}

pub fn mediastore() -> Value {
    let token = jwt(&json!({ "customerId": 123_456_789 }));
    json!({ "system": "cleeng", "flow": "mediastore", "customer_token": token, "customer_email": "ann@example.com" })
}

pub fn program() -> Value {
    json!({ "system": "loyalty", "method": "program_api", "member": { "integration_id": "INT-42" } })
}

pub fn member() -> Value {
    json!({ "system": "loyalty", "method": "member_api", "access_token": "token-1", "current_password": "pass 1" })
}

pub fn import() -> Value {
    json!({ "system": "loyalty", "method": "import", "member": { "integration_id": "INT-42" } })
}

pub fn manual() -> Value {
    json!({ "system": "loyalty", "method": "manual", "member": { "member_id": "77" } })
}

pub fn easycms() -> Value {
    json!({ "system": "easycms", "email": "ann@example.com", "customer_password": "pass 2" })
}

pub fn vitalsource() -> Value {
    json!({
        "system": "vitalsource", "guid": "9DDB-1", "reference": "shop-77",
        "codes": [
            { "code": "ABC123", "redeemed_at": "2026-11-15T00:00:00Z", "percent_read": 12 },
            { "code": "DEF456" },
        ],
        "overwrite": ["first_name", "reference"],
    })
}

/// One target of each form.
pub fn every_form() -> Vec<Value> {
    vec![cleeng(), mediastore(), program(), member(), import(), manual(), easycms(), vitalsource()]
}

/// Parses, without an AMQP `message_id`.
pub fn parse(value: &Value) -> Result<Job, Refusal> {
    draft::job(value.to_string().as_bytes(), None, &accepts())
}

/// Parses a valid job.
pub fn good(value: &Value) -> Job {
    parse(value).unwrap_or_else(|refusal| panic!("refused: {}", refusal.invalid))
}

/// The error of an invalid job.
pub fn bad(value: &Value) -> String {
    match parse(value) {
        Ok(_) => panic!("accepted"),
        Err(refusal) => refusal.invalid.to_string(),
    }
}

/// A copy with the value at a JSON pointer replaced or, with `None`, removed.
pub fn with(value: &Value, pointer: &str, new: Option<Value>) -> Value {
    let mut copy = value.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match (copy.pointer_mut(parent).unwrap(), new) {
        (Value::Object(fields), Some(new)) => drop(fields.insert(name.to_owned(), new)),
        (Value::Object(fields), None) => drop(fields.remove(name)),
        (Value::Array(items), Some(new)) => items[name.parse::<usize>().unwrap()] = new,
        (Value::Array(items), None) => drop(items.remove(name.parse().unwrap())),
        _ => panic!("{pointer} has no parent object or array"),
    }
    copy
}

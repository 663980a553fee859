//! Cancellations: the one form that is read, and what is said of every other.

use erasure_worker::job::Cancel;
use serde_json::{Value, json};

use crate::jobs::{JOB_ID, with};
use crate::refused::{NAME, UUID};

#[test]
fn a_cancellation_names_one_job() {
    let tenant = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": JOB_ID.to_uppercase() });
    let cancel = Cancel::parse(tenant.to_string().as_bytes()).unwrap();
    assert_eq!(cancel.key.to_string(), format!("acme/{JOB_ID}"));
    let without = json!({ "schema": "erasure.cancel/v1", "job_id": JOB_ID });
    assert_eq!(Cancel::parse(without.to_string().as_bytes()).unwrap().key.tenant, "default");
}

#[test]
fn a_cancellation_of_the_wrong_form_is_refused() {
    let error = |value: Value| Cancel::parse(value.to_string().as_bytes()).unwrap_err().to_string();
    let right = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": JOB_ID });
    assert_eq!(error(with(&right, "/schema", Some("erasure.job/v1".into()))), "schema: expected erasure.cancel/v1");
    assert_eq!(error(with(&right, "/job_id", None)), "job_id: is missing and required");
    assert_eq!(error(with(&right, "/job_id", Some("x".into()))), format!("job_id: {UUID}"));
    assert_eq!(error(with(&right, "/tenant", Some("A".into()))), format!("tenant: {NAME}"));
    let more = with(&right, "/reason", Some("x".into()));
    let expected = "<a field name of 6 bytes>: is not a field here; expected one of schema, tenant, job_id";
    assert_eq!(error(more), expected);
    let doubled = right.to_string().replacen("\"tenant\"", "\"tenant\":\"acme\",\"tenant\"", 1);
    let refusal = Cancel::parse(doubled.as_bytes()).unwrap_err();
    assert_eq!(refusal.to_string(), "tenant: appears twice; expected each field once");
    let large = Cancel::parse(&vec![b' '; 1024 * 1024 + 1]).unwrap_err();
    assert_eq!(large.to_string(), "body: has 1048577 bytes; expected at most 1048576");
    assert_eq!(Cancel::parse(b"").unwrap_err().to_string(), "body: is empty; expected a JSON object");
}

//! Cancellations: the one valid form, and the error for every other form.

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

#[test]
fn a_damaged_cancellation_never_names_a_job_other_than_its_own() {
    let right = json!({ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": JOB_ID });
    let body = right.to_string().into_bytes();
    assert_eq!(Cancel::certain(&body), Some(Cancel::parse(&body).unwrap()));
    // No truncation and no changed byte ever names another job.
    for cut in 0..body.len() {
        assert_eq!(Cancel::certain(&body[..cut]), None, "{cut}");
        for byte in [b'"', b'0', b'z', b'{', 0xff, b' '] {
            let mut changed = body.clone();
            changed[cut] = byte;
            if let Some(Cancel { key }) = Cancel::certain(&changed) {
                let said = serde_json::from_slice::<Value>(&changed).unwrap();
                let names = [said["tenant"].as_str().unwrap_or("default"), said["job_id"].as_str().unwrap()];
                assert_eq!([key.tenant.as_str(), key.job_id.to_string().as_str()], names);
            }
        }
    }
    for twice in [r#""job_id":"00000000-0000-4000-8000-000000000001","#, r#""tenant":"other","#, r#""schema":"x","#] {
        let body = right.to_string().replacen('{', &format!("{{{twice}"), 1);
        assert_eq!(Cancel::certain(body.as_bytes()), None, "{twice}");
    }
}

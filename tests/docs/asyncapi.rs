//! The AsyncAPI document against the two schemas: the same messages, and no dead reference.

use std::collections::BTreeSet;

use erasure_worker::job::Cancel;
use erasure_worker::job::parse::SCHEMA;
use serde_json::Value;

use crate::{page, root};

fn document() -> Value {
    serde_saphyr::from_str(&page("docs/asyncapi.yaml")).unwrap()
}

fn at<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let path = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads out of the document"));
    document.pointer(path).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Value::String(reference) if name == "$ref" => found.push(reference.clone()),
            value => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_part_of_the_document_or_to_a_schema() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        if reference.starts_with('#') {
            at(&document, &reference);
        } else {
            let schema = std::fs::read_to_string(root().join("docs").join(&reference)).unwrap();
            serde_json::from_str::<Value>(&schema).unwrap();
        }
    }
}

#[test]
fn the_asyncapi_events_are_those_of_the_event_schema() {
    let document = document();
    let schema: Value = serde_json::from_str(&page("crates/job/src/schema/event.v1.json")).unwrap();
    let words = |value: &Value| -> BTreeSet<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let outcomes = words(schema.pointer("/$defs/job_outcome/enum").unwrap());
    let events = &document["channels"]["events"];
    assert_eq!(words(&events["parameters"]["what"]["enum"]), outcomes);
    let mut documented = BTreeSet::new();
    for (name, message) in events["messages"].as_object().unwrap() {
        let message = at(&document, message["$ref"].as_str().unwrap());
        assert_eq!(message["bindings"]["amqp"]["messageType"], format!("erasure.job.{name}.v1"));
        assert_eq!(message["payload"]["$ref"], "../crates/job/src/schema/event.v1.json");
        documented.insert(name.clone());
    }
    assert_eq!(documented, outcomes);
}

#[test]
fn the_asyncapi_jobs_and_cancellations_are_those_that_the_worker_accepts() {
    let document = document();
    let messages = &document["components"]["messages"];
    assert_eq!(messages["job"]["payload"]["$ref"], "../crates/job/src/schema/job.v1.json");
    assert_eq!(messages["job"]["bindings"]["amqp"]["messageType"], SCHEMA);
    let cancel = &messages["cancel"]["payload"];
    assert_eq!(cancel["properties"]["schema"]["const"], Cancel::SCHEMA);
    let fields: Vec<_> = cancel["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["schema", "tenant", "job_id"]);
    let body =
        r#"{ "schema": "erasure.cancel/v1", "tenant": "acme", "job_id": "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11" }"#;
    Cancel::parse(body.as_bytes()).unwrap();
    assert!(Cancel::parse(body.replace("\"tenant\"", "\"reason\"").as_bytes()).is_err());
    let job: Value = serde_json::from_str(&page("crates/job/src/schema/job.v1.json")).unwrap();
    assert_eq!(job["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

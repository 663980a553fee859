//! Random and mutated messages: no panic, and no value in an error.

use erasure_worker::job::{Cancel, draft};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::jobs::{self, accepts, bare};

/// Planted in the place of names, tokens and passwords. It must be in no error.
const PLANTED: &str = "planted7secret";

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("2026-11-22T10:00:00Z")),
        Just(Value::from(PLANTED)),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((field(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Known names among unknown ones.
fn field() -> impl Strategy<Value = String> {
    let known = [
        "schema",
        "job_id",
        "tenant",
        "environment",
        "mode",
        "requested_at",
        "targets",
        "system",
        "flow",
        "method",
        "customer_id",
        "customer_email",
        "customer_token",
        "member",
        "member_id",
        "email",
        "guid",
        "codes",
        "code",
        "overwrite",
        "confirmation",
        "confirmed_at",
        "by",
        "extensions",
        "retry",
    ];
    prop_oneof![4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

/// All places in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn whole() -> Value {
    let mut job = bare(jobs::every_form().into());
    job["confirmation"] = json!({ "confirmed_at": "2026-11-22T09:58:00Z", "by": "agent" });
    job["extensions"] = json!({ "trace": "x" });
    job
}

#[test]
fn an_identifier_in_a_wrong_place_is_not_repeated_in_the_error() {
    let job = whole();
    let mut found = Vec::new();
    places(&job, "", &mut found);
    let wrong = [
        json!(PLANTED),
        json!({ PLANTED: PLANTED }),
        json!([PLANTED]),
        json!({ "email": PLANTED, "plantedsecret": PLANTED }),
        json!({ "member_id": PLANTED, "plantedsecretid": 1 }),
    ];
    let mut refused = 0;
    for place in &found {
        for value in &wrong {
            let mut copy = job.clone();
            *copy.pointer_mut(place).unwrap() = value.clone();
            refused += usize::from(is_refused_without_leak(&copy.to_string()));
            if let Some(fields) = job.pointer(place).and_then(Value::as_object) {
                let mut copy = job.clone();
                let mut fields = fields.clone();
                fields.insert("plantedsecret".to_owned(), value.clone());
                *copy.pointer_mut(place).unwrap() = fields.into();
                refused += usize::from(is_refused_without_leak(&copy.to_string()));
            }
        }
    }
    eprintln!("{refused} messages with an identifier in a wrong place were refused");
    assert!(refused > 200, "{refused}");
}

/// True if the message was refused. Neither the error nor a job's `Debug` may contain the planted text.
fn is_refused_without_leak(body: &str) -> bool {
    match draft::job(body.as_bytes(), None, &accepts()) {
        Ok(job) => {
            assert!(!format!("{job:?}").contains(PLANTED), "Debug of a job shows a value");
            false
        }
        Err(refusal) => {
            let text = format!("{} {refusal:?}", refusal.invalid);
            assert!(!text.contains("planted"), "{text}");
            true
        }
    }
}

#[test]
fn the_debug_form_of_a_job_shows_no_identifier() {
    let debug = format!("{:?}", jobs::good(&whole()));
    for secret in
        ["ann@", "123456789", "INT-42", "token-1", "pass 1", "pass 2", "9DDB", "shop-77", "ABC123", "DEF456", "\"77\""]
    {
        assert!(!debug.contains(secret), "{secret}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_json_never_panics_the_parser(value in any_json()) {
        let body = value.to_string();
        is_refused_without_leak(&body);
        let _ = Cancel::parse(body.as_bytes());
    }

    #[test]
    fn random_bytes_never_panic_the_parser(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = draft::job(&body, Some("x"), &accepts());
        let _ = Cancel::parse(&body);
    }

    #[test]
    fn a_valid_job_with_one_value_replaced_never_panics_and_leaks_nothing(
        place in any::<prop::sample::Index>(),
        value in any_json(),
    ) {
        let mut job = whole();
        let mut found = Vec::new();
        places(&job, "", &mut found);
        *job.pointer_mut(&found[place.index(found.len())]).unwrap() = value;
        is_refused_without_leak(&job.to_string());
    }

    #[test]
    fn a_valid_job_with_bytes_changed_cut_or_doubled_never_panics(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        doubled in 0_usize..40,
    ) {
        let mut body = whole().to_string().into_bytes();
        let position = at.index(body.len());
        body[position] = byte;
        let piece: Vec<u8> = body.iter().skip(position).take(doubled).copied().collect();
        body.splice(position..position, piece);
        let _ = draft::job(&body, None, &accepts());
        body.truncate(cut.index(body.len()));
        let _ = draft::job(&body, None, &accepts());
    }
}

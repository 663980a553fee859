//! What the parser refuses: each error has the exact path and the expected form, and no value.

use std::fmt::Write as _;

use erasure_worker::job::{Reason, draft};
use serde_json::{Value, json};

use crate::jobs::{self, JOB_ID, accepts, bad, bare, one, with};

/// Checks the exact error for a target with one value replaced or removed.
#[track_caller]
fn target(target: Value, pointer: &str, new: Option<Value>, expected: &str) {
    assert_eq!(bad(&one(with(&target, pointer, new))), format!("targets[0].{expected}"));
}

#[track_caller]
fn top(pointer: &str, new: Option<Value>, expected: &str) {
    assert_eq!(bad(&with(&one(jobs::easycms()), pointer, new)), expected);
}

#[track_caller]
fn raw(body: &[u8], expected: &str) {
    let refusal = draft::job(body, None, &accepts()).unwrap_err();
    assert_eq!((refusal.invalid.to_string().as_str(), refusal.reason), (expected, Reason::Invalid));
}

const TIME: &str = "expected an RFC 3339 time with an offset, such as 2026-11-22T10:00:00Z";
/// The error of a tenant.
pub const NAME: &str = "expected a name of the form [a-z0-9][a-z0-9_-]{0,62}";
/// The error of a job id.
pub const UUID: &str = "expected a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

#[test]
fn a_body_that_is_no_json_object_is_refused_as_a_whole() {
    raw(b"", "body: is empty; expected a JSON object");
    raw(b" ", "body: is not JSON: EOF while parsing a value at column 1");
    raw(b"{\"schema\":", "body: is not JSON: EOF while parsing a value at column 10");
    raw(b"{\n\"schema\":", "body: is not JSON: EOF while parsing a value at line 2 column 9");
    raw(b"{} {}", "body: is not JSON: trailing characters at column 4");
    raw(b"[]", "body: expected an object, found an array");
    raw(b"null", "body: expected an object, found null");
    raw(b"{\"schema\":\"\xff\"}", "body: is not UTF-8 (byte 11)");
    raw("\u{feff}".as_bytes(), "body: is empty; expected a JSON object");
    raw("\u{feff}{}".as_bytes(), "schema: is missing and required");
    raw("\u{feff}\u{feff}{}".as_bytes(), "body: is not JSON: expected value at column 1");
}

#[test]
fn another_encoding_is_named() {
    let text = one(jobs::easycms()).to_string();
    let wide = |big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let marked = |mark: &[u8], body: Vec<u8>| [mark, &body].concat();
    let other = [wide(false), wide(true), marked(b"\xff\xfe", wide(false)), marked(b"\xfe\xff", wide(true))];
    for body in other {
        raw(&body, "body: is UTF-16; expected UTF-8");
    }
    for (head, name) in [
        (&[0x1f, 0x8b, 8, 0][..], "gzip"),
        (&[0x78, 0x9c], "deflate"),
        (&[0x78, 0x01], "deflate"),
        (&[0x78, 0x5e], "deflate"),
        (&[0x78, 0xda], "deflate"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    ] {
        let expected = format!("body: is compressed with {name}; expected the JSON itself, without a content-encoding");
        raw(&marked(head, vec![0x93, 0x41]), &expected);
    }
}

/// Values of valid JSON form that cannot be read.
const UNREADABLE: [&str; 6] =
    [r#""\ud83d""#, r#""x\udc00y""#, r#""\ud83d\u0041""#, "1e999", "-1e999", r#"{"\ud83d":1}"#];

#[test]
fn an_unreadable_value_is_named_by_its_path_and_ignored_in_extensions() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let twice = r#"{"a":1,"a":2}"#;
    let job = |field: &str| one(jobs::easycms()).to_string().replacen('{', &format!("{{{field},"), 1);
    for value in UNREADABLE.into_iter().chain([deep.as_str(), twice]) {
        for extensions in [format!(r#"{{"a":{value}}}"#), format!(r#"{{"a":[{{"b":{value}}}]}}"#)] {
            let body = job(&format!(r#""extensions":{extensions}"#));
            assert!(draft::job(body.as_bytes(), None, &accepts()).is_ok(), "{}", &body[..200]);
        }
        let body = job(&format!(r#""extensions":[{value}]"#));
        raw(body.as_bytes(), "extensions: expected an object");
    }
    for value in UNREADABLE {
        let target = one(jobs::vitalsource()).to_string();
        for (name, path) in [(r#""ABC123""#, "targets[0].codes[0].code"), (r#""9DDB-1""#, "targets[0].guid")] {
            let body = target.replacen(name, value, 1);
            let refusal = draft::job(body.as_bytes(), None, &accepts()).unwrap_err().invalid;
            assert_eq!(refusal.path, path, "{refusal}: {value}");
            assert!(refusal.expected.starts_with("is not JSON: "), "{refusal}");
        }
    }
    // Below the first level `extensions` is an unknown field.
    let body = one(jobs::easycms()).to_string().replacen("{\"system\"", "{\"extensions\":{},\"system\"", 1);
    assert!(draft::job(body.as_bytes(), None, &accepts()).is_err());
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"targets\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    raw(deep.as_bytes(), "body: is not JSON: recursion limit exceeded at column 138");
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let refusal = draft::job(deep.as_bytes(), None, &accepts()).unwrap_err();
    assert!(refusal.invalid.to_string().starts_with("body: is not JSON: recursion limit exceeded"));
}

#[test]
fn a_missing_required_field_is_named() {
    for (pointer, expected) in [
        ("/schema", "schema: is missing and required"),
        ("/job_id", "job_id: is missing, and the AMQP message_id is no UUID; expected a UUID in either"),
        ("/requested_at", "requested_at: is missing and required"),
        ("/targets", "targets: is missing and required"),
    ] {
        top(pointer, None, expected);
    }
    let without = with(&one(jobs::easycms()), "/job_id", None).to_string();
    let refusal = draft::job(without.as_bytes(), Some("no-uuid"), &accepts()).unwrap_err();
    assert_eq!(refusal.invalid.path, "job_id");
    assert!(refusal.key.is_none());

    for name in ["system", "flow", "customer_id", "customer_email"] {
        target(jobs::cleeng(), &format!("/{name}"), None, &format!("{name}: is missing and required"));
    }
    for name in ["customer_token", "customer_email"] {
        target(jobs::mediastore(), &format!("/{name}"), None, &format!("{name}: is missing and required"));
    }
    for form in [jobs::program(), jobs::import(), jobs::manual()] {
        target(form.clone(), "/member", None, "member: is missing and required");
        target(form, "/method", None, "method: is missing and required");
    }
    let mut nobody = jobs::member();
    nobody.as_object_mut().unwrap().remove("current_password");
    target(nobody, "/access_token", None, "access_token: is missing; expected access_token, member or both");
    target(jobs::easycms(), "/email", None, "email: is missing and required");
    let guid = with(&jobs::vitalsource(), "/reference", None);
    target(guid, "/guid", None, "guid: is missing; expected guid, reference or both");
    target(jobs::vitalsource(), "/codes/1/code", None, "codes[1].code: is missing and required");
    target(jobs::cleeng(), "/confirmation", Some(json!({})), "confirmation.confirmed_at: is missing and required");
    assert_eq!(bad(&bare(json!([{}]))), "targets[0].system: is missing and required");
}

#[test]
fn a_word_outside_its_list_is_refused_with_the_list() {
    top("/schema", Some("erasure.job/v2".into()), "schema: expected erasure.job/v1");
    top("/job_id", Some("6c0b7b0e6a4e4a539a2e0d8c6a0a7f11".into()), &format!("job_id: {UUID}"));
    top("/job_id", Some("".into()), &format!("job_id: {UUID}"));
    for tenant in ["", "Acme", "-a", "a b", "a/b", &"a".repeat(64)] {
        top("/tenant", Some(tenant.into()), &format!("tenant: {NAME}"));
    }
    top("/environment", Some("test".into()), "environment: expected sandbox, staging or production");
    top("/mode", Some("Erase".into()), "mode: expected erase or preview");
    for law in ["gdpr2", "GDPR", "Gdpr", "UK GDPR", "", "§ 17"] {
        top("/regulation", Some(law.into()), "regulation: expected one of gdpr, uk_gdpr, ccpa, lgpd");
    }
    top("/extensions", Some(json!([])), "extensions: expected an object");
    top("/retry", Some("true".into()), "retry: expected true or false, found a string");
    target(jobs::cleeng(), "/flow", Some("front".into()), "flow: expected backend or mediastore");
    let methods = "method: expected program_api, member_api, import or manual";
    target(jobs::program(), "/method", Some("program".into()), methods);
    let known = "cleeng, easycms, loyalty, loyalty_mail, loyalty_plain, vitalsource";
    let expected = format!("system: is no configured system; expected one of {known}");
    target(jobs::cleeng(), "/system", Some("cleeng2".into()), &expected);
    let by = json!({ "confirmed_at": "2026-11-22T09:58:00Z", "by": "me" });
    target(jobs::cleeng(), "/confirmation", Some(by), "confirmation.by: expected subject or agent");
    let fields = "overwrite[1]: expected one of first_name, last_name, affiliate, email, reference";
    target(jobs::vitalsource(), "/overwrite/1", Some("guid".into()), fields);
    target(jobs::vitalsource(), "/overwrite/1", Some(json!(1)), fields);
}

#[test]
fn a_time_must_be_rfc_3339_with_an_offset() {
    for time in [
        "2026-11-22T10:00:00",
        "2026-11-22",
        "2026-11-22 10:00:00Z",
        "2026-11-22T10:00Z",
        "2026-11-22T10:00:00+02",
        "2026-11-22T10:00:00+0200",
        "20261122T100000Z",
        "2026-11-22T10:00:00[Europe/Helsinki]",
        "2026-11-22T10:00:00+02:00[Europe/Helsinki]",
        "2026-13-22T10:00:00Z",
        "2026-11-22T25:00:00Z",
        "2026-11-22T10:00:00,5Z",
        "2026-11-22T10:00:00.Z",
        "2026-11-22T10:00:00.5",
        "+002026-11-22T10:00:00Z",
        "1795341600",
        "",
    ] {
        top("/requested_at", Some(time.into()), &format!("requested_at: {TIME}"));
    }
    top("/due_at", Some("tomorrow".into()), &format!("due_at: {TIME}"));
    top("/requested_at", Some(json!(1_795_341_600)), "requested_at: expected a string, found a number");
    let at = json!({ "confirmed_at": "2026-11-22T09:58:00" });
    target(jobs::cleeng(), "/confirmation", Some(at), &format!("confirmation.confirmed_at: {TIME}"));
    let redeemed = format!("codes[0].redeemed_at: {TIME}");
    target(jobs::vitalsource(), "/codes/0/redeemed_at", Some("2026-11-15".into()), &redeemed);
}

#[test]
fn null_and_every_wrong_type_are_refused_and_named() {
    let nouns = [
        (Value::Null, "null"),
        (json!(true), "a boolean"),
        (json!(7), "a number"),
        (json!(["x"]), "an array"),
        (json!({ "x": 1 }), "an object"),
    ];
    for (value, noun) in nouns {
        for name in [
            "schema",
            "job_id",
            "tenant",
            "environment",
            "mode",
            "requested_at",
            "regulation",
            "due_at",
            "receipt_salt",
        ] {
            top(&format!("/{name}"), Some(value.clone()), &format!("{name}: expected a string, found {noun}"));
        }
        for form in jobs::every_form() {
            for (name, old) in form.as_object().unwrap() {
                if old.is_string() {
                    target(
                        form.clone(),
                        &format!("/{name}"),
                        Some(value.clone()),
                        &format!("{name}: expected a string, found {noun}"),
                    );
                }
            }
        }
        if !value.is_array() {
            top("/targets", Some(value.clone()), &format!("targets: expected an array, found {noun}"));
            for name in ["codes", "overwrite"] {
                let expected = format!("{name}: expected an array, found {noun}");
                target(jobs::vitalsource(), &format!("/{name}"), Some(value.clone()), &expected);
            }
        }
        if !value.is_object() {
            assert_eq!(bad(&bare(json!([value]))), format!("targets[0]: expected an object, found {noun}"));
            for (form, name) in
                [(jobs::program(), "member"), (jobs::program(), "confirmation"), (jobs::vitalsource(), "codes/0")]
            {
                let path = name.replace("/0", "[0]");
                target(
                    form,
                    &format!("/{name}"),
                    Some(value.clone()),
                    &format!("{path}: expected an object, found {noun}"),
                );
            }
        }
        if !value.is_number() {
            let expected = format!("codes[0].percent_read: expected a number, found {noun}");
            target(jobs::vitalsource(), "/codes/0/percent_read", Some(value.clone()), &expected);
        }
    }
    top("/retry", Some(Value::Null), "retry: expected true or false, found null");
    top("/extensions", Some(Value::Null), "extensions: expected an object");
}

#[test]
fn an_identifier_of_the_wrong_form_is_refused() {
    let digits = "customer_id: expected a string of 1 to 20 digits, not all of them 0";
    for id in ["12a", "-12", "１２", "0", &"1".repeat(21)] {
        target(jobs::cleeng(), "/customer_id", Some(id.into()), digits);
    }
    let token = "access_token: expected 1 to 8192 visible ASCII characters";
    for value in ["", "a b", "t\r\nX: y", "ü", &"x".repeat(8193)] {
        target(jobs::member(), "/access_token", Some(value.into()), token);
    }
    target(jobs::member(), "/current_password", Some("".into()), "current_password: expected 1 to 8192 bytes of text");
    target(
        jobs::vitalsource(),
        "/codes/1/code",
        Some("ABC123".into()),
        "codes[1].code: appears twice; expected each code once",
    );
}

#[test]
fn a_token_without_a_customer_of_digits_is_refused() {
    let expected = "customer_token: expected a JWT whose customerId claim is a string of digits";
    let payload = |claims: Value| jobs::jwt(&claims);
    let twice = {
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"customerId":1,"customerId":2}"#);
        format!("e30.{payload}.c2ln")
    };
    let good = payload(json!({ "customerId": "1" }));
    for token in [
        String::new(),
        "no-jwt".to_owned(),
        "a.b.c".to_owned(),
        payload(json!({})),
        payload(json!([1])),
        payload(json!({ "customerId": "x" })),
        payload(json!({ "customerId": null })),
        payload(json!({ "customerId": -1 })),
        payload(json!({ "customerId": 1.5 })),
        payload(json!({ "customerId": "" })),
        payload(json!({ "customerId": "1".repeat(21) })),
        payload(json!({ "customerid": "1" })),
        twice,
        format!("{good}.more"),
        good.rsplit_once('.').unwrap().0.to_owned(),
        format!("{good} "),
    ] {
        target(jobs::mediastore(), "/customer_token", Some(token.into()), expected);
    }
}

#[test]
fn a_member_has_exactly_one_id_of_a_kind_that_the_method_accepts() {
    let ids = "member: expected exactly one of member_id, integration_id, card_id, database_id";
    let two = json!({ "member_id": "1", "card_id": "2" });
    for form in [jobs::program(), jobs::manual()] {
        target(form.clone(), "/member", Some(two.clone()), ids);
        target(form.clone(), "/member", Some(json!({})), ids);
        let email =
            "member.email: is not a field here; expected one of member_id, integration_id, card_id, database_id";
        target(form, "/member", Some(json!({ "email": "ann@example.com" })), email);
    }
    target(jobs::member(), "/member", Some(json!({})), ids);
    let card = "member.card_id: is not a field here; expected one of member_id, integration_id, email";
    target(jobs::import(), "/member", Some(json!({ "card_id": "1" })), card);
    let key = "member: expected integration_id, the key of this system's import file";
    target(jobs::import(), "/member", Some(json!({ "member_id": "1" })), key);
    target(jobs::import(), "/member", Some(json!({ "email": "ann@example.com" })), key);
    let none = "method: import is not configured for this system; expected program_api, member_api or manual";
    target(jobs::import(), "/system", Some("loyalty_plain".into()), none);
}

#[test]
fn an_unknown_field_is_refused_at_every_level() {
    let top_level = "expected one of schema, job_id, tenant, environment, mode, requested_at, regulation, due_at, \
                     confirmation, approval, receipt_salt, retry, extensions, targets";
    top("/job", Some(json!(1)), &format!("<a field name of 3 bytes>: is not a field here; {top_level}"));
    top("/tennant", Some(json!("a")), &format!("tennant: is not a field here; {top_level}"));
    top("/targetss", Some(json!([])), &format!("targetss: is not a field here; {top_level}"));
    let easycms = "is not a field here; expected one of system, confirmation, email, customer_password";
    target(jobs::easycms(), "/emails", Some(json!([])), &format!("emails: {easycms}"));
    target(jobs::easycms(), "/current_password", Some("x".into()), &format!("current_password: {easycms}"));
    let code = "codes[0].percent_reed: is not a field here; expected one of code, redeemed_at, percent_read";
    target(jobs::vitalsource(), "/codes/0/percent_reed", Some(json!(1)), code);
    let confirmation = json!({ "confirmed_at": "2026-11-22T09:58:00Z", "reason": "x" });
    let expected = "is not a field here; expected one of confirmed_at, by";
    let bytes = "confirmation.<a field name of 6 bytes>";
    target(jobs::cleeng(), "/confirmation", Some(confirmation.clone()), &format!("{bytes}: {expected}"));
    top("/confirmation", Some(confirmation), &format!("{bytes}: {expected}"));
}

#[test]
fn a_field_of_another_kind_of_system_or_another_method_is_refused() {
    let forms = jobs::every_form();
    let mut cases = 0;
    for (index, form) in forms.iter().enumerate() {
        for other in &forms {
            for (name, value) in other.as_object().unwrap() {
                if form.get(name).is_some() || optional(index).contains(&name.as_str()) {
                    continue;
                }
                let error = bad(&one(with(form, &format!("/{name}"), Some(value.clone()))));
                assert!(error.starts_with(&format!("targets[0].{name}: is not a field here")), "{error}");
                cases += 1;
            }
        }
    }
    assert!(cases > 50, "{cases}");
}

/// The fields that a form accepts beside those of its example.
fn optional(form: usize) -> &'static [&'static str] {
    match form {
        3 => &["member"],
        _ => &[],
    }
}

#[test]
fn a_duplicate_field_is_refused_at_every_depth() {
    let body =
        one(with(&jobs::vitalsource(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" }))));
    let body = with(&body, "/extensions", Some(json!({ "trace": { "id": 1 } }))).to_string();
    for (field, path) in [
        (format!("\"job_id\":\"{JOB_ID}\""), "job_id"),
        ("\"guid\":\"9DDB-1\"".to_owned(), "targets[0].guid"),
        ("\"code\":\"DEF456\"".to_owned(), "targets[0].codes[1].code"),
        ("\"confirmed_at\":\"2026-11-22T09:58:00Z\"".to_owned(), "targets[0].confirmation.confirmed_at"),
        ("\"extensions\":{\"trace\":{\"id\":1}}".to_owned(), "extensions"),
    ] {
        assert!(body.contains(&field), "{field}");
        let doubled = body.replacen(&field, &format!("{field},{field}"), 1);
        raw(doubled.as_bytes(), &format!("{path}: appears twice; expected each field once"));
    }
}

#[test]
fn a_body_of_ninety_thousand_unknown_fields_is_read_in_one_pass() {
    let mut body = String::from("{");
    for n in 0..90_000 {
        write!(body, "\"{n}\":1,").unwrap();
    }
    body.push_str("\"x\":1}");
    raw(body.as_bytes(), "schema: is missing and required");
    let doubled = body.replacen("\"x\"", "\"0\"", 1);
    raw(doubled.as_bytes(), "<a field name of 1 bytes>: appears twice; expected each field once");
}

#[test]
fn a_value_over_a_limit_is_refused_with_the_limit() {
    let body = vec![b' '; 1024 * 1024 + 1];
    raw(&body, "body: has 1048577 bytes; expected at most 1048576");
    let targets: Vec<Value> = (0..65).map(|_| jobs::easycms()).collect();
    assert_eq!(bad(&bare(targets.into())), "targets: has 65 entries; expected 1 to 64");
    assert_eq!(bad(&bare(json!([]))), "targets: has 0 entries; expected 1 to 64");
    let codes: Vec<Value> = (0..10_001).map(|n| json!({ "code": format!("C{n}") })).collect();
    let expected = "codes: has 10001 entries; expected at most 10000";
    target(jobs::vitalsource(), "/codes", Some(codes.into()), expected);
    for percent in [json!(-0.1), json!(100.1), json!(1e300)] {
        let expected = "codes[0].percent_read: expected a number from 0 to 100";
        target(jobs::vitalsource(), "/codes/0/percent_read", Some(percent), expected);
    }
}

#[test]
fn a_valid_job_for_another_environment_is_refused_for_that_alone() {
    let staging = with(&one(jobs::easycms()), "/environment", Some("staging".into()));
    let refusal = jobs::parse(&staging).unwrap_err();
    assert_eq!(refusal.reason, Reason::WrongEnvironment);
    assert_eq!(refusal.invalid.to_string(), "environment: expected production, this worker's environment");
    assert_eq!(refusal.key.unwrap().job_id.to_string(), JOB_ID);
    let both = jobs::parse(&with(&staging, "/mode", Some("x".into()))).unwrap_err();
    assert_eq!((both.reason, both.invalid.path.as_str()), (Reason::Invalid, "mode"));
    let mut sandbox = accepts();
    sandbox.environment = "sandbox".into();
    let refusal = draft::job(one(jobs::easycms()).to_string().as_bytes(), None, &sandbox).unwrap_err();
    assert_eq!(refusal.reason, Reason::WrongEnvironment);
}

#[test]
fn a_refusal_names_tenant_and_job_if_they_can_be_read() {
    let key = |value: &Value, message_id| {
        let refusal = draft::job(value.to_string().as_bytes(), message_id, &accepts()).unwrap_err();
        refusal.key.map(|key| key.to_string())
    };
    let wrong = with(&with(&one(jobs::easycms()), "/mode", Some("x".into())), "/tenant", Some("acme".into()));
    assert_eq!(key(&wrong, None), Some(format!("acme/{JOB_ID}")));
    let other = "00000000-0000-4000-8000-000000000001";
    assert_eq!(key(&wrong, Some(other)), Some(format!("acme/{JOB_ID}")));
    assert_eq!(key(&with(&wrong, "/job_id", None), Some(other)), Some(format!("acme/{other}")));
    assert_eq!(key(&with(&wrong, "/job_id", None), None), None);
    assert_eq!(key(&json!([]), Some(other)), Some(format!("default/{other}")));
    let refusal = draft::job(b"{", Some(other), &accepts()).unwrap_err();
    assert_eq!(refusal.key.map(|key| key.to_string()), Some(format!("default/{other}")));
}

//! Random replies: no client panics or reads success in one.

use erasure_worker::job::{Answer, Step, StepName};
use erasure_worker::systems::{Facts, System};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::stub::{Stub, ask, one, reply};
use crate::{cleeng, easycms, vitalsource};

const STATUSES: [u16; 9] = [200, 201, 204, 302, 400, 404, 422, 469, 500];

const KEYS: &[&str] =
    &["success", "data", "message", "OUTPUT", "response_type", "result", "error", "id", "status", "offerId", "code"];
const NAMES: &[&str] =
    &["error-response", "error-code", "error-text", "error", "code", "codes", "license", "credential", "id"];

/// JSON of the interfaces' own words, without those that would mean success.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        Just(serde_json::Value::Bool(false)),
        any::<i32>().prop_map(Into::into),
        prop_oneof![Just("error"), Just("active"), Just("1"), Just("deleted"), Just("ok")].prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
    .prop_map(|value: serde_json::Value| value.to_string().into_bytes())
}

/// XML likewise: no `user`, no `deactivation-details`.
fn xml() -> impl Strategy<Value = Vec<u8>> {
    let leaf =
        prop_oneof![Just(String::new()), Just("x".to_owned()), Just("1005".to_owned()), Just("&#65;".to_owned())];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop::collection::vec((prop::sample::select(NAMES), inner), 1..4).prop_map(|children| {
            children.into_iter().map(|(name, text)| format!("<{name} code='7'>{text}</{name}>")).collect::<String>()
        })
    })
    .prop_map(|inner| format!("<error-response>{inner}</error-response>").into_bytes())
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 1..300).prop_filter("blank", |bytes| !bytes.trim_ascii().is_empty());
    prop_oneof![
        bytes,
        json(),
        xml(),
        "[ -~]{1,80}".prop_filter("blank", |text| !text.trim().is_empty()).prop_map(String::into_bytes)
    ]
}

/// Gives random replies to a step and judges each answer.
fn feed(
    build: impl Fn(&Stub) -> (Box<dyn System>, erasure_worker::job::Spec, Facts),
    step: Step,
    sound: fn(&Answer) -> bool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let stub = runtime.block_on(Stub::start());
    let (system, spec, facts) = build(&stub);
    let config = Config { cases: 192, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(prop::sample::select(&STATUSES[..]), noise()), |(status, body)| {
            stub.play([reply(status, body)]);
            let result = runtime.block_on(ask(system.as_ref(), &spec, step, &facts));
            prop_assert!(result.as_ref().map_or(true, sound), "{status}: {result:?}");
            Ok(())
        })
        .expect("a random reply counts as success");
}

fn cleeng_case(stub: &Stub) -> (Box<dyn System>, erasure_worker::job::Spec, Facts) {
    let facts = Facts { entitlement: Some(cleeng::entitlement()), ..Facts::default() };
    (Box::new(cleeng::client(stub)), cleeng::backend(), facts)
}

fn easycms_case(stub: &Stub) -> (Box<dyn System>, erasure_worker::job::Spec, Facts) {
    (Box::new(easycms::client(stub, easycms::PATH)), easycms::spec(), Facts::default())
}

fn vitalsource_case(stub: &Stub) -> (Box<dyn System>, erasure_worker::job::Spec, Facts) {
    (Box::new(vitalsource::client(stub)), vitalsource::account(Some("GUID-1"), Some("REF 1")), vitalsource::facts())
}

/// The only permitted answer of a destructive step. (`AlreadyDone` is VitalSource's plain 469.)
fn in_doubt(answer: &Answer) -> bool {
    matches!(answer, Answer::Unclear(_))
}

#[test]
fn a_random_reply_never_counts_as_an_anonymised_cleeng_customer() {
    feed(cleeng_case, one(StepName::DeleteCustomer), in_doubt);
}

#[test]
fn a_random_reply_never_counts_as_a_terminated_entitlement() {
    feed(cleeng_case, one(StepName::TerminateEntitlement), in_doubt);
}

#[test]
fn a_random_reply_is_never_an_empty_list_nor_a_proven_absence() {
    feed(cleeng_case, one(StepName::ListEntitlements), |_| false);
    feed(cleeng_case, one(StepName::Resolve), |answer| matches!(answer, Answer::Found(_)));
}

#[test]
fn a_random_reply_never_counts_as_a_deleted_or_absent_shop_account() {
    feed(easycms_case, one(StepName::DeleteAccount), in_doubt);
    feed(easycms_case, one(StepName::ReadBack), |_| false);
}

#[test]
fn a_random_reply_never_counts_as_a_revoked_or_cancelled_code() {
    feed(vitalsource_case, one(StepName::RevokeCode), |answer| {
        matches!(answer, Answer::Unclear(_) | Answer::AlreadyDone)
    });
    feed(
        vitalsource_case,
        one(StepName::ReadCode),
        |answer| matches!(answer, Answer::Code { state, .. } if *state != erasure_worker::job::CodeState::Cancelled),
    );
}

#[test]
fn a_random_reply_never_counts_as_an_overwritten_user() {
    feed(vitalsource_case, one(StepName::OverwriteUser), in_doubt);
    feed(vitalsource_case, one(StepName::ReadBack), |_| false);
    feed(vitalsource_case, one(StepName::CheckLicenses), |_| false);
}

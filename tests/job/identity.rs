//! A job's identity: the fields that are part of it, and different bytes for different identities.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::jobs::{self, bare, good, one, with};

fn identity(value: &Value) -> Vec<u8> {
    good(value).identity_bytes().to_vec()
}

/// Every example, and a member with both a token and an id.
fn forms() -> Vec<Value> {
    let mut forms = jobs::every_form();
    forms.push(with(&jobs::member(), "/member", Some(json!({ "member_id": "77" }))));
    forms
}

#[test]
fn each_identifier_and_each_method_changes_the_identity() {
    let mut seen: HashMap<Vec<u8>, Value> = HashMap::new();
    let mut keep = |target: Value| {
        let bytes = identity(&one(target.clone()));
        assert_eq!(seen.insert(bytes, target.clone()), None, "{target}");
    };
    for form in forms() {
        keep(form);
    }
    let other_customer = jobs::jwt(&json!({ "customerId": "987654321" }));
    for (form, pointer, value) in [
        (jobs::cleeng(), "/customer_id", json!("123456780")),
        (jobs::cleeng(), "/customer_email", json!("bob@example.com")),
        (jobs::mediastore(), "/customer_token", json!(other_customer)),
        (jobs::mediastore(), "/customer_email", json!("bob@example.com")),
        (jobs::program(), "/member", json!({ "member_id": "INT-42" })),
        (jobs::program(), "/member", json!({ "card_id": "INT-42" })),
        (jobs::program(), "/member", json!({ "database_id": "INT-42" })),
        (jobs::program(), "/member/integration_id", json!("INT-43")),
        (jobs::program(), "/system", json!("loyalty_mail")),
        (jobs::program(), "/method", json!("manual")),
        (jobs::import(), "/member/integration_id", json!("INT-43")),
        (jobs::manual(), "/member/member_id", json!("78")),
        (jobs::member(), "/access_token", json!("token-2")),
        (jobs::easycms(), "/email", json!("bob@example.com")),
        (jobs::vitalsource(), "/guid", json!("9DDB-2")),
        (jobs::vitalsource(), "/reference", json!("shop-78")),
        (jobs::vitalsource(), "/codes/0/code", json!("ABC124")),
        (jobs::vitalsource(), "/codes", json!([{ "code": "DEF456" }, { "code": "ABC123" }])),
        (jobs::vitalsource(), "/codes", json!([{ "code": "ABC123" }])),
        (jobs::vitalsource(), "/codes", json!([])),
        (jobs::vitalsource(), "/overwrite", json!(["first_name"])),
        (jobs::vitalsource(), "/overwrite", json!(["first_name", "email"])),
        (jobs::vitalsource(), "/overwrite", json!([])),
    ] {
        keep(with(&form, pointer, Some(value)));
    }
    keep(with(&jobs::vitalsource(), "/guid", None));
    keep(with(&jobs::vitalsource(), "/reference", None));
}

#[test]
fn proofs_details_and_the_jobs_other_fields_do_not_change_the_identity() {
    let fresh = jobs::jwt(&json!({ "customerId": "123456789", "exp": 9 }));
    let named = with(&jobs::member(), "/member", Some(json!({ "member_id": "77" })));
    let confirmation = json!({ "confirmed_at": "2026-11-22T09:58:00Z", "by": "agent" });
    for (form, pointer, value) in [
        (jobs::mediastore(), "/customer_token", Some(json!(fresh))),
        (jobs::member(), "/current_password", Some(json!("other"))),
        (jobs::member(), "/current_password", None),
        (jobs::member(), "/code", Some(json!("123456"))),
        (named.clone(), "/access_token", Some(json!("token-2"))),
        (named, "/access_token", None),
        (jobs::easycms(), "/customer_password", Some(json!("other"))),
        (jobs::easycms(), "/customer_password", None),
        (jobs::vitalsource(), "/codes/0/redeemed_at", None),
        (jobs::vitalsource(), "/codes/0/percent_read", Some(json!(99))),
        (jobs::vitalsource(), "/overwrite", Some(json!(["reference", "first_name", "reference"]))),
        (jobs::cleeng(), "/confirmation", Some(confirmation.clone())),
    ] {
        let changed = with(&form, pointer, value);
        assert_eq!(identity(&one(form)), identity(&one(changed.clone())), "{changed}");
    }
    let job = bare(forms().into());
    for (name, value) in [
        ("job_id", json!("00000000-0000-4000-8000-000000000001")),
        ("tenant", json!("acme")),
        ("mode", json!("preview")),
        ("requested_at", json!("2020-01-01T00:00:00Z")),
        ("regulation", json!("ccpa")),
        ("due_at", json!("2027-01-01T00:00:00Z")),
        ("confirmation", confirmation),
        ("receipt_salt", json!("salt")),
        ("retry", json!(true)),
        ("extensions", json!({ "a": 1 })),
    ] {
        assert_eq!(identity(&job), identity(&with(&job, &format!("/{name}"), Some(value))), "{name}");
    }
}

#[test]
fn a_jobs_identity_is_the_identities_of_its_targets_in_order() {
    let forms = forms();
    let job = good(&bare(forms.clone().into()));
    let joined: Vec<u8> = (0..forms.len()).flat_map(|index| job.target_identity(index).to_vec()).collect();
    assert_eq!(*job.identity_bytes(), joined);
    let swapped: Vec<_> = forms.iter().rev().cloned().collect();
    assert_ne!(identity(&bare(forms.into())), identity(&bare(swapped.into())));
}

/// A target's identity as a value, to compare instead of bytes.
fn plain(target: &Value) -> Value {
    let mut target = target.clone();
    let fields = target.as_object_mut().unwrap();
    let proofs = ["current_password", "code", "customer_password", "confirmation"];
    fields.retain(|name, _| !proofs.contains(&name.as_str()));
    if fields.contains_key("member") {
        fields.remove("access_token");
    }
    target
}

/// Short texts of few characters, so that two targets are often nearly equal.
fn word() -> impl Strategy<Value = String> {
    "[ab1:/]{0,2}[ab1]"
}

fn small_target() -> impl Strategy<Value = Value> {
    let digits = "[12]{1,2}";
    let email = "[ab]{1,2}@[ab]\\.[ab]";
    let member = prop_oneof![
        word().prop_map(|id| json!({ "member_id": id })),
        word().prop_map(|id| json!({ "card_id": id })),
        word().prop_map(|id| json!({ "integration_id": id })),
    ];
    let token = "[ab]{1,2}";
    prop_oneof![
        (digits, email).prop_map(|(id, email)| {
            json!({ "system": "cleeng", "flow": "backend", "customer_id": id, "customer_email": email })
        }),
        (member.clone(), prop_oneof![Just("program_api"), Just("manual"), Just("member_api")])
            .prop_map(|(member, method)| json!({ "system": "loyalty", "method": method, "member": member })),
        (token, proptest::option::of(member)).prop_map(|(token, member)| {
            let mut target = json!({ "system": "loyalty", "method": "member_api", "access_token": token });
            if let Some(member) = member {
                target["member"] = member;
            }
            target
        }),
        email.prop_map(|email| json!({ "system": "easycms", "email": email })),
        (proptest::option::of(word()), word(), proptest::collection::btree_set(word(), 0..3)).prop_map(
            |(guid, reference, codes)| {
                let codes: Vec<_> = codes.into_iter().map(|code| json!({ "code": code })).collect();
                let mut target = json!({ "system": "vitalsource", "reference": reference, "codes": codes });
                if let Some(guid) = guid {
                    target["guid"] = guid.into();
                }
                target
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_jobs_have_equal_identity_bytes_exactly_if_their_identities_are_equal(
        left in proptest::collection::vec(small_target(), 1..4),
        right in proptest::collection::vec(small_target(), 1..4),
    ) {
        // Random pairs are hardly ever equal, so each list is also compared with itself.
        let same = left.iter().map(plain).eq(right.iter().map(plain));
        prop_assert_eq!(identity(&bare(left.clone().into())) == identity(&bare(right.into())), same);
        prop_assert_eq!(identity(&bare(left.clone().into())), identity(&bare(left.into())));
    }
}

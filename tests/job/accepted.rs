//! What the parser accepts: every form of a target, every default, and values exactly at a limit.

use erasure_worker::job::{Field, MemberKey, Mode, Spec, draft};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::jobs::{self, JOB_ID, accepts, bare, good, one, with};

#[test]
fn each_form_of_a_target_is_accepted_alone_and_beside_all_the_others() {
    for target in jobs::every_form() {
        assert_eq!(good(&one(target)).targets.len(), 1);
    }
    let job = good(&bare(jobs::every_form().into()));
    let kinds: Vec<_> = job.targets.iter().map(|target| target.kind.as_str()).collect();
    let loyalty = "zeta_loyalty";
    assert_eq!(kinds, ["cleeng", "cleeng", loyalty, loyalty, loyalty, loyalty, "easycms", "vitalsource"]);
}

#[test]
fn a_job_with_only_the_required_fields_gets_the_documented_defaults() {
    let job = good(&one(jobs::easycms()));
    assert_eq!((job.key.tenant.as_str(), job.key.job_id.to_string().as_str()), ("default", JOB_ID));
    assert_eq!((job.environment.as_str(), job.mode, job.retry), ("production", Mode::Erase, false));
    assert!(job.regulation.is_none() && job.due_at.is_none() && job.confirmation.is_none());
    assert!(job.receipt_salt.is_none());
    assert_eq!(job.requested_at.as_second(), 1_795_341_600);
}

#[test]
fn every_optional_field_is_read() {
    let mut value =
        one(with(&jobs::cleeng(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:59:00+01:00" }))));
    for (name, given) in [
        ("tenant", json!("acme-1_b")),
        ("environment", json!("production")),
        ("mode", json!("preview")),
        ("regulation", json!("lgpd")),
        ("due_at", json!("2026-12-22T10:00:00.5-05:00")),
        ("confirmation", json!({ "confirmed_at": "2026-11-22T09:58:00Z", "by": "agent" })),
        ("receipt_salt", json!("salt")),
        ("retry", json!(true)),
        ("extensions", json!({ "anything": [1, null, { "deep": true }] })),
    ] {
        value = with(&value, &format!("/{name}"), Some(given));
    }
    let job = good(&value);
    assert_eq!((job.key.tenant.as_str(), job.mode, job.retry), ("acme-1_b", Mode::Preview, true));
    assert_eq!(job.regulation.as_deref(), Some("lgpd"));
    assert_eq!(job.due_at.unwrap().as_millisecond(), 1_797_951_600_500);
    assert_eq!(job.receipt_salt.as_ref().unwrap().expose_secret(), "salt");
    assert_eq!(job.confirmation.as_ref().unwrap().by, "agent");
    let of_target = job.confirmation_for(&job.targets[0]).unwrap();
    assert_eq!((of_target.by.as_str(), of_target.confirmed_at.as_second()), ("subject", 1_795_337_940));
}

#[test]
fn the_built_in_regulations_are_accepted() {
    for law in ["gdpr", "uk_gdpr", "ccpa", "lgpd"] {
        let job = good(&with(&one(jobs::cleeng()), "/regulation", Some(law.into())));
        assert_eq!(job.regulation.as_deref(), Some(law));
    }
}

#[test]
fn a_job_id_is_lowercased_and_the_message_id_is_used_only_if_the_body_has_none() {
    let upper = JOB_ID.to_uppercase();
    assert_eq!(
        good(&with(&one(jobs::easycms()), "/job_id", Some(upper.clone().into()))).key.job_id.to_string(),
        JOB_ID
    );
    let without = with(&one(jobs::easycms()), "/job_id", None).to_string();
    let job = draft::job(without.as_bytes(), Some(&upper), &accepts()).unwrap();
    assert_eq!(job.key.job_id.to_string(), JOB_ID);
    let other = "00000000-0000-4000-8000-000000000001";
    let both = draft::job(one(jobs::easycms()).to_string().as_bytes(), Some(other), &accepts()).unwrap();
    assert_eq!(both.key.job_id.to_string(), JOB_ID);
}

#[test]
fn a_token_gives_the_customer_id_as_a_number_or_as_a_string() {
    for claim in [json!(123_456_789), json!("123456789")] {
        let token = jobs::jwt(&json!({ "exp": 1, "customerId": claim }));
        let job = good(&one(with(&jobs::mediastore(), "/customer_token", Some(token.clone().into()))));
        let Spec::CleengMediastore { customer_token, customer_id, .. } = &job.targets[0].spec else { panic!("spec") };
        assert_eq!((customer_token.expose_secret(), customer_id.expose_secret()), (token.as_str(), "123456789"));
    }
}

#[test]
fn each_method_accepts_each_of_its_kinds_of_member_id() {
    let ids = [MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId, MemberKey::DatabaseId];
    for method in ["program_api", "member_api", "manual"] {
        for key in ids {
            let target = json!({ "system": "loyalty", "method": method, "member": { key.as_str(): "77" } });
            let job = good(&one(target));
            let (Spec::LoyaltyProgram { member }
            | Spec::LoyaltyManual { member }
            | Spec::LoyaltyMember { member: Some(member), .. }) = &job.targets[0].spec
            else {
                panic!("spec")
            };
            assert_eq!((member.key, member.value.expose_secret()), (key, "77"));
        }
    }
    let by_mail = json!({ "system": "loyalty_mail", "method": "import", "member": { "email": "ann@example.com" } });
    let job = good(&one(by_mail));
    let Spec::LoyaltyImport { member } = &job.targets[0].spec else { panic!("spec") };
    assert_eq!((member.key, member.value.expose_secret()), (MemberKey::Email, "ann@example.com"));
}

#[test]
fn a_member_is_named_by_a_token_an_id_or_both_with_any_proof() {
    let mut target = jobs::member();
    target["member"] = json!({ "card_id": "C 1" });
    target["code"] = json!("123456");
    let job = good(&one(target));
    let Spec::LoyaltyMember { access_token, member, current_password, code } = &job.targets[0].spec else {
        panic!("spec")
    };
    assert!(access_token.is_some() && member.is_some() && current_password.is_some() && code.is_some());
    let token_only = json!({ "system": "loyalty", "method": "member_api", "access_token": "t" });
    assert!(matches!(&good(&one(token_only)).targets[0].spec, Spec::LoyaltyMember { member: None, code: None, .. }));
}

#[test]
fn a_vitalsource_user_needs_a_guid_or_a_reference_but_no_code() {
    for name in ["guid", "reference"] {
        let job = good(&one(json!({ "system": "vitalsource", name: "x" })));
        let Spec::VitalSource { codes, overwrite, .. } = &job.targets[0].spec else { panic!("spec") };
        assert!(codes.is_empty() && overwrite.is_empty());
    }
    let twice =
        json!({ "system": "vitalsource", "guid": "x", "codes": [], "overwrite": ["email", "email", "affiliate"] });
    let job = good(&one(twice));
    let Spec::VitalSource { overwrite, .. } = &job.targets[0].spec else { panic!("spec") };
    assert_eq!(overwrite.iter().copied().collect::<Vec<_>>(), [Field::Affiliate, Field::Email]);
}

#[test]
fn a_value_exactly_at_a_limit_is_accepted() {
    let targets: Vec<Value> =
        (0..64).map(|n| json!({ "system": "easycms", "email": format!("p{n}@example.com") })).collect();
    assert_eq!(good(&bare(targets.into())).targets.len(), 64);
    let codes: Vec<Value> = (0..10_000).map(|n| json!({ "code": format!("C{n}") })).collect();
    let job = good(&one(json!({ "system": "vitalsource", "guid": "x", "codes": codes })));
    assert!(matches!(&job.targets[0].spec, Spec::VitalSource { codes, .. } if codes.len() == 10_000));

    let value = with(&one(jobs::easycms()), "/extensions", Some(json!({ "pad": "" })));
    let room = 1024 * 1024 - value.to_string().len();
    let full = with(&value, "/extensions/pad", Some("x".repeat(room).into())).to_string();
    assert_eq!(full.len(), 1024 * 1024);
    assert!(draft::job(full.as_bytes(), None, &accepts()).is_ok());

    for percent in [json!(0), json!(19.999), json!(100)] {
        good(&with(&one(jobs::vitalsource()), "/targets/0/codes/0/percent_read", Some(percent)));
    }
    good(&with(&one(jobs::cleeng()), "/targets/0/customer_id", Some("1".repeat(20).into())));
    good(&with(&one(jobs::cleeng()), "/tenant", Some("a".repeat(63).into())));
}

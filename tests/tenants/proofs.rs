//! Sealed proofs: which ones open, and their equality with the plain form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use erasure_worker::seal::jwe::{ProofError, is_sealed_proof, seal_proof};
use erasure_worker::seal::{Keyring, MasterKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bench::{Bench, KEY, NEXT_KEY, id, job};

const JOB: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";

fn key(text: &str) -> MasterKey {
    MasterKey::parse(text).unwrap()
}

fn ring() -> Keyring {
    Keyring::new(key(KEY), vec![]).unwrap()
}

fn seal(plain: &str) -> String {
    seal_proof(&ring().sealing_key(), plain, Some(JOB)).unwrap()
}

/// The sealed text with a changed header.
fn with_header(sealed: &str, change: impl FnOnce(&mut Value)) -> String {
    let (header, rest) = sealed.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&BASE64.decode(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", BASE64.encode(header.to_string()))
}

#[test]
fn a_sealed_proof_opens_for_its_job_and_no_other() {
    assert_eq!(*ring().open_proof(&seal("pässword"), JOB).unwrap(), "pässword");
    assert_eq!(*ring().open_proof(&seal("p"), &JOB.to_uppercase()).unwrap(), "p");
    let other = uuid::Uuid::new_v4().to_string();
    assert_eq!(ring().open_proof(&seal("p"), &other).unwrap_err(), ProofError::OtherJob);
    let for_any = seal_proof(&ring().sealing_key(), "p", None).unwrap();
    assert_eq!(*ring().open_proof(&for_any, &other).unwrap(), "p");
}

#[test]
fn after_a_rotation_proofs_for_the_previous_key_open_and_only_the_new_key_is_shown() {
    let during = Keyring::new(key(NEXT_KEY), vec![key(KEY)]).unwrap();
    let after = Keyring::new(key(NEXT_KEY), vec![]).unwrap();
    assert_eq!(*during.open_proof(&seal("p"), JOB).unwrap(), "p");
    assert_eq!(after.open_proof(&seal("p"), JOB).unwrap_err(), ProofError::UnknownKey);
    assert_eq!(during.sealing_key(), after.sealing_key());
    assert_ne!(during.sealing_key()["kid"], ring().sealing_key()["kid"]);
    let shown = during.all_public_keys();
    let shown = shown["keys"].as_array().unwrap();
    let uses: Vec<_> = shown.iter().map(|key| (key["use"].as_str().unwrap(), key["crv"].as_str().unwrap())).collect();
    assert_eq!(uses, [("sig", "Ed25519"), ("sig", "Ed25519"), ("enc", "X25519")]);
    let mut ids: Vec<_> = shown.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "no two keys of a set have one id");
}

#[test]
fn no_other_form_of_sealing_is_accepted() {
    let sealed = seal("p");
    let refused = |change: fn(&mut Value)| ring().open_proof(&with_header(&sealed, change), JOB).unwrap_err();
    assert_eq!(refused(|header| header["alg"] = "ECDH-ES+A256KW".into()), ProofError::Algorithm);
    assert_eq!(refused(|header| header["alg"] = "dir".into()), ProofError::Algorithm);
    assert_eq!(refused(|header| header["enc"] = "A128GCM".into()), ProofError::Algorithm);
    assert_eq!(refused(|header| header["zip"] = "DEF".into()), ProofError::Algorithm);
    assert_eq!(refused(|header| header["crit"] = json!(["exp"])), ProofError::Algorithm);
    assert_eq!(refused(|header| header["epk"]["crv"] = "P-256".into()), ProofError::Algorithm);
    assert_eq!(refused(|header| header["epk"]["x"] = BASE64.encode([0; 32]).into()), ProofError::Refused);
    assert_eq!(refused(|header| header["epk"]["x"] = "AAAA".into()), ProofError::Malformed);
    assert_eq!(refused(|header| header["kid"] = "another".into()), ProofError::UnknownKey);
    assert_eq!(refused(|header| header["kid"] = Value::Null), ProofError::UnknownKey);
    assert_eq!(refused(|header| header["job_id"] = Value::Null), ProofError::Refused, "the header is authenticated");
    let with_key = sealed.replacen("..", ".AAAA.", 1);
    assert_eq!(ring().open_proof(&with_key, JOB).unwrap_err(), ProofError::Malformed);
    let long = seal(&"x".repeat(17 * 1024));
    assert_eq!(ring().open_proof(&long, JOB).unwrap_err(), ProofError::Malformed);
}

#[test]
fn passwords_with_dots_and_platforms_own_tokens_are_plain() {
    let of_a_platform = format!("{}.AAAA.AAAA.AAAA.AAAA", BASE64.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
    for plain in ["a.b.c.d.e", "eyJhbGciOiJub25lIn0.e30.", "....", "hunter2", of_a_platform.as_str()] {
        assert!(!is_sealed_proof(plain), "{plain}");
    }
    assert!(is_sealed_proof(&seal("p")));
}

proptest! {
    #[test]
    fn a_sealed_proof_with_one_character_changed_never_opens(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let sealed = seal("secret");
        let at = at.index(sealed.len());
        prop_assume!(sealed[at..=at] != to);
        let changed = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
        prop_assert!(ring().open_proof(&changed, JOB).is_err());
        prop_assert!(ring().open_proof(&sealed[..at], JOB).is_err());
    }

    #[test]
    fn no_text_makes_opening_panic(text in "[A-Za-z0-9_=.{}\":-]{0,200}") {
        prop_assert!(ring().open_proof(&text, JOB).is_err());
    }
}

/// One target for each secret field, with the plain values.
fn every_proof(bench: &Bench) -> (Value, Vec<(usize, &'static str)>) {
    let (shop, member, token, viewer) = (bench.person(1), bench.person(2), bench.person(3), bench.person(4));
    let jwt = format!("{}.{}.c2ln", BASE64.encode(r#"{"alg":"HS256"}"#), {
        BASE64.encode(json!({ "customerId": viewer.customer_id }).to_string())
    });
    let targets = json!([
        { "system": "shop", "email": shop.email, "customer_password": shop.customer_password },
        { "system": "loyalty", "method": "member_api", "access_token": member.access_token,
          "current_password": member.current_password },
        { "system": "loyalty", "method": "member_api", "access_token": token.access_token, "code": "123456" },
        { "system": "cleeng", "flow": "mediastore", "customer_token": jwt, "customer_email": viewer.email },
    ]);
    let fields = vec![
        (0, "customer_password"),
        (1, "access_token"),
        (1, "current_password"),
        (2, "access_token"),
        (2, "code"),
        (3, "customer_token"),
    ];
    (targets, fields)
}

#[tokio::test]
async fn a_job_with_sealed_proofs_is_the_same_job_as_with_plain_ones() {
    let bench = Bench::with("").await;
    let (targets, fields) = every_proof(&bench);
    let plain = job("acme", targets);
    bench.send(&plain);
    let first = bench.post.until("an event", |seen| !seen.of(id(&plain)).is_empty()).await;
    let subject = first.of(id(&plain))[0]["data"]["subject_ref"].clone();
    assert!(subject.is_string());
    let mut sealed = plain.clone();
    for (target, field) in fields {
        let text = plain["targets"][target][field].as_str().unwrap();
        sealed["targets"][target][field] =
            seal_proof(&bench.keyring.sealing_key(), text, Some(id(&plain))).unwrap().into();
    }
    sealed["job_id"] = plain["job_id"].clone();
    let acked = bench.post.seen().acked;
    bench.send(&sealed);
    // Another identity would be rejected as a conflict.
    let seen = bench.post.until("the second copy", |seen| seen.acked > acked).await;
    for event in seen.of(id(&plain)) {
        assert_ne!(event["data"]["outcome"], "rejected", "{event}");
        assert_eq!(event["data"]["subject_ref"], subject);
    }
    bench.end().await;
}

#[tokio::test]
async fn a_sealed_password_erases() {
    let bench = Bench::with("").await;
    let person = bench.person(1);
    let mut job = crate::bench::shop_job("acme", &person);
    let key = bench.keyring.sealing_key();
    job["targets"][0]["customer_password"] = seal_proof(&key, &person.customer_password, None).unwrap().into();
    bench.send(&job);
    bench.post.event(id(&job), "completed").await;
    assert!(!bench.is_in_shop(&person));
    bench.end().await;
}

#[tokio::test]
async fn a_proof_that_does_not_open_is_refused_with_its_path_before_any_call() {
    let bench = Bench::with("").await;
    let person = bench.person(1);
    let mut job = crate::bench::shop_job("acme", &person);
    let stranger = Keyring::new(key(NEXT_KEY), vec![]).unwrap();
    job["targets"][0]["customer_password"] = seal_proof(&stranger.sealing_key(), "p", None).unwrap().into();
    bench.send(&job);
    let event = bench.post.event(id(&job), "rejected").await;
    assert_eq!(event["data"]["error"]["reason"], "invalid");
    let detail = event["data"]["error"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("targets[0].customer_password: is sealed for a key"), "{detail}");
    assert_eq!(bench.calls(), 0);
    bench.end().await;
}

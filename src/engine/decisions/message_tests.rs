//! A decision's bytes.

use uuid::Uuid;

use super::{Authenticity, Decided, What};
use crate::engine::ceilings::Scope;
use crate::engine::pauses::Subject;
use crate::job::{At, JobKey};
use crate::seal::{Keyring, MasterKey};

const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn keyring(key: &str, previous: &[&str]) -> Keyring {
    let parse = |key: &str| MasterKey::parse(key).unwrap();
    Keyring::new(parse(key), previous.iter().map(|key| parse(key)).collect()).unwrap()
}

/// One of each kind.
fn every_kind() -> Vec<What> {
    let jobs = vec![JobKey { tenant: "acme".into(), job_id: Uuid::from_u128(7) }];
    let scope = Scope::System("shop".into());
    vec![
        What::Pause { subject: Subject::System("shop".into()), since: At(5), again: false },
        What::Pause { subject: Subject::Tenant("acme".into()), since: At(5), again: true },
        What::Resume { subject: Subject::Tenant("acme".into()) },
        What::Cancel { jobs: jobs.clone() },
        What::ReleaseSystem { system: "shop".into() },
        What::Discard { jobs: jobs.clone(), runs: vec![3] },
        What::ReleaseGuard { scope: scope.clone(), until: Some(At(5)), jobs: jobs.clone() },
        What::DiscardGuarded { scope, until: None, jobs: jobs.clone() },
        What::Approval { is_approved: true, jobs, findings: vec!["00ff".into()] },
        What::Mark,
        What::SetAside { print: "00ff".into() },
    ]
}

fn decided(what: What) -> Decided {
    let (by, reason) = ("operations".to_owned(), "the vendor asked".to_owned());
    let (environment, worker) = ("sandbox".to_owned(), "worker-0".to_owned());
    Decided { id: Uuid::from_u128(1), environment, at: At(9), worker, by, reason, what }
}

#[test]
fn a_decision_of_every_kind_is_read_as_it_was_written_also_after_a_rotation() {
    for what in every_kind() {
        let one = decided(what);
        let body = one.to_body(&keyring(OLD, &[]));
        for keys in [keyring(OLD, &[]), keyring(NEW, &[OLD])] {
            assert_eq!(Decided::read(&body, &keys), Authenticity::Ours(Box::new(one.clone())));
        }
        assert_eq!(Decided::read(&body, &keyring(NEW, &[])), Authenticity::Forged, "of another key");
    }
}

#[test]
fn no_changed_byte_of_any_decision_is_believed() {
    let keys = keyring(OLD, &[]);
    let mut tried = 0;
    for what in every_kind() {
        let body = decided(what).to_body(&keys);
        for place in 0..body.len() {
            for other in [body[place] ^ 1, b'0', b'"'] {
                let mut changed = body.clone();
                changed[place] = other;
                if changed == body {
                    continue;
                }
                tried += 1;
                let reading = Decided::read(&changed, &keys);
                // A hexadecimal digit has two forms; the bytes are the same.
                let is_same = changed.eq_ignore_ascii_case(&body) && reading == Decided::read(&body, &keys);
                assert!(matches!(reading, Authenticity::Forged | Authenticity::Other) || is_same, "byte {place}");
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn what_is_no_decision_is_left_to_others_and_what_only_claims_to_be_one_is_not() {
    let keys = keyring(OLD, &[]);
    for other in ["", "no JSON", "[]", "{}", r#"{"schema":"erasure.cancel/v1","job_id":"x"}"#, r#"{"schema":7}"#] {
        assert_eq!(Decided::read(other.as_bytes(), &keys), Authenticity::Other, "{other}");
    }
    for forged in [
        r#"{"schema":"erasure.decision/v1"}"#,
        r#"{"schema":"erasure.decision/v1","decision":{},"mac":""}"#,
        r#"{"schema":"erasure.decision/v1","decision":"{}","mac":""}"#,
        r#"{"schema":"erasure.decision/v1","decision":"{}","mac":"zz","more":1}"#,
    ] {
        assert_eq!(Decided::read(forged.as_bytes(), &keys), Authenticity::Forged, "{forged}");
    }
}

#[test]
fn a_decision_of_a_newer_release_is_ours_and_not_understood() {
    let keys = keyring(OLD, &[]);
    let decision = r#"{"id":"00000000-0000-0000-0000-000000000001","what":"something_new"}"#;
    let mac = hex::encode(keys.mac(super::PURPOSE, &[decision.as_bytes()]));
    let body = serde_json::json!({ "schema": super::SCHEMA, "decision": decision, "mac": mac }).to_string();
    assert_eq!(Decided::read(body.as_bytes(), &keys), Authenticity::Unknown);
}

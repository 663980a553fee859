//! The promises of sealing, on whole keyrings: rotation, wrong context, altered and cut bytes.

use proptest::prelude::*;

use super::*;

const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f";
const JOB: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";

fn key(text: &str) -> MasterKey {
    MasterKey::parse(text).unwrap()
}

fn before() -> Keyring {
    Keyring::new(key(OLD), vec![]).unwrap()
}

fn during() -> Keyring {
    Keyring::new(key(NEW), vec![key(OLD)]).unwrap()
}

fn after() -> Keyring {
    Keyring::new(key(NEW), vec![]).unwrap()
}

#[test]
fn a_sealed_value_opens_with_its_purpose_and_context_only() {
    let ring = before();
    let sealed = ring.seal_for_master(PARKED, b"acme", b"content").unwrap();
    assert_eq!(ring.open_for_master(PARKED, b"acme", &sealed).unwrap(), b"content");
    assert_eq!(ring.open_for_master(PARKED, b"other", &sealed), Err(SealError::Refused));
    assert_eq!(ring.open_for_master(DEAD_LETTER, b"acme", &sealed), Err(SealError::Refused));
}

#[test]
fn sealing_twice_gives_different_bytes_and_shows_no_plaintext() {
    let ring = before();
    let (a, b) = (ring.seal_for_master(PARKED, b"", b"content"), ring.seal_for_master(PARKED, b"", b"content"));
    let a = a.unwrap();
    assert_ne!(a, b.unwrap());
    assert!(!a.windows(7).any(|window| window == b"content"));
}

#[test]
fn a_rotation_opens_the_old_seals_with_the_new_and_retires_the_old_key_after_it() {
    let sealed = before().seal_for_master(PARKED, b"a", b"x").unwrap();
    assert_eq!(during().open_for_master(PARKED, b"a", &sealed).unwrap(), b"x");
    assert_eq!(after().open_for_master(PARKED, b"a", &sealed), Err(SealError::UnknownKey(key(OLD).id())));
    let fresh = during().seal_for_master(PARKED, b"a", b"x").unwrap();
    assert_eq!(after().open_for_master(PARKED, b"a", &fresh).unwrap(), b"x");
    assert_eq!(before().open_for_master(PARKED, b"a", &fresh), Err(SealError::UnknownKey(key(NEW).id())));
}

#[test]
fn a_key_id_put_in_by_hand_does_not_open() {
    let mut sealed = before().seal_for_master(PARKED, b"a", b"x").unwrap();
    sealed[4..8].copy_from_slice(&key(NEW).id().0);
    assert_eq!(during().open_for_master(PARKED, b"a", &sealed), Err(SealError::Refused));
}

#[test]
fn a_repeated_key_is_refused() {
    let twice = Keyring::new(key(NEW), vec![key(OLD), key(OLD)]);
    assert_eq!(twice.unwrap_err(), KeyError::Repeated(key(OLD).id()));
    assert_eq!(Keyring::new(key(NEW), vec![key(NEW)]).unwrap_err(), KeyError::Repeated(key(NEW).id()));
}

#[test]
fn a_job_key_depends_on_tenant_job_and_identity() {
    let ring = before();
    let sealed = ring.job_secret("acme", JOB, b"identity").seal(b"r1", b"x").unwrap();
    assert_eq!(ring.job_secret("acme", JOB, b"identity").open(b"r1", &sealed).unwrap(), b"x");
    let other_job = JOB.replace('6', "7");
    for other in [
        ring.job_secret("umbrella", JOB, b"identity"),
        ring.job_secret("acme", &other_job, b"identity"),
        ring.job_secret("acme", JOB, b"identitz"),
    ] {
        assert_eq!(other.open(b"r1", &sealed), Err(SealError::Refused));
    }
    assert_eq!(ring.job_secret("acme", JOB, b"identity").open(b"r2", &sealed), Err(SealError::Refused));
}

#[test]
fn a_job_key_opens_what_was_sealed_before_a_rotation() {
    let sealed = before().job_secret("acme", JOB, b"i").seal(b"r", b"x").unwrap();
    assert_eq!(during().job_secret("acme", JOB, b"i").open(b"r", &sealed).unwrap(), b"x");
    assert!(matches!(after().job_secret("acme", JOB, b"i").open(b"r", &sealed), Err(SealError::UnknownKey(_))));
}

#[test]
fn a_mac_holds_for_its_purpose_and_parts_under_current_and_previous_keys() {
    let tag = before().mac("park", &[b"a", b"b"]);
    assert!(before().verify_mac("park", &[b"a", b"b"], &tag));
    assert!(during().verify_mac("park", &[b"a", b"b"], &tag));
    assert!(!after().verify_mac("park", &[b"a", b"b"], &tag));
    assert!(!before().verify_mac("park", &[b"ab"], &tag));
    assert!(!before().verify_mac("other", &[b"a", b"b"], &tag));
    assert!(!before().verify_mac("park", &[b"a", b"b"], &tag[..31]));
    assert!(!before().verify_mac("park", &[b"a", b"b"], &[]));
}

#[test]
fn a_pseudonym_is_stable_and_another_for_each_tenant() {
    let name = before().pseudonym("acme", &[b"subject"]);
    assert_eq!(name, before().pseudonym("acme", &[b"subject"]));
    assert_ne!(name, before().pseudonym("umbrella", &[b"subject"]));
    assert_eq!(name.len(), 34);
    assert!(name.starts_with("s-") && name[2..].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
}

#[test]
fn a_digest_is_recognised_through_a_rotation_and_unknown_after_it() {
    let stored = before().digest("identity", b"content");
    assert_eq!(before().matches_digest("identity", b"content", &stored), Some(true));
    assert_eq!(during().matches_digest("identity", b"content", &stored), Some(true));
    assert_eq!(during().matches_digest("identity", b"other", &stored), Some(false));
    assert_eq!(during().matches_digest("body", b"content", &stored), Some(false));
    assert_eq!(after().matches_digest("identity", b"content", &stored), None);
    assert_eq!(after().matches_digest("identity", b"content", b"abc"), None);
}

#[test]
fn replacement_bytes_are_the_same_on_every_worker_and_for_every_job_and_differ_by_user_and_field() {
    let of_job = ("acme", JOB, 0);
    let value = |ring: Keyring, user: &str, field: &str| ring.replacements(user, field, of_job);
    let values = value(before(), "GUID-1", "email");
    assert_eq!(values, value(before(), " guid-1", "email"));
    assert_eq!(values[0], before().replacements("GUID-1", "email", ("umbrella", JOB, 1))[0]);
    assert_ne!(values[0], value(before(), "GUID-2", "email")[0]);
    assert_ne!(values[0], value(before(), "GUID-1", "first_name")[0]);
    // After a rotation, and the values of an earlier release: another value for each job.
    let rotated = value(during(), "GUID-1", "email");
    assert_eq!(rotated[0], value(after(), "GUID-1", "email")[0]);
    assert!(values.iter().all(|value| rotated.contains(value)));
    assert_eq!((values.len(), rotated.len()), (2, 4));
    assert_ne!(values[1], before().replacements("GUID-1", "email", ("acme", JOB, 1))[1]);
}

#[test]
fn json_never_looks_sealed() {
    for text in [&b"{}"[..], b"", b" {\"schema\":\"erasure.job/v1\",\"job_id\":\"aaaaaaaaaaaaaaaaaaaaaaaa\"}"] {
        assert!(!looks_sealed(text));
    }
    assert!(looks_sealed(&before().seal_for_master(PARKED, b"", b"").unwrap()));
}

#[test]
fn a_later_version_is_recognised_and_named() {
    let mut sealed = before().seal_for_master(PARKED, b"", b"x").unwrap();
    sealed[3] = 2;
    assert!(looks_sealed(&sealed));
    assert_eq!(before().open_for_master(PARKED, b"", &sealed), Err(SealError::Version(2)));
}

#[test]
fn debug_shows_ids_only() {
    let ring = during();
    let shown = format!("{ring:?} {:?}", ring.job_secret("acme", JOB, b"person"));
    assert!(shown.contains(&ring.key_id().to_string()));
    for secret in ["person", "root", &NEW[..8], "240, 241"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_open_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(before().open_for_master(PARKED, b"", &bytes).is_err());
        prop_assert!(before().job_secret("a", "b", b"c").open(b"", &bytes).is_err());
        prop_assert!(!before().verify_mac("p", &[b"x"], &bytes));
    }

    #[test]
    fn bytes_behind_a_valid_head_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sealed = before().seal_for_master(PARKED, b"", b"x").unwrap();
        sealed.truncate(8);
        sealed.extend_from_slice(&bytes);
        prop_assert!(before().open_for_master(PARKED, b"", &sealed).is_err());
    }

    #[test]
    fn one_flipped_bit_or_a_cut_anywhere_is_refused(
        plain in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let sealed = before().seal_for_master(PARKED, b"a", &plain).unwrap();
        prop_assert_eq!(before().open_for_master(PARKED, b"a", &sealed).unwrap(), plain);
        let mut flipped = sealed.clone();
        let index = at.index(sealed.len());
        flipped[index] ^= 1 << bit;
        prop_assert!(before().open_for_master(PARKED, b"a", &flipped).is_err());
        prop_assert!(before().open_for_master(PARKED, b"a", &sealed[..index]).is_err());
    }
}

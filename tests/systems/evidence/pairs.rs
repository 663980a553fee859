//! Every pair of a target's identifiers: each is the person's, another person's or unknown.
//!
//! The rule it keeps: if both find the same person, the person is erased; if both find nobody, the person is absent.
//! Every other pair is refused with `identity_mismatch`.

use erasure_worker::job::{Code, Member, MemberKey, Reason, Spec, TargetEnd, TargetOutcome};
use erasure_worker::sandbox::{Person, mint_jwt};

use super::scenario::{NOBODY, OTHER, PERSON, Scenario};
use super::{Recorded, Relay, carry_out};

/// The possible owners of an identifier.
const WHOSE: [u64; 3] = [PERSON, OTHER, NOBODY];

/// A target with two identifiers, each with its owner.
struct Pair {
    name: &'static str,
    spec: fn(&Person, &Person) -> Spec,
    /// The first identifier is also a proof: an unknown proof is requested again.
    is_proof: bool,
}

fn member(person: &Person, key: MemberKey) -> Member {
    let value = match key {
        MemberKey::MemberId => &person.member_id,
        MemberKey::IntegrationId => &person.integration_id,
        MemberKey::CardId => &person.card_id,
        MemberKey::DatabaseId => &person.database_id,
        MemberKey::Email => &person.email,
    };
    Member { key, value: value.clone().into() }
}

fn by_token(token: &Person, named: &Person, key: MemberKey) -> Spec {
    Spec::LoyaltyMember {
        access_token: Some(token.access_token.clone().into()),
        member: Some(member(named, key)),
        current_password: Some(token.current_password.clone().into()),
        code: None,
    }
}

fn reader(guid: Option<&Person>, reference: Option<&Person>, codes: &[String]) -> Spec {
    let code = |code: &String| Code { code: code.clone().into(), redeemed_at: None, percent_read: None };
    Spec::VitalSource {
        guid: guid.map(|person| person.guid.clone().into()),
        reference: reference.map(|person| person.reference.clone().into()),
        codes: codes.iter().map(code).collect(),
        overwrite: Default::default(),
    }
}

const PAIRS: [Pair; 10] = [
    Pair {
        name: "cleeng customer_id and customer_email",
        spec: |one, two| Spec::CleengBackend {
            customer_id: one.customer_id.clone().into(),
            customer_email: two.email.clone().into(),
        },
        is_proof: false,
    },
    Pair {
        name: "cleeng customer_token and customer_email",
        spec: |one, two| Spec::CleengMediastore {
            customer_token: mint_jwt(&one.customer_id, None).into(),
            customer_id: one.customer_id.clone().into(),
            customer_email: two.email.clone().into(),
        },
        is_proof: false,
    },
    Pair {
        name: "loyalty access_token and member_id",
        spec: |one, two| by_token(one, two, MemberKey::MemberId),
        is_proof: true,
    },
    Pair {
        name: "loyalty access_token and integration_id",
        spec: |one, two| by_token(one, two, MemberKey::IntegrationId),
        is_proof: true,
    },
    Pair {
        name: "loyalty access_token and card_id",
        spec: |one, two| by_token(one, two, MemberKey::CardId),
        is_proof: true,
    },
    Pair {
        name: "loyalty access_token and database_id",
        spec: |one, two| by_token(one, two, MemberKey::DatabaseId),
        is_proof: true,
    },
    Pair {
        name: "vitalsource guid and reference",
        spec: |one, two| reader(Some(one), Some(two), &one.codes),
        is_proof: false,
    },
    Pair { name: "vitalsource guid and code", spec: |one, two| reader(Some(one), None, &two.codes), is_proof: false },
    Pair {
        name: "vitalsource reference and code",
        spec: |one, two| reader(None, Some(one), &two.codes),
        is_proof: false,
    },
    Pair {
        name: "vitalsource code and code",
        // A code that was never redeemed has no owner.
        spec: |one, two| {
            let second = if one == two { &one.codes[1] } else { &two.codes[0] };
            reader(Some(one), Some(one), &[one.codes[0].clone(), second.clone()])
        },
        is_proof: false,
    },
];

#[tokio::test]
async fn both_identifiers_of_a_pair_must_find_the_same_person_or_both_nobody() {
    let mut runs = 0;
    for pair in PAIRS {
        for (one, two) in WHOSE.into_iter().flat_map(|one| WHOSE.map(|two| (one, two))) {
            for is_strict in [true, false] {
                let spec = (pair.spec)(&Person::numbered(one), &Person::numbered(two));
                let mut scenario = Scenario::new(pair.name, spec, |_| {});
                scenario.rules.strict_identity = is_strict;
                let relay = Relay::default();
                let Recorded { run, seen } = carry_out(&scenario, &relay, None).await;
                let said = run.end.as_ref().map(|end| (end.outcome, end.reason));
                let case = format!("{} of {one} and {two}, strict {is_strict}: {said:?}", pair.name);
                let is_erased = run.end.as_ref().is_some_and(|end: &TargetEnd| {
                    matches!(end.outcome, TargetOutcome::Erased | TargetOutcome::Anonymised)
                });
                match (one == two, one) {
                    (true, NOBODY) => assert_eq!(said, Some((TargetOutcome::Absent, None)), "{case}"),
                    (true, _) => assert!(is_erased, "{case}"),
                    // The token may have expired: a fresh one is requested, and nothing is done.
                    (false, NOBODY) if pair.is_proof => assert_eq!(said, None, "{case}"),
                    (false, _) => {
                        let wanted = (TargetOutcome::Refused, Some(Reason::IdentityMismatch));
                        assert_eq!(said, Some(wanted), "{case}");
                    }
                }
                let destroyed = seen.iter().filter(|exchange| exchange.operation.destructive()).count();
                let is_one = one == two && one != NOBODY;
                assert!(is_one == (destroyed > 0), "{case}: {destroyed} destructive calls");
                runs += 1;
            }
        }
    }
    eprintln!("{runs} pairs");
}

//! Members by Member API: with a password, a one-time password or the token alone.

use erasure_worker::job::flow::MemberProof;
use erasure_worker::job::{Identity, InputKind, Job, Spec};
use serde_json::{Value, json};

use super::{Known, SOON};
use crate::scenario::{Reply, Scenario};
use crate::world::zeta::{PASSWORD, TOKEN, Zeta};
use crate::world::{Change, World};

/// Gives each requested proof; a one-time password is the latest that was sent.
pub fn member_gives(job: &mut Job, kind: InputKind, times: u32, world: &dyn World) -> Reply {
    let Spec::LoyaltyMember { access_token, current_password, code, .. } = &mut job.targets[0].spec else {
        return Reply::Silence;
    };
    match kind {
        InputKind::AccessToken if times < 8 => *access_token = Some(TOKEN.to_owned().into()),
        InputKind::CurrentPassword => *current_password = Some(PASSWORD.to_owned().into()),
        InputKind::Otp => *code = world.latest_code().map(Into::into),
        _ => return Reply::Silence,
    }
    Reply::Again(40)
}

/// Lets the first one-time password expire, requests another and gives that.
fn asks_for_another_code(job: &mut Job, kind: InputKind, times: u32, world: &dyn World) -> Reply {
    let Spec::LoyaltyMember { code, .. } = &mut job.targets[0].spec else { return Reply::Silence };
    if kind != InputKind::Otp {
        return Reply::Silence;
    }
    match times {
        // Within a minute: no second one-time password is sent.
        1 => Reply::Again(20),
        2 => Reply::Again(90),
        _ => {
            *code = world.latest_code().map(Into::into);
            Reply::Again(20)
        }
    }
}

fn wrong_code(job: &mut Job, kind: InputKind, _: u32, _: &dyn World) -> Reply {
    let Spec::LoyaltyMember { code, .. } = &mut job.targets[0].spec else { return Reply::Silence };
    if kind != InputKind::Otp {
        return Reply::Silence;
    }
    *code = Some("wrong".to_owned().into());
    Reply::Again(20)
}

pub fn all() -> Vec<Known> {
    let named = json!({ "member_id": "77" });
    let target = |proof: Value, member: Option<Value>| {
        let mut target = json!({ "system": "loyalty", "method": "member_api", "access_token": TOKEN });
        target.as_object_mut().unwrap().extend(proof.as_object().unwrap().clone());
        if let Some(member) = member {
            target["member"] = member;
        }
        target
    };
    let by = |name, proof: MemberProof, target: Value, world: Zeta| {
        let world = world.but(|world| world.proof = proof);
        Scenario::new(name, target, world).rules(|rules| rules.member_proof = proof)
    };
    let password = || json!({ "current_password": PASSWORD });
    let (pass, otp, token) = (MemberProof::Password, MemberProof::Otp, MemberProof::Token);
    let known = Some(named);
    vec![
        (by("a password, and nothing to read back", pass, target(password(), None), Zeta::member()), "erased"),
        (
            by(
                "a password, and a member to read back",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| world.proven = true),
            ),
            "erased",
        ),
        (
            by(
                "an absent member, and another member's token",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| (world.exists, world.proven, world.token_of_another) = (false, true, true)),
            )
            .mismatch(),
            "refused/identity_mismatch",
        ),
        (
            by(
                "an absent member, and a token that ended with the member",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| (world.exists, world.proven, world.token_dies) = (false, true, true)),
            ),
            "absent",
        ),
        (
            by("a password, and an unproven read-back", pass, target(password(), known.clone()), Zeta::member()),
            "erased",
        ),
        (
            by(
                "a password, and a member shown for a while",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| {
                    world.deleted = Change::after(SOON);
                    world.proven = true;
                }),
            ),
            "erased",
        ),
        (
            by(
                "a token that ends with the member",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| {
                    world.deleted = Change::after(SOON);
                    world.proven = true;
                    world.token_dies = true;
                }),
            )
            .person(member_gives),
            "erased",
        ),
        (
            by("a wrong password", pass, target(json!({ "current_password": "wrong" }), None), Zeta::member()),
            "failed/wrong_password",
        ),
        (
            by(
                "another member's token",
                pass,
                target(password(), known.clone()),
                Zeta::member().but(|world| world.shown_as = Identity::Other),
            )
            .mismatch(),
            "refused/identity_mismatch",
        ),
        (
            by("a password when asked", pass, target(json!({}), known.clone()), Zeta::member()).person(member_gives),
            "erased",
        ),
        (
            by(
                "a stale token",
                pass,
                target(json!({ "access_token": "old", "current_password": PASSWORD }), None),
                Zeta::member(),
            )
            .person(member_gives),
            "erased",
        ),
        (by("a token alone", token, target(json!({}), None), Zeta::member()), "erased"),
        (
            by(
                "no token at all",
                token,
                json!({ "system": "loyalty", "method": "member_api", "member": { "card_id": "1" } }),
                Zeta::member(),
            )
            .person(member_gives),
            "erased",
        ),
        (by("a one-time password", otp, target(json!({}), None), Zeta::member()).person(member_gives), "erased"),
        (
            by("a one-time password and a member to read back", otp, target(json!({}), known), Zeta::member())
                .person(member_gives),
            "erased",
        ),
        (
            by("a one-time password that expires", otp, target(json!({}), None), Zeta::member())
                .person(asks_for_another_code),
            "erased",
        ),
        (
            by("a one-time password that stays wrong", otp, target(json!({}), None), Zeta::member()).person(wrong_code),
            "failed/input_refused",
        ),
        (
            by("a one-time password that never comes", otp, target(json!({}), None), Zeta::member()),
            "failed/input_never_came",
        ),
    ]
}

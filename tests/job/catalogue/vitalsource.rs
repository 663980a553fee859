//! Users of VitalSource with their codes.

use std::time::Duration;

use erasure_worker::job::{CodeState, Field, Identity};
use serde_json::{Value, json};

use super::{Known, LATE, SOON, confirms};
use crate::scenario::Scenario;
use crate::world::Change;
use crate::world::vitalsource::{Coupon, Revokes, VitalSource};

/// A target with this many codes.
pub fn reader(codes: usize) -> Value {
    let codes: Vec<_> = (0..codes).map(|n| json!({ "code": format!("C{n}") })).collect();
    let confirmation = json!({ "confirmed_at": "2026-11-22T09:58:00Z" });
    json!({ "system": "vitalsource", "guid": "G-1", "codes": codes, "confirmation": confirmation })
}

pub fn all() -> Vec<Known> {
    let flow = |name, world: VitalSource| Scenario::new(name, reader(world.codes.len()), world);
    let first = |change: fn(&mut Coupon)| move |world: &mut VitalSource| change(&mut world.codes[0]);
    let owner = |owner| move |world: &mut VitalSource| world.codes[1].owner = owner;
    let mut unconfirmed = reader(1);
    unconfirmed.as_object_mut().unwrap().remove("confirmation");
    vec![
        (flow("a user without codes", VitalSource::with(0)), "anonymised"),
        (flow("a user with two codes", VitalSource::with(2)), "anonymised"),
        (
            flow("a code cancelled before", VitalSource::with(2).but(first(|code| code.state = CodeState::Cancelled))),
            "anonymised",
        ),
        (
            flow("an unknown code", VitalSource::with(2).but(first(|code| code.state = CodeState::Unknown))).mismatch(),
            "refused/identity_mismatch",
        ),
        (
            flow(
                "an unclear revoke that took the content",
                VitalSource::with(2).but(first(|code| code.revokes = Revokes::UnclearGone)),
            ),
            "anonymised",
        ),
        (
            flow(
                "an unclear revoke that left the content",
                VitalSource::with(2).but(first(|code| code.revokes = Revokes::UnclearKept)),
            ),
            "refused/code_not_revoked",
        ),
        (
            flow("a code of another key", VitalSource::with(2).but(first(|code| code.revokes = Revokes::Forbidden))),
            "refused/code_not_revoked",
        ),
        (
            flow("another person's code", VitalSource::with(2).but(owner(Identity::Other))).mismatch(),
            "refused/identity_mismatch",
        ),
        (flow("a code without a readable owner", VitalSource::with(2).but(owner(Identity::Unreadable))), "anonymised"),
        (
            flow(
                "a strict system and a code without a readable owner",
                VitalSource::with(2).but(owner(Identity::Unreadable)),
            )
            .rules(|rules| rules.strict_identity = true)
            .mismatch(),
            "refused/identity_unreadable",
        ),
        (
            flow("another person's guid", VitalSource::with(1).but(|world| world.identity = Identity::Other))
                .mismatch(),
            "refused/identity_mismatch",
        ),
        (
            flow("content that no code accounts for", VitalSource::with(1).but(|world| world.unknown_licence = true)),
            "refused/unknown_content",
        ),
        (
            flow(
                "a licence that is listed for a while after its revoke",
                VitalSource::with(1).but(|world| world.licence_lag = Duration::from_secs(45)),
            ),
            "anonymised",
        ),
        (
            flow(
                "values that show after a while",
                VitalSource::with(1).but(|world| world.overwritten = Change::after(SOON)),
            ),
            "anonymised",
        ),
        (
            flow("an overwrite without an effect at first", VitalSource::with(1).but(|world| world.puts_lost = 2)),
            "anonymised",
        ),
        (
            flow("an overwrite that never has an effect", VitalSource::with(0).but(|world| world.puts_lost = u32::MAX)),
            "failed/not_gone",
        ),
        (
            flow("a revoke without an effect at first", VitalSource::with(2).but(|world| world.revokes_lost = 3)),
            "anonymised",
        ),
        (
            flow("a revoke that never has an effect", VitalSource::with(1).but(|world| world.revokes_lost = u32::MAX)),
            "refused/code_not_revoked",
        ),
        (
            flow("values that never show", VitalSource::with(1).but(|world| world.overwritten = Change::after(LATE))),
            "failed/not_gone",
        ),
        (
            flow(
                "a reference user with nothing to overwrite",
                VitalSource::with(1).but(|world| world.fields = vec![Field::Reference]),
            ),
            "anonymised",
        ),
        (
            flow(
                "no user, and a code cancelled before",
                VitalSource::with(1).but(|world| {
                    (world.exists, world.proven) = (false, true);
                    world.codes[0].state = CodeState::Cancelled;
                }),
            ),
            "absent",
        ),
        (
            flow(
                "no user, and a live code",
                VitalSource::with(1).but(|world| (world.exists, world.proven) = (false, true)),
            )
            .mismatch(),
            "refused/identity_mismatch",
        ),
        (
            flow("no user, by an unproven key", VitalSource::with(0).but(|world| world.exists = false)),
            "failed/unproven",
        ),
        (
            flow("a requester who is notified", VitalSource::with(1)).rules(|rules| rules.tell_requester = true),
            "anonymised",
        ),
        (
            flow("a requester whose endpoint does not answer", VitalSource::with(1).but(|world| world.deaf = true))
                .rules(|rules| rules.tell_requester = true),
            "anonymised",
        ),
        (
            Scenario::new("codes and no confirmation", unconfirmed.clone(), VitalSource::with(1)),
            "failed/input_never_came",
        ),
        (
            Scenario::new("codes, confirmed when asked", unconfirmed, VitalSource::with(1)).person(confirms),
            "anonymised",
        ),
    ]
}

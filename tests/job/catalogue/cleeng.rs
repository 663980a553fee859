//! Customers of Cleeng, by the publisher token alone and by the customer's own token.

use erasure_worker::job::flow::Confirm;
use erasure_worker::job::{Identity, InputKind, Job};
use serde_json::json;

use super::{Known, LATE, SOON, confirms};
use crate::jobs;
use crate::scenario::{Reply, Scenario};
use crate::world::World;
use crate::world::cleeng::{Cleeng, Ends};

pub fn backend(name: &'static str, world: Cleeng) -> Scenario {
    Scenario::new(name, jobs::cleeng(), world).rules(|rules| rules.confirm = Confirm::Never)
}

pub fn backends() -> Vec<Known> {
    let ends = |ends| move |world: &mut Cleeng| world.rows[0].ends = ends;
    let reads = |identity| move |world: &mut Cleeng| world.reads_as = Some(identity);
    vec![
        (backend("a customer without entitlements", Cleeng::with(0)), "anonymised"),
        (backend("a customer with two entitlements", Cleeng::with(2)), "anonymised"),
        (
            backend("an anonymised customer reads with another e-mail", Cleeng::with(1).but(reads(Identity::Other))),
            "anonymised",
        ),
        (
            backend("an anonymised customer reads without an e-mail", Cleeng::with(0).but(reads(Identity::Blank))),
            "anonymised",
        ),
        (
            backend("nobody by that id", Cleeng::with(0).but(|world| (world.exists, world.proven) = (false, true))),
            "absent",
        ),
        (
            backend(
                "nobody by that id, and a token without any success yet",
                Cleeng::with(0).but(|world| world.exists = false),
            ),
            "failed/unproven",
        ),
        (
            backend(
                "nobody by that id, and another customer by that e-mail",
                Cleeng::with(0).but(|world| (world.exists, world.proven, world.elsewhere) = (false, true, true)),
            )
            .mismatch(),
            "refused/identity_mismatch",
        ),
        (
            backend(
                "a deleted customer, and another customer by that e-mail",
                Cleeng::with(0).but(|world| (world.email, world.elsewhere) = (Identity::Blank, true)),
            )
            .mismatch(),
            "refused/identity_mismatch",
        ),
        (backend("a shared customer", Cleeng::with(1).but(|world| world.shared = true)), "refused/shared_customer"),
        (
            backend("another person's id", Cleeng::with(1).but(|world| world.email = Identity::Other)).mismatch(),
            "refused/identity_mismatch",
        ),
        (
            backend(
                "a customer without a readable e-mail",
                Cleeng::with(1).but(|world| world.email = Identity::Unreadable),
            ),
            "anonymised",
        ),
        (
            backend(
                "a customer who never has a readable e-mail",
                Cleeng::with(0).but(|world| {
                    world.email = Identity::Unreadable;
                    world.reads_as = Some(Identity::Unreadable);
                }),
            ),
            "failed/not_gone",
        ),
        (
            backend(
                "a strict system and no readable e-mail",
                Cleeng::with(1).but(|world| world.email = Identity::Unreadable),
            )
            .rules(|rules| rules.strict_identity = true)
            .mismatch(),
            "refused/identity_unreadable",
        ),
        (
            backend("an app store's subscription", Cleeng::with(2).but(ends(Ends::Refused))),
            "refused/externally_managed",
        ),
        (backend("a termination with an unclear reply", Cleeng::with(2).but(ends(Ends::Vaguely))), "anonymised"),
        (
            backend(
                "a termination without an effect, with an unclear reply",
                Cleeng::with(1).but(ends(Ends::NotSaying)),
            ),
            "refused/active_entitlement",
        ),
        (backend("a termination that fails when repeated", Cleeng::with(2).but(ends(Ends::Once))), "anonymised"),
        (backend("lists and reads that lag behind", Cleeng::with(2).slow(SOON)), "anonymised"),
        (
            backend(
                "lists and reads that lag behind and one termination",
                Cleeng::with(1).but(ends(Ends::Once)).slow(SOON),
            ),
            "anonymised",
        ),
        (backend("reads that lag behind for ever", Cleeng::with(0).slow(LATE)), "failed/not_gone"),
        (backend("lists that lag behind for ever", Cleeng::with(1).slow(LATE)), "refused/active_entitlement"),
        (Scenario::new("a confirmation that comes", jobs::cleeng(), Cleeng::with(1)).person(confirms), "anonymised"),
        (Scenario::new("a confirmation that never comes", jobs::cleeng(), Cleeng::with(1)), "failed/input_never_came"),
    ]
}

fn fresh_token(_: &mut Job, kind: InputKind, times: u32, _: &dyn World) -> Reply {
    // No further token is sent after the second continuation.
    if kind == InputKind::CustomerToken && times < 3 { Reply::Again(20) } else { Reply::Silence }
}

pub fn mediastore() -> Vec<Known> {
    let confirmed =
        jobs::with(&jobs::mediastore(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })));
    let flow = |name, world| Scenario::new(name, confirmed.clone(), world);
    vec![
        (flow("a customer's own list, empty", Cleeng::with(0)), "anonymised"),
        (flow("a customer's own list of two", Cleeng::with(2)), "anonymised"),
        (
            flow(
                "an entitlement that the customer's list hides",
                Cleeng::with(2).but(|world| world.rows[1].hidden = true),
            ),
            "anonymised",
        ),
        (flow("a customer's own list that lags behind", Cleeng::with(2).slow(SOON)), "anonymised"),
        (
            flow("a token that stays stale", Cleeng::with(1).but(|world| world.stale_token = true)).person(fresh_token),
            "failed/input_never_came",
        ),
        (
            Scenario::new("an active offer and no confirmation", jobs::mediastore(), Cleeng::with(1)),
            "failed/input_never_came",
        ),
        (
            Scenario::new("an active offer, confirmed when asked", jobs::mediastore(), Cleeng::with(1))
                .person(confirms),
            "anonymised",
        ),
    ]
}

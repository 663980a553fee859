//! The scenarios: each peculiar behaviour of each system, and the outcome of a run without other faults.

mod cleeng;
pub mod connector;
mod easycms;
mod loyalty;
mod member;
mod vitalsource;

use std::time::Duration;

use erasure_worker::job::{InputKind, Job};
use serde_json::json;

pub use self::loyalty::operator_acts;
pub use self::member::member_gives;
pub use self::vitalsource::reader;
use crate::jobs;
use crate::scenario::{Reply, Scenario};
use crate::world::World;
use crate::world::cleeng::Cleeng;
use crate::world::easycms::EasyCms;
use crate::world::vitalsource::VitalSource;
use crate::world::zeta::{TOKEN, Zeta};

const SOON: Duration = Duration::from_secs(300);
const LATE: Duration = Duration::from_secs(4 * 3600);

/// A scenario and its outcome without faults: `outcome` or `outcome/reason`.
pub type Known = (Scenario, &'static str);

pub fn all() -> Vec<Known> {
    [
        cleeng::backends(),
        cleeng::mediastore(),
        easycms::all(),
        loyalty::by_program(),
        member::all(),
        loyalty::by_file(),
        loyalty::by_hand(),
        vitalsource::all(),
        connector::all(),
        previews(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Gives a confirmation when asked.
pub fn confirms(job: &mut Job, kind: InputKind, _: u32, _: &dyn World) -> Reply {
    let confirmation = jobs::good(&jobs::with(
        &jobs::one(jobs::easycms()),
        "/confirmation",
        Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })),
    ))
    .confirmation;
    if kind != InputKind::Confirmation {
        return Reply::Silence;
    }
    job.confirmation = confirmation;
    Reply::Again(30)
}

fn previews() -> Vec<Known> {
    let scenario = |name, target, world: Zeta| Scenario::new(name, target, world).preview();
    vec![
        (cleeng::backend("a preview of a customer", Cleeng::with(2)).preview(), "previewed"),
        (
            cleeng::backend(
                "a preview of nobody",
                Cleeng::with(0).but(|world| (world.exists, world.proven) = (false, true)),
            )
            .preview(),
            "previewed",
        ),
        (
            Scenario::new("a preview of a customer's own list", jobs::mediastore(), Cleeng::with(1)).preview(),
            "previewed",
        ),
        (Scenario::new("a preview of an account", jobs::easycms(), EasyCms::account()).preview(), "previewed"),
        (Scenario::new("a preview of a user", reader(2), VitalSource::with(2)).preview(), "previewed"),
        (scenario("a preview of a member", jobs::program(), Zeta::member()), "previewed"),
        (
            scenario(
                "a preview of a token",
                jobs::with(&jobs::member(), "/access_token", Some(TOKEN.into())),
                Zeta::member(),
            ),
            "previewed",
        ),
        (scenario("a preview of a row", jobs::import(), Zeta::member()), "previewed"),
        (scenario("a preview of a deletion by hand", jobs::manual(), Zeta::member()), "previewed"),
    ]
}

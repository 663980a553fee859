//! Members by Program API, by a deletion file and by a manual deletion.

use erasure_worker::job::{Identity, InputKind, Job, RowState};
use serde_json::json;

use super::{Known, LATE, SOON};
use crate::jobs;
use crate::scenario::{Reply, Scenario, silent};
use crate::world::zeta::Zeta;
use crate::world::{Change, World};

pub fn by_program() -> Vec<Known> {
    let flow = |name, world| Scenario::new(name, jobs::program(), world);
    vec![
        (flow("a member", Zeta::member()), "erased"),
        (
            flow("a member that is shown for a while", Zeta::member().but(|world| world.deleted = Change::after(SOON))),
            "erased",
        ),
        (
            flow("a member that is shown for ever", Zeta::member().but(|world| world.deleted = Change::after(LATE))),
            "failed/not_gone",
        ),
        (flow("a namesake of the member", Zeta::member().but(|world| world.namesake = true)), "erased"),
        (
            flow("another member's id", Zeta::member().but(|world| world.shown_as = Identity::Other)).mismatch(),
            "refused/identity_mismatch",
        ),
        (
            flow("a member whose id is not shown", Zeta::member().but(|world| world.shown_as = Identity::Unreadable)),
            "erased",
        ),
        (
            flow(
                "no member, by a proven token",
                Zeta::member().but(|world| (world.exists, world.proven) = (false, true)),
            ),
            "absent",
        ),
        (flow("no member, by an unproven token", Zeta::member().but(|world| world.exists = false)), "failed/unproven"),
        (flow("a wrong address", Zeta::member().but(|world| world.wrong_address = true)), "failed/unproven"),
    ]
}

pub fn operator_acts(_: &mut Job, _: InputKind, times: u32, _: &dyn World) -> Reply {
    if times < 3 { Reply::Silence } else { Reply::Operator }
}

pub fn by_file() -> Vec<Known> {
    let flow = |name, world: Zeta| Scenario::new(name, jobs::import(), world).person(operator_acts);
    let by_mail = json!({ "system": "loyalty_mail", "method": "import", "member": { "email": "ann@example.com" } });
    let mail = |name, world: Zeta| {
        Scenario::new(name, by_mail.clone(), world.but(|world| world.by_mail = true)).person(operator_acts)
    };
    let says = |result, deletes| move |world: &mut Zeta| (world.result, world.import_deletes) = (result, deletes);
    vec![
        (flow("a row that is deleted", Zeta::member()), "erased"),
        (
            flow(
                "a row that is deleted after a while",
                Zeta::member().but(|world| world.deleted = Change::after(SOON)),
            ),
            "erased",
        ),
        (
            flow(
                "a row that is called deleted for ever",
                Zeta::member().but(|world| world.deleted = Change::after(LATE)),
            ),
            "failed/not_gone",
        ),
        (flow("a row that is skipped", Zeta::member().but(says(RowState::Skipped, false))), "failed/not_gone"),
        (
            flow("a row that the result leaves out", Zeta::member().but(says(RowState::Missing, false))),
            "failed/import_row_missing",
        ),
        (
            flow(
                "a row that the result leaves out though it was worked on",
                Zeta::member().but(says(RowState::Missing, true)),
            ),
            "absent",
        ),
        (
            flow(
                "no member to put into the file",
                Zeta::member().but(|world| (world.exists, world.proven) = (false, true)),
            ),
            "absent",
        ),
        (
            flow(
                "perhaps no member to put into the file",
                Zeta::member().but(|world| (world.exists, world.result) = (false, RowState::Skipped)),
            ),
            "failed/unproven",
        ),
        (
            flow("another member's row", Zeta::member().but(|world| world.shown_as = Identity::Other)).mismatch(),
            "refused/identity_mismatch",
        ),
        (flow("a result that never comes", Zeta::member()).person(silent), "failed/input_never_came"),
        (mail("a row by e-mail", Zeta::member()), "erased"),
        (
            mail("a row by e-mail that is skipped", Zeta::member().but(says(RowState::Skipped, false))),
            "failed/unproven",
        ),
        (
            mail("a row by e-mail that the result leaves out", Zeta::member().but(says(RowState::Missing, false))),
            "failed/import_row_missing",
        ),
    ]
}

pub fn by_hand() -> Vec<Known> {
    let flow = |name, world: Zeta| Scenario::new(name, jobs::manual(), world).person(operator_acts);
    vec![
        (flow("a deletion by hand", Zeta::member()), "erased"),
        (
            flow(
                "a deletion by hand that takes a while",
                Zeta::member().but(|world| world.deleted = Change::after(SOON)),
            ),
            "erased",
        ),
        (flow("a deletion by hand that is not made", Zeta::member()).person(silent), "failed/input_never_came"),
        (
            flow(
                "a deletion by hand of nobody",
                Zeta::member().but(|world| (world.exists, world.proven) = (false, true)),
            ),
            "absent",
        ),
        (
            flow("a deletion by hand of another member", Zeta::member().but(|world| world.shown_as = Identity::Other))
                .mismatch(),
            "refused/identity_mismatch",
        ),
    ]
}

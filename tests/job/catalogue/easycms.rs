//! Accounts at EasyCMS.

use erasure_worker::job::{InputKind, Job, Spec};
use serde_json::Value;

use super::{Known, LATE, SOON};
use crate::jobs;
use crate::scenario::{Reply, Scenario};
use crate::world::easycms::EasyCms;
use crate::world::{Change, World};

fn shop_password(job: &mut Job, kind: InputKind, _: u32, _: &dyn World) -> Reply {
    let Spec::EasyCms { customer_password, .. } = &mut job.targets[0].spec else { return Reply::Silence };
    if kind != InputKind::CustomerPassword {
        return Reply::Silence;
    }
    *customer_password = Some("right".to_owned().into());
    Reply::Again(30)
}

pub fn all() -> Vec<Known> {
    let with_password =
        |password: Option<&str>| jobs::with(&jobs::easycms(), "/customer_password", password.map(Value::from));
    let right = with_password(Some("right"));
    let flow = |name, world| Scenario::new(name, right.clone(), world);
    vec![
        (flow("an account", EasyCms::account()), "erased"),
        (flow("no account", EasyCms::account().but(|world| world.exists = false)), "absent"),
        (
            flow(
                "an account that is shown for a while",
                EasyCms::account().but(|world| world.deleted = Change::after(SOON)),
            ),
            "erased",
        ),
        (
            flow(
                "an account that is shown for ever",
                EasyCms::account().but(|world| world.deleted = Change::after(LATE)),
            ),
            "failed/not_gone",
        ),
        (flow("a mail check that recovers", EasyCms::account().but(|world| world.mail_trouble = 2)), "erased"),
        (
            flow("a mail check that does not", EasyCms::account().but(|world| world.mail_trouble = 9)),
            "failed/email_not_valid",
        ),
        (
            Scenario::new("a wrong shop password", with_password(Some("wrong")), EasyCms::account()),
            "failed/wrong_customer_password",
        ),
        (
            Scenario::new("a shop password when asked", with_password(None), EasyCms::account()).person(shop_password),
            "erased",
        ),
        (
            Scenario::new("a shop password that never comes", with_password(None), EasyCms::account()),
            "failed/input_never_came",
        ),
    ]
}

//! `sandbox`: the stand-ins on a port of this machine, with people to erase.
//!
//! The rule it keeps: the person of the example job that `init` writes is among them.

use std::io::Write;

use anyhow::Result;

use super::Exit;
use super::args;
use crate::config::example::trial;
use crate::sandbox::{Account, Code, Customer, Entitlement, Member, RunningSandbox, Sandbox, User};

/// People beside the one of the example job.
const PEOPLE: std::ops::Range<u64> = 1000..1100;

/// Serves until a signal asks to stop.
pub async fn sandbox(args: &args::Sandbox, out: &mut (dyn Write + Send)) -> Result<Exit> {
    let running = Sandbox::start(args.listen).await?;
    add_example_person(running.sandbox());
    running.sandbox().add_people(PEOPLE);
    listing(&running, out)?;
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(Exit::Done)
}

fn listing(running: &RunningSandbox, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    writeln!(out, "stand-ins on http://{}", running.addr)?;
    for path in ["cleeng/core", "cleeng/rpc", "cleeng/mediastore", "loyalty", "easycms", "vitalsource"] {
        writeln!(out, "  {}", running.url(path))?;
    }
    writeln!(out, "ledger: {}  people: {}", running.url("_sandbox/ledger"), running.url("_sandbox/state"))?;
    out.flush()
}

/// The person of the example job.
fn add_example_person(sandbox: &Sandbox) {
    let email = || trial::CUSTOMER_EMAIL.to_owned();
    let (first, last) = (|| "Ann".to_owned(), || "Example".to_owned());
    sandbox.world(|world| {
        world.cleeng("cleeng").add(Customer {
            id: trial::CLEENG_CUSTOMER_ID.to_owned(),
            email: email(),
            first_name: first(),
            last_name: last(),
            shared: false,
            entitlements: vec![Entitlement::active("S100_EX")],
            erased: false,
        });
        world.loyalty("loyalty").add(Member {
            database_id: "db-ann".to_owned(),
            member_id: Some("77".to_owned()),
            integration_id: Some(trial::LOYALTY_INTEGRATION_ID.to_owned()),
            card_id: None,
            email: Some(email()),
            password: "member-password-ann".to_owned(),
            access_tokens: vec!["member-token-ann".to_owned()],
            deleted: None,
        });
        let customer_password = trial::EASYCMS_CUSTOMER_PASSWORD.to_owned();
        world.easycms("easycms").add(Account { email: email(), customer_password, erased: false });
        let vitalsource = world.vitalsource("vitalsource");
        vitalsource.add_user(User {
            guid: trial::VITALSOURCE_GUID.to_owned(),
            reference: trial::VITALSOURCE_REFERENCE.to_owned(),
            first_name: first(),
            last_name: last(),
            email: email(),
            affiliate: "Affiliate".to_owned(),
        });
        vitalsource.add_code(Code {
            code: trial::VITALSOURCE_CODE.to_owned(),
            owner: Some(trial::VITALSOURCE_GUID.to_owned()),
            sku: "BOOK-1".to_owned(),
            redeemed_at: Some(Code::days_ago(7)),
            ..Code::default()
        });
    });
}

//! The persons who answer requests for input, and the operator of the deletion file.
//!
//! The rule it keeps: each request is answered once.

use std::collections::BTreeSet;

use erasure_worker::app;
use erasure_worker::sandbox::{Entry, MemberKey, Operation, Person, Sandbox, World};
use serde_json::Value;
use testkit::events::Heard;
use testkit::forms::{Case, Form, ids};
use testkit::rig::Rig;

use crate::poison::keep_alive;

/// Settings that prove the credentials of a worker with an empty store: this existing person is read. Not for the
/// Loyalty platform.
pub fn known(person: &Person) -> [(&'static str, &str); 4] {
    [
        ("ERASURE__SYSTEMS__EASYCMS__PROBE_EMAIL", person.email.as_str()),
        ("ERASURE__SYSTEMS__CLEENG__PROBE_CUSTOMER_ID", person.customer_id.as_str()),
        ("ERASURE__SYSTEMS__CORE__PROBE_CUSTOMER_ID", person.customer_id.as_str()),
        ("ERASURE__SYSTEMS__VITALSOURCE__PROBE_USER", person.guid.as_str()),
    ]
}

/// Runs the worker until all jobs have ended, restarts it after each crash, and answers for all persons. Returns the
/// number of crashes.
pub async fn to_the_end(rig: &Rig, cases: &[Case], settings: &[(&str, &str)]) -> u32 {
    let start = || rig.worker("state", settings);
    let imports: Vec<Case> = cases.iter().filter(|case| case.form == Form::Import).cloned().collect();
    let others = async {
        let persons = answer_everybody(rig, cases);
        let ended = async {
            rig.events.all_end(ids(cases).filter(|id| imports.iter().all(|case| case.id != *id))).await;
            let asked = |heard: &Heard| imports.iter().all(|case| !heard.of(&case.id).is_empty());
            rig.events.until("the import to be asked for", asked).await;
        };
        tokio::select! { () = persons => {}, () = ended => {} }
    };
    let (worker, mut deaths) = keep_alive(start, others).await;
    if !imports.is_empty() {
        worker.kill().await;
        tokio::task::block_in_place(|| import(rig));
        // Continuations, so that the jobs need not wait for their parked copies.
        rig.publish(&testkit::forms::bodies(&imports)).await;
    } else if !worker.stops().await {
        deaths += 1;
    }
    loop {
        let rest = async {
            rig.events.all_end(ids(cases)).await;
            // Copies that are still parked are redelivered and acked.
            rig.is_empty().await;
        };
        let (worker, more) = keep_alive(start, rest).await;
        deaths += more;
        // A copy in hand at the stop is requeued.
        match worker.stops().await {
            true if rig.stays_empty().await => return deaths,
            true => {}
            // A job in hand crashed the worker at the stop.
            false => deaths += 1,
        }
    }
}

/// Imports the deletion file at the platform, and settles its result.
fn import(rig: &Rig) {
    let config = rig.config("state");
    let keyring = std::sync::Arc::new(app::keyring(&config).unwrap());
    let ledger = &app::systems(&config, &keyring).unwrap().imports["loyalty"];
    while let Some(batch) = ledger.export(None, jiff::Timestamp::now()).unwrap() {
        let file = String::from_utf8(batch.csv.to_vec()).unwrap();
        let result = rig.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        ledger.settle(result.as_bytes(), jiff::Timestamp::now()).unwrap();
    }
}

/// True if a one-time password was sent.
pub fn was_sent(sandbox: &Sandbox, case: &Case) -> bool {
    let is_send = |call: &Entry| call.operation == Operation::RequestOtp && call.effect;
    sandbox.entries(0).iter().any(|call| is_send(call) && call.subject.as_ref() == Some(&case.person.database_id))
}

/// The one-time password that was sent.
pub fn mailbox(sandbox: &Sandbox, case: &Case) -> Option<String> {
    let id = &case.person.database_id;
    sandbox.world(|world| world.loyalty("loyalty@codes").mailbox(id).map(|(code, _)| code.to_owned()))
}

/// Answers every request for input once. Never ends by itself.
pub async fn answer_everybody(rig: &Rig, cases: &[Case]) {
    let mut answered = BTreeSet::new();
    loop {
        let is_open = |event: &Value| is_question(event) && !answered.contains(event["id"].as_str().unwrap());
        let heard = rig.events.followed(|heard| heard.0.values().flatten().any(is_open)).await;
        let open: Vec<&Value> = heard.0.values().flatten().filter(|event| is_open(event)).collect();
        for event in open {
            answered.insert(event["id"].as_str().unwrap().to_owned());
            let Some(case) = cases.iter().find(|case| event["subject"] == case.id.as_str()) else { continue };
            answer(rig, case, event["data"]["inputs"][0]["kind"].as_str().unwrap()).await;
        }
    }
}

fn is_question(event: &Value) -> bool {
    event["data"]["outcome"] == "needs_input"
}

async fn answer(rig: &Rig, case: &Case, what: &str) {
    match what {
        "otp" => match mailbox(rig.sandbox(), case) {
            Some(code) => rig.publish(&[case.answered(Some(&code))]).await,
            None => rig.cancel(&case.id).await,
        },
        "manual_deletion" => {
            let id = &case.person.integration_id;
            let delete = |world: &mut World| world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, id, 0);
            rig.sandbox().world(delete);
            rig.publish(std::slice::from_ref(&case.body)).await;
        }
        "import_result" => {}
        // A confirmation, or a right proof that a fault refused.
        _ => rig.publish(&[case.answered(None)]).await,
    }
}

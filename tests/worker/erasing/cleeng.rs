//! Cleeng's two flows.
//!
//! The rule it keeps: a confirmation first, then the entitlements, the customer last.

use erasure_worker::sandbox::{Entitlement, EntitlementKind, Operation as Op};
use serde_json::json;
use testkit::people::{self, confirm, job, unconfirmed};

use super::{steps, target};
use crate::trial::Trial;

#[tokio::test]
async fn the_backend_flow_ends_each_entitlement_lists_them_again_and_anonymises() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let event = trial.runs_to(&job(&[people::backend(&person)]), "completed").await;
    let flow = [
        Op::GetCustomer,
        Op::ListEntitlements,
        Op::UpdateSubscription,
        Op::UpdateSubscription,
        Op::ListEntitlements,
        Op::DeleteCustomer,
        Op::GetCustomer,
    ];
    assert_eq!(trial.calls("cleeng"), flow);
    assert_eq!(target(&event, 0)["outcome"], "anonymised");
    assert_eq!(target(&event, 0)["identity"], "checked");
    let expected = ["terminate_entitlement: erased × 2", "delete_customer: anonymised × 1", "read_back: erased × 1"];
    assert_eq!(steps(&event, 0), expected);
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

#[tokio::test]
async fn the_mediastore_flow_names_the_expected_losses_and_goes_on_after_a_confirmation() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::mediastore(&person)]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("final"), false);
    let input = &asked.data("inputs")[0];
    assert_eq!((&input["target"], &input["kind"]), (&json!(0), &json!("confirmation")));
    let expected = json!([
        { "offer_id": "S100_EX", "status": "active", "externally_managed": false },
        { "offer_id": "P200_EX", "status": "cancelled", "externally_managed": false },
    ]);
    assert_eq!(input["entitlements"], expected);
    assert_eq!(target(&asked, 0)["outcome"], "needs_input");
    assert_eq!(trial.destructive_calls(), 0);

    confirm(&mut job);
    let event = trial.runs_to(&job, "completed").await;
    // Customer and entitlements are read again: the confirmation may have taken days.
    let flow = [
        Op::GetCustomer,
        Op::CustomerOffers,
        Op::GetCustomer,
        Op::ListEntitlements,
        Op::UpdateSubscription,
        Op::UpdateSubscription,
        Op::ListEntitlements,
        Op::DeleteCustomer,
        Op::GetCustomer,
    ];
    assert_eq!(trial.calls("cleeng"), flow);
    assert_eq!((event.data("run"), event.data("seq")), (&json!(1), &json!(2)));
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_customer_without_access_needs_no_confirmation() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        let mut customer = world.cleeng("cleeng").customer(&person.customer_id).unwrap().clone();
        customer.entitlements.clear();
        world.cleeng("cleeng").add(customer);
    });
    trial.runs_to(&unconfirmed(&[people::mediastore(&person)]), "completed").await;
    assert_eq!(trial.calls("cleeng"), [Op::GetCustomer, Op::CustomerOffers, Op::DeleteCustomer, Op::GetCustomer]);
    trial.end().await;
}

#[tokio::test]
async fn core_termination_ends_subscriptions_and_passes_by_their_ids() {
    let trial = Trial::start(&[("systems.cleeng.termination", "core")]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        let mut customer = world.cleeng("cleeng").customer(&person.customer_id).unwrap().clone();
        let rental = Entitlement { kind: EntitlementKind::Rental, ..Entitlement::active("R300_EX") };
        customer.entitlements.push(rental);
        world.cleeng("cleeng").add(customer);
    });
    trial.runs_to(&job(&[people::backend(&person)]), "completed").await;
    let flow = [
        Op::GetCustomer,
        Op::ListEntitlements,
        Op::TerminateSubscription,
        Op::TerminatePass,
        // A rental has no id.
        Op::UpdateSubscription,
        Op::ListEntitlements,
        Op::DeleteCustomer,
        Op::GetCustomer,
    ];
    assert_eq!(trial.calls("cleeng"), flow);
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_customer_with_scrubbed_data_is_anonymised_too() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        world.cleeng("cleeng").settings.anonymised = erasure_worker::sandbox::Anonymised::Scrubbed;
    });
    let event = trial.runs_to(&job(&[people::backend(&person)]), "completed").await;
    assert_eq!(target(&event, 0)["outcome"], "anonymised");
    trial.remains(&person, "cleeng", &[]);
    trial.end().await;
}

#[tokio::test]
async fn an_unknown_customer_is_absent_and_nothing_is_destroyed() {
    let trial = Trial::start(&[("systems.cleeng.probe_customer_id", "100000001")]).await;
    trial.sandbox().add_people(1..2);
    let nobody = json!({
        "system": "cleeng", "flow": "backend", "customer_id": "123123123", "customer_email": "nobody@example.com",
    });
    let event = trial.runs_to(&job(&[nobody]), "completed").await;
    assert_eq!((&target(&event, 0)["outcome"], &target(&event, 0)["identity"]), (&json!("absent"), &json!("nobody")));
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

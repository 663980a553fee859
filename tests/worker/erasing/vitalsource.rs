//! VitalSource's users and codes.
//!
//! The rule it keeps: all codes are revoked before the first overwrite, and no original value remains.

use erasure_worker::sandbox::{Operation as Op, User};
use serde_json::json;
use testkit::people::{self, confirm, job, unconfirmed};

use super::{steps, target};
use crate::trial::Trial;

#[tokio::test]
async fn codes_are_revoked_licences_checked_and_every_identifier_overwritten() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let event = trial.runs_to(&job(&[people::redeemed(&person)]), "completed").await;
    let flow = [
        // The GUID and the reference name one user.
        Op::GetUser,
        Op::GetUser,
        Op::GetCode,
        Op::GetCode,
        Op::RevokeCode,
        Op::RevokeCode,
        // The answer to a revoke is not enough evidence.
        Op::GetCode,
        Op::GetCode,
        Op::Credentials,
        Op::Licenses,
        Op::UpdateUser,
        Op::GetUser,
    ];
    assert_eq!(trial.calls("vitalsource"), flow);
    let target = target(&event, 0);
    assert_eq!((&target["outcome"], &target["identity"]), (&json!("anonymised"), &json!("checked")));
    let refunds = json!([{ "code": 0, "refund_expected": true }, { "code": 1, "refund_expected": false }]);
    assert_eq!(target["refunds"], refunds);
    let expected = ["revoke_code: erased × 2", "overwrite_user: anonymised × 1"];
    assert!(expected.iter().all(|step| steps(&event, 0).contains(&(*step).to_owned())), "{:?}", steps(&event, 0));
    assert_eq!(*event.data("follow_up"), json!([{ "target": 0, "action": "abandon_account" }]));
    trial.remains(&person, "vitalsource", &[]);
    // The reference is the requester's own. It is overwritten only on request.
    let user = trial.sandbox().world(|world| world.vitalsource("vitalsource").user(&person.guid).cloned());
    let user = user.unwrap();
    assert_eq!(user.reference, person.reference);
    assert!(user.email.ends_with("@example.com"));
    trial.end().await;
}

#[tokio::test]
async fn without_a_confirmation_nothing_is_revoked() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::redeemed(&person)]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "confirmation");
    assert_eq!(trial.destructive_calls(), 0);
    confirm(&mut job);
    trial.runs_to(&job, "completed").await;
    trial.end().await;
}

#[tokio::test]
async fn a_user_without_codes_is_overwritten_too() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().world(|world| {
        world.vitalsource("vitalsource").add_user(User {
            guid: "GUIDNOCODES00001".into(),
            reference: "no-codes-1".into(),
            last_name: "Leftover".into(),
            ..User::default()
        });
    });
    trial.plant(["GUIDNOCODES00001".to_owned(), "no-codes-1".to_owned(), "Leftover".to_owned()]);
    let both = json!({ "system": "vitalsource", "guid": "GUIDNOCODES00001", "reference": "no-codes-1", "codes": [] });
    trial.runs_to(&job(&[both]), "completed").await;
    let flow = [Op::GetUser, Op::GetUser, Op::Credentials, Op::Licenses, Op::UpdateUser, Op::GetUser];
    assert_eq!(trial.calls("vitalsource"), flow);
    let user = trial.sandbox().world(|world| world.vitalsource("vitalsource").user("GUIDNOCODES00001").cloned());
    let user = user.unwrap();
    assert_ne!(user.last_name, "Leftover");
    // Empty values stay empty.
    assert_eq!((user.first_name.as_str(), user.email.as_str()), ("", ""));
    trial.remains(&person, "vitalsource", &["vitalsource: code", "vitalsource: user"]);
    trial.end().await;
}

#[tokio::test]
async fn a_user_found_by_reference_is_then_addressed_by_guid() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut target = people::redeemed(&person);
    target.as_object_mut().unwrap().remove("guid");
    trial.runs_to(&job(&[target]), "completed").await;
    trial.remains(&person, "vitalsource", &[]);
    trial.end().await;
}

#[tokio::test]
async fn the_reference_is_overwritten_on_request_and_the_requester_is_notified() {
    let sandbox_path = "requester/abandon";
    let mut trial = Trial::without_worker(&[]).await;
    trial.rig.set("systems.vitalsource.abandon_url", &trial.rig.stand.url(sandbox_path));
    trial.start_worker();
    let person = trial.person();
    let mut target = people::redeemed(&person);
    target["overwrite"] = json!(["reference"]);
    let job = job(&[target]);
    trial.runs_to(&job, "completed").await;
    trial.remains(&person, "vitalsource", &[]);
    let (reference, request) = trial.sandbox().world(|world| {
        let user = world.vitalsource("vitalsource").user(&person.guid).cloned().unwrap();
        (user.reference, serde_json::to_value(world.requester()).unwrap().to_string())
    });
    assert_ne!(reference, person.reference);
    assert_eq!(trial.calls("requester"), [Op::Abandon]);
    assert!(request.contains(people::id(&job)), "{request}");
    assert!(!request.contains(&person.guid) && !request.contains(&person.reference), "{request}");
    trial.end().await;
}

//! Cancellations and previews.
//!
//! The rule it keeps: a job is cancelled only while nothing irreversible was begun; otherwise its
//! publisher is told that it came too late. A preview destroys nothing.

use erasure_worker::sandbox::{Action, FaultRule, Operation as Op};
use serde_json::json;
use testkit::soon;

use crate::people::{self, confirm, job, unconfirmed};
use crate::rig::Rig;

/// Waits until a cancellation sent before was read: the stream is in order, and one for a job that
/// has ended is answered.
async fn cancellations_are_read(rig: &Rig) {
    let person = rig.person();
    let ended = unconfirmed(&[people::easycms(&person)]);
    rig.runs_to(&ended, "completed").await;
    rig.cancel(&ended).await;
    let told = rig.event(&ended, "cancel_refused").await;
    assert_eq!(told.data("final"), false);
}

#[tokio::test]
async fn a_cancellation_that_comes_first_ends_the_job_on_its_arrival() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let job = job(&[people::backend(&person), people::easycms(&person)]);
    rig.cancel(&job).await;
    cancellations_are_read(&rig).await;
    let calls = rig.sandbox.sandbox().entries(0).len();
    let event = rig.runs_to(&job, "cancelled").await;
    assert_eq!(event.data("targets")[0]["outcome"], "cancelled");
    assert_eq!(rig.sandbox.sandbox().entries(0).len(), calls);
    // It stays cancelled.
    rig.submit(&job).await;
    let id = people::id(&job);
    let events = rig.client.events.count("the repeat", 2, |event| event.job_id() == id).await;
    assert_eq!(events[0].body, events[1].body);
    rig.end().await;
}

#[tokio::test]
async fn a_job_that_waits_for_a_person_is_cancelled() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let job = unconfirmed(&[people::mediastore(&person)]);
    rig.submit(&job).await;
    rig.event(&job, "needs_input").await;
    rig.cancel(&job).await;
    rig.ended(&job, "cancelled", 1).await;
    assert_eq!(rig.destructive_calls(), 0);
    rig.end().await;
}

#[tokio::test]
async fn a_cancelled_job_does_not_go_on_with_the_input_that_comes_later() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let mut job = unconfirmed(&[people::mediastore(&person)]);
    rig.submit(&job).await;
    rig.event(&job, "needs_input").await;
    rig.cancel(&job).await;
    cancellations_are_read(&rig).await;
    let calls = rig.calls("cleeng").len();
    confirm(&mut job);
    rig.submit(&job).await;
    rig.ended(&job, "cancelled", 1).await;
    assert_eq!(rig.calls("cleeng").len(), calls);
    rig.end().await;
}

#[tokio::test]
async fn a_job_in_hand_is_cancelled_before_its_first_destructive_call() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    rig.sandbox.sandbox().add_fault(FaultRule::on(Op::GetMember, Action::Delay { ms: 700, after_work: false }).nth(1));
    let job = job(&[people::program(&person, "member_id")]);
    rig.submit(&job).await;
    soon("the call", rig.sandbox.sandbox().wait_for(|calls| calls.iter().any(|call| call.operation == Op::GetMember)))
        .await;
    rig.cancel(&job).await;
    rig.ended(&job, "cancelled", 1).await;
    assert_eq!(rig.calls("loyalty"), [Op::GetMember]);
    rig.remains(&person, "loyalty", &["loyalty: member"]);
    rig.end().await;
}

#[tokio::test]
async fn from_the_first_destructive_intent_on_a_cancellation_is_refused_and_the_job_completes() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let slow = Action::Delay { ms: 1500, after_work: false };
    rig.sandbox.sandbox().add_fault(FaultRule::on(Op::DeleteMember, slow).nth(1));
    let job = job(&[people::program(&person, "member_id")]);
    rig.submit(&job).await;
    soon(
        "the call",
        rig.sandbox.sandbox().wait_for(|calls| calls.iter().any(|call| call.operation == Op::DeleteMember)),
    )
    .await;
    rig.cancel(&job).await;
    let refused = rig.event(&job, "cancel_refused").await;
    assert_eq!((refused.data("final"), refused.data("run")), (&json!(false), &json!(1)));
    assert_eq!(refused.data("error")["reason"], "cancel_refused");
    rig.ended(&job, "completed", 1).await;
    rig.remains(&person, "loyalty", &[]);
    rig.end().await;
}

#[tokio::test]
async fn sending_a_one_time_password_is_not_irreversible() {
    let rig = Rig::start(&[("systems.loyalty.member_proof", "otp")]).await;
    rig.sandbox.sandbox().world(|world| {
        world.loyalty("loyalty").settings.member_proof = erasure_worker::sandbox::MemberProof::Otp;
    });
    let person = rig.person();
    let job = unconfirmed(&[people::member_api(&person)]);
    rig.submit(&job).await;
    rig.event(&job, "needs_input").await;
    rig.cancel(&job).await;
    rig.ended(&job, "cancelled", 1).await;
    assert_eq!(rig.destructive_calls(), 0);
    rig.end().await;
}

#[tokio::test]
async fn a_cancellation_that_cannot_be_read_does_not_stop_those_after_it() {
    let rig = Rig::start(&[]).await;
    for body in [&b"no JSON"[..], b"{}", b""] {
        rig.client.publish("requests", "cancel", body, lapin::BasicProperties::default()).await;
    }
    cancellations_are_read(&rig).await;
    rig.end().await;
}

#[tokio::test]
async fn a_preview_reads_everything_tells_what_would_be_lost_and_destroys_nothing() {
    let rig = Rig::start(&[]).await;
    let person = rig.person();
    let targets = [
        people::mediastore(&person),
        people::program(&person, "member_id"),
        people::easycms(&person),
        people::vitalsource(&person),
    ];
    let mut job = unconfirmed(&targets);
    job["mode"] = json!("preview");
    let event = rig.runs_to(&job, "previewed").await;
    let preview = |index: usize| event.data("targets")[index]["preview"].clone();
    assert!(event.data("targets").as_array().unwrap().iter().all(|target| target["outcome"] == "previewed"));
    assert_eq!(preview(0)["entitlements_with_access"], 2);
    assert_eq!(preview(0)["entitlements"][0]["offer_id"], "S100_EX");
    assert_eq!(preview(1)["found"], true);
    assert_eq!((&preview(3)["codes"], &preview(3)["codes_active"]), (&json!(2), &json!(2)));
    let expected = json!([{ "code": 0, "refund_expected": true }, { "code": 1, "refund_expected": false }]);
    assert_eq!(event.data("targets")[3]["refunds"], expected);
    assert_eq!(rig.destructive_calls(), 0);
    let remains = rig.sandbox.sandbox().remains(&person);
    assert_eq!(remains.len(), 6, "{remains:?}");
    rig.end().await;
}

//! Cancellations and previews.
//!
//! The rule it keeps: a job is cancelled only before its first irreversible call. A later cancellation is refused by an
//! event. A preview destroys nothing.

use erasure_worker::sandbox::{Action, FaultRule, Operation as Op};
use serde_json::json;
use testkit::people::{self, confirm, job, unconfirmed};

use crate::trial::Trial;

/// Waits until all earlier cancellations were read, by a further one for an ended job: the stream is in order, and that
/// one is answered.
async fn cancellations_are_read(trial: &Trial) {
    let person = trial.person();
    let ended = unconfirmed(&[people::easycms(&person)]);
    trial.runs_to(&ended, "completed").await;
    trial.cancel(&ended).await;
    let refused = trial.event(&ended, "cancel_refused").await;
    assert_eq!(refused.data("final"), false);
}

#[tokio::test]
async fn a_cancellation_before_its_job_ends_the_job_on_arrival() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = job(&[people::backend(&person), people::easycms(&person)]);
    trial.cancel(&job).await;
    cancellations_are_read(&trial).await;
    let calls = trial.sandbox().entries(0).len();
    let event = trial.runs_to(&job, "cancelled").await;
    assert_eq!(event.data("targets")[0]["outcome"], "cancelled");
    assert_eq!(trial.sandbox().entries(0).len(), calls);
    // The job stays cancelled.
    trial.submit(&job).await;
    let id = people::id(&job);
    let events = trial.client.events.count("the repeat", 2, |event| event.job_id() == id).await;
    assert_eq!(events[0].body, events[1].body);
    trial.end().await;
}

#[tokio::test]
async fn a_job_that_waits_for_a_person_is_cancelled() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let job = unconfirmed(&[people::mediastore(&person)]);
    trial.submit(&job).await;
    trial.event(&job, "needs_input").await;
    trial.cancel(&job).await;
    trial.ended(&job, "cancelled", 1).await;
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

#[tokio::test]
async fn a_cancelled_job_does_not_go_on_with_a_later_input() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let mut job = unconfirmed(&[people::mediastore(&person)]);
    trial.submit(&job).await;
    trial.event(&job, "needs_input").await;
    trial.cancel(&job).await;
    cancellations_are_read(&trial).await;
    let calls = trial.calls("cleeng").len();
    confirm(&mut job);
    trial.submit(&job).await;
    trial.ended(&job, "cancelled", 1).await;
    assert_eq!(trial.calls("cleeng").len(), calls);
    trial.end().await;
}

#[tokio::test]
async fn a_job_in_hand_is_cancelled_before_its_first_destructive_call() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    trial.sandbox().add_fault(FaultRule::on(Op::GetMember, Action::Delay { ms: 700, after_work: false }).nth(1));
    let job = job(&[people::program(&person, "member_id")]);
    trial.submit(&job).await;
    trial.called("the call", |calls| calls.iter().any(|call| call.operation == Op::GetMember)).await;
    trial.cancel(&job).await;
    trial.ended(&job, "cancelled", 1).await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember]);
    trial.remains(&person, "loyalty", &["loyalty: member"]);
    trial.end().await;
}

#[tokio::test]
async fn after_the_first_destructive_intent_a_cancellation_is_refused_and_the_job_completes() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let slow = Action::Delay { ms: 1500, after_work: false };
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, slow).nth(1));
    let job = job(&[people::program(&person, "member_id")]);
    trial.submit(&job).await;
    trial.called("the call", |calls| calls.iter().any(|call| call.operation == Op::DeleteMember)).await;
    trial.cancel(&job).await;
    let refused = trial.event(&job, "cancel_refused").await;
    assert_eq!((refused.data("final"), refused.data("run")), (&json!(false), &json!(1)));
    assert_eq!(refused.data("error")["reason"], "cancel_refused");
    trial.ended(&job, "completed", 1).await;
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}

#[tokio::test]
async fn a_job_is_cancelled_also_after_a_one_time_password_was_sent() {
    let trial = Trial::start(&[("systems.loyalty.member_proof", "otp")]).await;
    trial.sandbox().world(|world| {
        world.loyalty("loyalty").settings.member_proof = erasure_worker::sandbox::MemberProof::Otp;
    });
    let person = trial.person();
    let job = unconfirmed(&[people::member_api(&person)]);
    trial.submit(&job).await;
    trial.event(&job, "needs_input").await;
    trial.cancel(&job).await;
    trial.ended(&job, "cancelled", 1).await;
    assert_eq!(trial.destructive_calls(), 0);
    trial.end().await;
}

#[tokio::test]
async fn an_unreadable_cancellation_does_not_stop_later_ones() {
    let trial = Trial::start(&[]).await;
    for body in [&b"no JSON"[..], b"{}", b""] {
        trial.client.publish("requests", "cancel", body, lapin::BasicProperties::default()).await;
    }
    cancellations_are_read(&trial).await;
    trial.end().await;
}

#[tokio::test]
async fn a_preview_reads_all_targets_names_the_losses_and_destroys_nothing() {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let targets = [
        people::mediastore(&person),
        people::program(&person, "member_id"),
        people::easycms(&person),
        people::redeemed(&person),
    ];
    let mut job = unconfirmed(&targets);
    job["mode"] = json!("preview");
    let event = trial.runs_to(&job, "previewed").await;
    let preview = |index: usize| event.data("targets")[index]["preview"].clone();
    assert!(event.data("targets").as_array().unwrap().iter().all(|target| target["outcome"] == "previewed"));
    assert_eq!(preview(0)["entitlements_with_access"], 2);
    assert_eq!(preview(0)["entitlements"][0]["offer_id"], "S100_EX");
    assert_eq!(preview(1)["found"], true);
    assert_eq!((&preview(3)["codes"], &preview(3)["codes_active"]), (&json!(2), &json!(2)));
    let expected = json!([{ "code": 0, "refund_expected": true }, { "code": 1, "refund_expected": false }]);
    assert_eq!(event.data("targets")[3]["refunds"], expected);
    assert_eq!(trial.destructive_calls(), 0);
    let remains = trial.sandbox().remains(&person);
    assert_eq!(remains.len(), 6, "{remains:?}");
    trial.end().await;
}

//! A worker that is stopped or killed during a call, and the next worker on the same store. `chaos crash_points` covers
//! the other crash points.
//!
//! The rule it keeps: a call that was made is read back, not repeated.

use erasure_worker::sandbox::{Action, FaultRule, Operation as Op};
use serde_json::Value;
use testkit::people;

use crate::trial::Trial;

/// A worker and its job during a call of this length.
async fn in_a_call(ms: u64) -> (Trial, Value) {
    let trial = Trial::start(&[]).await;
    let person = trial.person();
    let slow = Action::Delay { ms, after_work: false };
    trial.sandbox().add_fault(FaultRule::on(Op::DeleteMember, slow).nth(1));
    let job = people::job(&[people::program(&person, "member_id")]);
    trial.submit(&job).await;
    trial.called("the call", |calls| calls.iter().any(|call| call.operation == Op::DeleteMember)).await;
    (trial, job)
}

#[tokio::test]
async fn a_stopped_worker_finishes_its_call_and_another_worker_goes_on() {
    let (mut trial, job) = in_a_call(700).await;
    trial.stop_worker().await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::DeleteMember]);
    assert!(trial.client.events.all().is_empty());
    trial.start_worker();
    trial.ended(&job, "completed", 1).await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::DeleteMember, Op::GetMember]);
    trial.end().await;
}

#[tokio::test]
async fn after_a_kill_during_a_call_the_next_worker_reads_back() {
    let (mut trial, job) = in_a_call(300).await;
    trial.kill_worker().await;
    trial.called("the call", |calls| calls.iter().any(|call| call.effect)).await;
    trial.start_worker();
    trial.ended(&job, "completed", 1).await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::DeleteMember, Op::GetMember]);
    trial.end().await;
}

//! A worker that is stopped or killed while a call is on the wire, and the next one on the same store. Every other
//! place at which a process can end: `chaos crash_points`.
//!
//! The rule it keeps: what was called is read back, not called again.

use erasure_worker::sandbox::{Action, FaultRule, Operation as Op};
use serde_json::Value;
use testkit::people;

use crate::trial::Trial;

/// A worker whose call takes so long, and its job, while that call is on the wire.
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
async fn a_worker_that_is_stopped_finishes_the_call_on_the_wire_and_another_goes_on() {
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
async fn a_worker_that_is_killed_in_a_call_is_followed_by_one_that_reads_back() {
    let (mut trial, job) = in_a_call(300).await;
    trial.kill_worker().await;
    trial.called("the call", |calls| calls.iter().any(|call| call.effect)).await;
    trial.start_worker();
    trial.ended(&job, "completed", 1).await;
    assert_eq!(trial.calls("loyalty"), [Op::GetMember, Op::DeleteMember, Op::GetMember]);
    trial.end().await;
}

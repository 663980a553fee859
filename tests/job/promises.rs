//! Single promises of the flows, each at its boundary.

use std::time::Duration;

use erasure_worker::job::flow::{self, MemberProof, Next};
use erasure_worker::job::{
    Absence, Answer, Entitlement, Entry, FailureKind, InputKind, Reason, RowState, Step, StepName, TargetEnd,
    TargetOutcome,
};
use serde_json::json;

use crate::jobs;
use crate::scenario::limits;
use crate::script::{START, Script};

fn found() -> Answer {
    Answer::Found(erasure_worker::job::Identity::Same)
}

fn gone() -> Answer {
    Answer::Missing(Absence::vouched())
}

fn otp_target() -> Script {
    let mut script = Script::new(json!({ "system": "loyalty", "method": "member_api", "access_token": "t" }));
    script.rules.member_proof = MemberProof::Otp;
    script
}

fn row(offer: &str, gives_access: bool) -> Entitlement {
    let (offer_id, status) = (offer.to_owned(), "active".to_owned());
    Entitlement { offer_id, status, gives_access, externally_managed: false, is_pass: false, id: None }
}

const UNAVAILABLE: (FailureKind, Reason) = (FailureKind::Unavailable, Reason::SystemUnavailable);

#[test]
fn a_step_fails_with_its_reason_after_max_attempts() {
    let mut script = Script::new(jobs::easycms());
    for attempt in 1..=limits().max_attempts {
        script.fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
        if attempt < limits().max_attempts {
            assert_eq!(
                script.next(),
                Next::Wait { until: script.now.plus(Duration::from_secs(1)), why: flow::Why::Retry }
            );
        }
        script.pass(2);
    }
    script.expect_end(TargetEnd::failed(Reason::SystemUnavailable, StepName::Resolve));
}

#[test]
fn an_answer_resets_the_attempts_of_its_step() {
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    for _ in 0..3 {
        for _ in 1..limits().max_attempts {
            script.fail(StepName::ReadBack, UNAVAILABLE.0, UNAVAILABLE.1).pass(2);
        }
        script.answer(StepName::ReadBack, found()).pass(1000);
    }
    script.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn max_elapsed_counts_from_the_first_to_the_latest_failed_attempt() {
    let mut script = Script::new(jobs::easycms());
    script.pass(1_000_000).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    script.pass(limits().max_elapsed.as_secs() - 1).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    script.pass(1).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    script.expect_end(TargetEnd::failed(Reason::SystemUnavailable, StepName::Resolve));
}

#[test]
fn a_rate_limit_and_a_refused_credential_of_the_worker_are_no_attempts() {
    let mut script = Script::new(jobs::easycms());
    for _ in 0..50 {
        script.fail(StepName::Resolve, FailureKind::RateLimited, Reason::SystemUnavailable).pass(100_000);
        script.fail(StepName::Resolve, FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).pass(100_000);
    }
    assert_eq!(script.state.get(Step::one(StepName::Resolve)).unwrap().attempts, 0);
    script.answer(StepName::Resolve, gone()).expect_end(TargetEnd::well(TargetOutcome::Absent));
}

#[test]
fn a_step_with_an_unreadable_reply_fails_after_three_attempts() {
    let mut script = Script::new(jobs::easycms());
    for _ in 0..3 {
        script.fail(StepName::Resolve, FailureKind::Unreadable, Reason::UnreadableReply).pass(2);
    }
    script.expect_end(TargetEnd::failed(Reason::UnreadableReply, StepName::Resolve));
}

#[test]
fn a_wait_for_input_ends_input_max_after_the_request() {
    let mut script = Script::new(jobs::with(&jobs::easycms(), "/customer_password", None));
    script.pass(5_000).answer(StepName::Resolve, found());
    script.expect_ask(InputKind::CustomerPassword);
    script.pass(limits().input_max.as_secs() - 1).expect_ask(InputKind::CustomerPassword);
    script.pass(1).expect_end(TargetEnd::failed(Reason::InputNeverCame, StepName::DeleteAccount));
}

#[test]
fn a_refused_input_starts_the_wait_for_input_again() {
    let mut script = otp_target();
    script.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    script.job = otp_with_code().job;
    script.pass(limits().input_max.as_secs() - 1).continued();
    script.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    script.expect_ask(InputKind::Otp);
    script.pass(limits().input_max.as_secs() - 1).expect_ask(InputKind::Otp);
    script.pass(1).expect_end(TargetEnd::failed(Reason::InputNeverCame, StepName::DeleteMember));
}

fn otp_with_code() -> Script {
    let target = json!({ "system": "loyalty", "method": "member_api", "access_token": "t", "code": "123456" });
    let mut script = Script::new(target);
    script.rules.member_proof = MemberProof::Otp;
    script
}

#[test]
fn a_code_in_the_first_message_is_used_and_no_other_is_sent() {
    let mut script = otp_with_code();
    script.answer(StepName::DeleteMember, Answer::Done).expect_end(TargetEnd::well(TargetOutcome::Erased));
    let mut script = otp_with_code();
    script.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    script.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
}

#[test]
fn a_continuation_without_a_code_after_the_configured_time_sends_a_second_one_time_password() {
    for (resend_after, seconds, anew) in [(None, 59, false), (None, 60, true), (Some(5), 4, false), (Some(5), 5, true)]
    {
        let mut script = otp_target();
        if let Some(seconds) = resend_after {
            script.rules.otp_resend_after = Duration::from_secs(seconds);
        }
        script.answer(StepName::RequestOtp, Answer::Done);
        let ask = script.expect_ask(InputKind::Otp);
        assert_eq!(ask.expires_at, Some(START.plus(script.rules.otp_validity)));
        script.pass(seconds).continued();
        if !anew {
            script.expect_ask(InputKind::Otp);
            // Time alone sends nothing.
            script.pass(3600).expect_ask(InputKind::Otp);
            continue;
        }
        script.carry_intents();
        assert_eq!(script.expect_call(StepName::RequestOtp).item, 1);
        script.answer(StepName::RequestOtp, Answer::Done);
        assert_eq!(script.expect_ask(InputKind::Otp).expires_at, Some(script.now.plus(script.rules.otp_validity)));
        script.pass(3600).expect_ask(InputKind::Otp);
    }
}

#[test]
fn a_one_time_password_in_doubt_counts_as_sent() {
    let mut script = otp_target();
    script.fail(StepName::RequestOtp, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(3600);
    script.expect_ask(InputKind::Otp);
    let mut crashed = otp_target();
    crashed.carry_intents();
    crashed.restart();
    crashed.expect_ask(InputKind::Otp);
}

#[test]
fn after_ten_refusals_a_proof_is_not_requested_again() {
    let mut script = otp_with_code();
    script.write(Entry::Continued { at: START });
    for _ in 0..10 {
        script.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
        if script.state.all(StepName::RequestOtp).is_empty() {
            script.answer(StepName::RequestOtp, Answer::Done);
        }
        script.pass(5);
        if script.state.get(Step::one(StepName::DeleteMember)).unwrap().attempts < 10 {
            script.expect_ask(InputKind::Otp);
            script.continued();
        }
    }
    script.expect_end(TargetEnd::failed(Reason::InputRefused, StepName::DeleteMember));
}

#[test]
fn a_possible_redelivery_tries_a_refused_proof_again_and_sends_no_one_time_password() {
    let mut script = otp_with_code();
    script.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    script.answer(StepName::RequestOtp, Answer::Done).pass(3600);
    script.expect_ask(InputKind::Otp);
    assert!(script.state.has_refused_proof());
    script.write(Entry::OfferedAgain { at: script.now });
    assert!(!script.state.has_refused_proof());
    script.carry_intents();
    script.expect_call(StepName::DeleteMember);
    script.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused).pass(60);
    script.expect_ask(InputKind::Otp);
    assert_eq!(script.state.all(StepName::RequestOtp).len(), 1);
}

#[test]
fn a_confirmation_request_lists_the_entitlements_and_a_proof_already_used_is_not_requested() {
    let mut script = Script::new(jobs::cleeng());
    let listed = Answer::Entitlements(vec![row("S1", true), row("S2", false)]);
    script.answer(StepName::Resolve, found()).answer(StepName::ListEntitlements, listed);
    let offers: Vec<_> =
        script.expect_ask(InputKind::Confirmation).entitlements.into_iter().map(|row| row.offer_id).collect();
    assert_eq!(offers, ["S1"]);

    let mut shop = Script::new(jobs::easycms());
    shop.answer(StepName::Resolve, found());
    shop.fail(StepName::DeleteAccount, FailureKind::Ambiguous, Reason::SystemUnavailable);
    // The next message has no password: the call is read back all the same.
    shop.job = jobs::good(&jobs::one(jobs::with(&jobs::easycms(), "/customer_password", None)));
    shop.continued();
    shop.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn an_entitlement_that_the_latest_list_leaves_out_is_not_terminated() {
    let confirmed =
        jobs::with(&jobs::cleeng(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })));
    let mut script = Script::new(confirmed);
    script.answer(StepName::Resolve, found());
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true), row("S2", true)]));
    script.fail(StepName::TerminateEntitlement, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(2);
    // The first list settles the doubt; the second shows that no entitlement is left.
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    script.answer(StepName::DeleteCustomer, Answer::Done);
    script.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn a_deletion_may_stay_visible_for_pending_max_and_is_read_once_more_after_it() {
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    // The system is held for long, so the first read is late. It is not the last one because of that.
    script.answer(StepName::ReadBack, found());
    assert!(matches!(script.next(), Next::Wait { .. }));
    script.pass(limits().pending_max.as_secs() * 10).answer(StepName::ReadBack, gone());
    script.expect_end(TargetEnd::well(TargetOutcome::Erased));

    let mut late = Script::new(jobs::easycms());
    late.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    late.pass(limits().pending_max.as_secs() - 1).answer(StepName::ReadBack, found());
    assert!(matches!(late.next(), Next::Wait { .. }));
    late.pass(3600).answer(StepName::ReadBack, found());
    late.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
}

#[test]
fn the_pauses_between_reads_of_a_pending_deletion_grow_up_to_max_interval() {
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    let mut pauses = Vec::new();
    loop {
        script.answer(StepName::ReadBack, found());
        let Next::Wait { until, .. } = script.next() else { break };
        pauses.push(until.since(script.now).as_secs());
        script.now = until;
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 480, 900, 900, 900, 900, 900, 900, 900]);
    script.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
}

#[test]
fn a_new_run_first_reads_back_the_calls_that_the_old_run_left_in_doubt() {
    let read_fails = |script: &mut Script| {
        for _ in 0..limits().max_attempts {
            script.fail(StepName::ReadBack, UNAVAILABLE.0, UNAVAILABLE.1).pass(2);
        }
    };
    // The process crashed with the call on the wire, and the next process could not read back.
    let mut crashed = Script::new(jobs::easycms());
    crashed.answer(StepName::Resolve, found()).carry_intents();
    crashed.restart();
    read_fails(&mut crashed);
    crashed.new_run().restart();
    crashed.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));

    // The answer was unclear, and the read-back failed. The replay has the right password.
    let mut unclear = Script::new(jobs::easycms());
    unclear.answer(StepName::Resolve, found());
    unclear.answer(StepName::DeleteAccount, Answer::Unclear(Reason::WrongCustomerPassword));
    read_fails(&mut unclear);
    unclear.new_run();
    unclear.answer(StepName::ReadBack, found()).answer(StepName::DeleteAccount, Answer::Done);
    unclear.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_new_run_queues_a_row_again_if_the_result_lacked_it() {
    let mut script = Script::new(jobs::import());
    script.answer(StepName::Resolve, found()).answer(StepName::QueueImportRow, Answer::Done);
    script.answer(StepName::ImportResult, Answer::Row(RowState::Missing)).answer(StepName::ReadBack, found());
    script.expect_end(TargetEnd::failed(Reason::ImportRowMissing, StepName::ImportResult));
    script.new_run().answer(StepName::Resolve, found()).answer(StepName::QueueImportRow, Answer::Done);
    script.answer(StepName::ImportResult, Answer::Row(RowState::Deleted)).answer(StepName::ReadBack, gone());
    script.expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_new_run_lists_again_before_it_reports_an_active_entitlement() {
    let confirmed =
        jobs::with(&jobs::cleeng(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })));
    let mut script = Script::new(confirmed);
    script.answer(StepName::Resolve, found());
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true)]));
    script.answer(StepName::TerminateEntitlement, Answer::Done);
    script.pass(limits().pending_max.as_secs());
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true)]));
    script.expect_end(TargetEnd::refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement));
    script.new_run().pass(60).answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    script.answer(StepName::Resolve, found()).answer(StepName::DeleteCustomer, Answer::Done);
    script.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn a_new_run_without_a_code_sends_another_one_time_password() {
    let mut script = otp_target();
    script.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    script.pass(limits().input_max.as_secs());
    script.new_run().answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    assert_eq!(script.state.all(StepName::RequestOtp).len(), 2);
}

#[test]
fn after_a_lost_call_a_member_counts_as_not_deleted_only_if_a_read_verify_interval_later_finds_it() {
    let mut script = Script::new(jobs::program());
    script.answer(StepName::Resolve, found());
    script.fail(StepName::DeleteMember, FailureKind::Ambiguous, Reason::SystemUnavailable);
    script.answer(StepName::ReadBack, found());
    let until = START.plus(script.rules.verify_interval);
    assert_eq!(script.next(), Next::Wait { until, why: flow::Why::Pending });
    script.now = until;
    script.answer(StepName::ReadBack, found());
    assert!(matches!(script.next(), Next::Settle { done: false, .. }));
    script.answer(StepName::DeleteMember, Answer::Unclear(Reason::Unproven)).answer(StepName::ReadBack, gone());
    script.expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_new_run_keeps_the_outcome_of_a_target_that_ended_well() {
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, gone()).new_run();
    script.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

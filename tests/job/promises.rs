//! Single promises of the flows, each at its boundary.

use std::time::Duration;

use erasure_worker::job::flow::{self, MemberProof, Next};
use erasure_worker::job::{
    Absence, Answer, Entitlement, Entry, FailureKind, InputKind, Reason, RowState, Step, StepName, TargetEnd,
    TargetOutcome,
};
use serde_json::json;

use crate::hand::{Hand, START};
use crate::jobs;
use crate::scenario::limits;

fn found() -> Answer {
    Answer::Found(erasure_worker::job::Identity::Same)
}

fn gone() -> Answer {
    Answer::Missing(Absence::vouched())
}

fn otp_target() -> Hand {
    let mut hand = Hand::new(json!({ "system": "loyalty", "method": "member_api", "access_token": "t" }));
    hand.rules.member_proof = MemberProof::Otp;
    hand
}

fn row(offer: &str, gives_access: bool) -> Entitlement {
    let (offer_id, status) = (offer.to_owned(), "active".to_owned());
    Entitlement { offer_id, status, gives_access, externally_managed: false, is_pass: false, id: None }
}

const UNAVAILABLE: (FailureKind, Reason) = (FailureKind::Unavailable, Reason::SystemUnavailable);

#[test]
fn a_step_is_tried_max_attempts_times_and_then_fails_with_its_reason() {
    let mut hand = Hand::new(jobs::easycms());
    for attempt in 1..=limits().max_attempts {
        hand.fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
        if attempt < limits().max_attempts {
            assert_eq!(hand.next(), Next::Wait { until: hand.now.plus(Duration::from_secs(1)), why: flow::Why::Retry });
        }
        hand.pass(2);
    }
    hand.expect_end(TargetEnd::failed(Reason::SystemUnavailable, StepName::Resolve));
}

#[test]
fn an_answer_makes_the_attempts_of_its_step_begin_anew() {
    let mut hand = Hand::new(jobs::easycms());
    hand.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    for _ in 0..3 {
        for _ in 1..limits().max_attempts {
            hand.fail(StepName::ReadBack, UNAVAILABLE.0, UNAVAILABLE.1).pass(2);
        }
        hand.answer(StepName::ReadBack, found()).pass(1000);
    }
    hand.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn max_elapsed_counts_from_the_first_to_the_latest_failed_attempt() {
    let mut hand = Hand::new(jobs::easycms());
    hand.pass(1_000_000).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    hand.pass(limits().max_elapsed.as_secs() - 1).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    hand.pass(1).fail(StepName::Resolve, UNAVAILABLE.0, UNAVAILABLE.1);
    hand.expect_end(TargetEnd::failed(Reason::SystemUnavailable, StepName::Resolve));
}

#[test]
fn being_told_to_wait_and_a_refused_credential_of_ours_are_no_attempts() {
    let mut hand = Hand::new(jobs::easycms());
    for _ in 0..50 {
        hand.fail(StepName::Resolve, FailureKind::RateLimited, Reason::SystemUnavailable).pass(100_000);
        hand.fail(StepName::Resolve, FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).pass(100_000);
    }
    assert_eq!(hand.state.get(Step::one(StepName::Resolve)).unwrap().attempts, 0);
    hand.answer(StepName::Resolve, gone()).expect_end(TargetEnd::well(TargetOutcome::Absent));
}

#[test]
fn a_reply_that_cannot_be_read_is_asked_for_three_times() {
    let mut hand = Hand::new(jobs::easycms());
    for _ in 0..3 {
        hand.fail(StepName::Resolve, FailureKind::Unreadable, Reason::UnreadableReply).pass(2);
    }
    hand.expect_end(TargetEnd::failed(Reason::UnreadableReply, StepName::Resolve));
}

#[test]
fn an_input_is_waited_for_input_max_long_from_when_it_was_asked_for() {
    let mut hand = Hand::new(jobs::with(&jobs::easycms(), "/customer_password", None));
    hand.pass(5_000).answer(StepName::Resolve, found());
    hand.expect_ask(InputKind::CustomerPassword);
    hand.pass(limits().input_max.as_secs() - 1).expect_ask(InputKind::CustomerPassword);
    hand.pass(1).expect_end(TargetEnd::failed(Reason::InputNeverCame, StepName::DeleteAccount));
}

#[test]
fn an_input_that_came_and_was_refused_is_waited_for_anew() {
    let mut hand = otp_target();
    hand.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    hand.job = otp_with_code().job;
    hand.pass(limits().input_max.as_secs() - 1).continued();
    hand.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    hand.expect_ask(InputKind::Otp);
    hand.pass(limits().input_max.as_secs() - 1).expect_ask(InputKind::Otp);
    hand.pass(1).expect_end(TargetEnd::failed(Reason::InputNeverCame, StepName::DeleteMember));
}

fn otp_with_code() -> Hand {
    let target = json!({ "system": "loyalty", "method": "member_api", "access_token": "t", "code": "123456" });
    let mut hand = Hand::new(target);
    hand.rules.member_proof = MemberProof::Otp;
    hand
}

#[test]
fn a_code_that_comes_with_the_first_message_is_used_and_no_other_is_sent() {
    let mut hand = otp_with_code();
    hand.answer(StepName::DeleteMember, Answer::Done).expect_end(TargetEnd::well(TargetOutcome::Erased));
    let mut hand = otp_with_code();
    hand.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    hand.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
}

#[test]
fn a_second_one_time_password_is_sent_for_a_continuation_without_a_code_a_minute_after_the_first() {
    for (seconds, anew) in [(59, false), (60, true)] {
        let mut hand = otp_target();
        hand.answer(StepName::RequestOtp, Answer::Done);
        let ask = hand.expect_ask(InputKind::Otp);
        assert_eq!(ask.expires_at, Some(START.plus(hand.rules.otp_validity)));
        hand.pass(seconds).continued();
        if !anew {
            hand.expect_ask(InputKind::Otp);
            // Time alone sends nothing.
            hand.pass(3600).expect_ask(InputKind::Otp);
            continue;
        }
        hand.carry_intents();
        assert_eq!(hand.expect_call(StepName::RequestOtp).item, 1);
        hand.answer(StepName::RequestOtp, Answer::Done);
        assert_eq!(hand.expect_ask(InputKind::Otp).expires_at, Some(hand.now.plus(hand.rules.otp_validity)));
        hand.pass(3600).expect_ask(InputKind::Otp);
    }
}

#[test]
fn a_one_time_password_whose_sending_is_in_doubt_counts_as_sent() {
    let mut hand = otp_target();
    hand.fail(StepName::RequestOtp, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(3600);
    hand.expect_ask(InputKind::Otp);
    let mut crashed = otp_target();
    crashed.carry_intents();
    crashed.restart();
    crashed.expect_ask(InputKind::Otp);
}

#[test]
fn a_proof_is_refused_ten_times_and_then_not_asked_for_again() {
    let mut hand = otp_with_code();
    hand.write(Entry::Continued { at: START });
    for _ in 0..10 {
        hand.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
        if hand.state.all(StepName::RequestOtp).is_empty() {
            hand.answer(StepName::RequestOtp, Answer::Done);
        }
        hand.pass(5);
        if hand.state.get(Step::one(StepName::DeleteMember)).unwrap().attempts < 10 {
            hand.expect_ask(InputKind::Otp);
            hand.continued();
        }
    }
    hand.expect_end(TargetEnd::failed(Reason::InputRefused, StepName::DeleteMember));
}

#[test]
fn a_message_that_may_only_have_been_delivered_again_tries_a_refused_proof_and_sends_nobody_a_code() {
    let mut hand = otp_with_code();
    hand.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused);
    hand.answer(StepName::RequestOtp, Answer::Done).pass(3600);
    hand.expect_ask(InputKind::Otp);
    assert!(hand.state.has_refused_proof());
    hand.write(Entry::OfferedAgain { at: hand.now });
    assert!(!hand.state.has_refused_proof());
    hand.carry_intents();
    hand.expect_call(StepName::DeleteMember);
    hand.fail(StepName::DeleteMember, FailureKind::UnauthorisedTheirs(InputKind::Otp), Reason::InputRefused).pass(60);
    hand.expect_ask(InputKind::Otp);
    assert_eq!(hand.state.all(StepName::RequestOtp).len(), 1);
}

#[test]
fn a_confirmation_is_asked_for_with_what_will_be_lost_and_a_proof_once_sent_is_not_asked_for() {
    let mut hand = Hand::new(jobs::cleeng());
    let listed = Answer::Entitlements(vec![row("S1", true), row("S2", false)]);
    hand.answer(StepName::Resolve, found()).answer(StepName::ListEntitlements, listed);
    let offers: Vec<_> =
        hand.expect_ask(InputKind::Confirmation).entitlements.into_iter().map(|row| row.offer_id).collect();
    assert_eq!(offers, ["S1"]);

    let mut shop = Hand::new(jobs::easycms());
    shop.answer(StepName::Resolve, found());
    shop.fail(StepName::DeleteAccount, FailureKind::Ambiguous, Reason::SystemUnavailable);
    // The next message has no password any more: the call is looked into all the same.
    shop.job = jobs::good(&jobs::one(jobs::with(&jobs::easycms(), "/customer_password", None)));
    shop.continued();
    shop.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn an_entitlement_that_the_latest_list_leaves_out_is_not_terminated() {
    let confirmed =
        jobs::with(&jobs::cleeng(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })));
    let mut hand = Hand::new(confirmed);
    hand.answer(StepName::Resolve, found());
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true), row("S2", true)]));
    hand.fail(StepName::TerminateEntitlement, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(2);
    // Once to settle the doubt, once to see that nothing is left.
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    hand.answer(StepName::DeleteCustomer, Answer::Done);
    hand.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn a_deletion_may_stay_visible_for_pending_max_and_is_looked_at_after_it_in_any_case() {
    let mut hand = Hand::new(jobs::easycms());
    hand.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    // The system is held for long: the first look is late, and not the last one by that.
    hand.answer(StepName::ReadBack, found());
    assert!(matches!(hand.next(), Next::Wait { .. }));
    hand.pass(limits().pending_max.as_secs() * 10).answer(StepName::ReadBack, gone());
    hand.expect_end(TargetEnd::well(TargetOutcome::Erased));

    let mut late = Hand::new(jobs::easycms());
    late.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    late.pass(limits().pending_max.as_secs() - 1).answer(StepName::ReadBack, found());
    assert!(matches!(late.next(), Next::Wait { .. }));
    late.pass(3600).answer(StepName::ReadBack, found());
    late.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
}

#[test]
fn the_looks_at_a_pending_deletion_grow_apart_up_to_max_interval() {
    let mut hand = Hand::new(jobs::easycms());
    hand.answer(StepName::Resolve, found()).answer(StepName::DeleteAccount, Answer::Done);
    let mut pauses = Vec::new();
    loop {
        hand.answer(StepName::ReadBack, found());
        let Next::Wait { until, .. } = hand.next() else { break };
        pauses.push(until.since(hand.now).as_secs());
        hand.now = until;
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 480, 900, 900, 900, 900, 900, 900, 900]);
    hand.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
}

#[test]
fn a_new_run_looks_first_into_what_the_old_one_left_in_doubt() {
    let read_fails = |hand: &mut Hand| {
        for _ in 0..limits().max_attempts {
            hand.fail(StepName::ReadBack, UNAVAILABLE.0, UNAVAILABLE.1).pass(2);
        }
    };
    // The process died with the call on the wire, and the next one could not look.
    let mut crashed = Hand::new(jobs::easycms());
    crashed.answer(StepName::Resolve, found()).carry_intents();
    crashed.restart();
    read_fails(&mut crashed);
    crashed.new_run().restart();
    crashed.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));

    // The answer settled nothing, and the look failed; the replay brings the right password.
    let mut unclear = Hand::new(jobs::easycms());
    unclear.answer(StepName::Resolve, found());
    unclear.answer(StepName::DeleteAccount, Answer::Unclear(Reason::WrongCustomerPassword));
    read_fails(&mut unclear);
    unclear.new_run();
    unclear.answer(StepName::ReadBack, found()).answer(StepName::DeleteAccount, Answer::Done);
    unclear.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_new_run_queues_a_row_again_that_the_result_left_out() {
    let mut hand = Hand::new(jobs::import());
    hand.answer(StepName::Resolve, found()).answer(StepName::QueueImportRow, Answer::Done);
    hand.answer(StepName::ImportResult, Answer::Row(RowState::Missing)).answer(StepName::ReadBack, found());
    hand.expect_end(TargetEnd::failed(Reason::ImportRowMissing, StepName::ImportResult));
    hand.new_run().answer(StepName::Resolve, found()).answer(StepName::QueueImportRow, Answer::Done);
    hand.answer(StepName::ImportResult, Answer::Row(RowState::Deleted)).answer(StepName::ReadBack, gone());
    hand.expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_new_run_lists_again_before_it_says_that_an_entitlement_still_gives_access() {
    let confirmed =
        jobs::with(&jobs::cleeng(), "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })));
    let mut hand = Hand::new(confirmed);
    hand.answer(StepName::Resolve, found());
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true)]));
    hand.answer(StepName::TerminateEntitlement, Answer::Done);
    hand.pass(limits().pending_max.as_secs());
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![row("S1", true)]));
    hand.expect_end(TargetEnd::refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement));
    hand.new_run().pass(60).answer(StepName::ListEntitlements, Answer::Entitlements(vec![]));
    hand.answer(StepName::Resolve, found()).answer(StepName::DeleteCustomer, Answer::Done);
    hand.answer(StepName::ReadBack, gone()).expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn a_new_run_has_another_one_time_password_sent_where_no_code_came_with_it() {
    let mut hand = otp_target();
    hand.answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    hand.pass(limits().input_max.as_secs());
    hand.new_run().answer(StepName::RequestOtp, Answer::Done).expect_ask(InputKind::Otp);
    assert_eq!(hand.state.all(StepName::RequestOtp).len(), 2);
}

#[test]
fn a_member_counts_as_not_deleted_only_when_a_look_verify_interval_after_the_lost_call_still_finds_it() {
    let mut hand = Hand::new(jobs::program());
    hand.answer(StepName::Resolve, found());
    hand.fail(StepName::DeleteMember, FailureKind::Ambiguous, Reason::SystemUnavailable);
    hand.answer(StepName::ReadBack, found());
    let until = START.plus(hand.rules.verify_interval);
    assert_eq!(hand.next(), Next::Wait { until, why: flow::Why::Pending });
    hand.now = until;
    hand.answer(StepName::ReadBack, found());
    assert!(matches!(hand.next(), Next::Settle { done: false, .. }));
    hand.answer(StepName::DeleteMember, Answer::Unclear(Reason::Unproven)).answer(StepName::ReadBack, gone());
    hand.expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn a_target_that_ended_well_stays_so_in_a_new_run() {
    let mut hand = Hand::new(jobs::easycms());
    hand.answer(StepName::Resolve, gone()).new_run();
    hand.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

//! Approvals: nothing destructive without one, and nothing beyond what it was given for.

use erasure_worker::job::flow::Next;
use erasure_worker::job::{
    Absence, Answer, CodeState, Entitlement, Entry, Field, Identity, InputKind, Reason, StepName, TargetEnd,
    TargetOutcome,
};
use serde_json::Value;

use crate::hand::Hand;
use crate::jobs;
use crate::scenario::limits;

fn row(offer: &str, id: Option<&str>, status: &str) -> Entitlement {
    Entitlement {
        offer_id: offer.to_owned(),
        status: status.to_owned(),
        gives_access: true,
        externally_managed: false,
        is_pass: false,
        id: id.map(str::to_owned),
    }
}

fn needed(target: Value) -> Hand {
    let mut hand = Hand::new(target);
    hand.write(Entry::ApprovalNeeded { by: "ann".to_owned(), at: hand.now });
    hand
}

fn approve(hand: &mut Hand) -> &mut Hand {
    hand.write(Entry::Approved { by: "bob".to_owned(), at: hand.now });
    hand
}

/// A customer with these entitlements, read up to the approval.
fn customer(rows: &[Entitlement]) -> Hand {
    let mut hand = needed(jobs::cleeng());
    hand.rules.confirm = erasure_worker::job::flow::Confirm::Never;
    read(&mut hand, rows);
    hand.expect_ask(InputKind::Approval);
    hand
}

fn read(hand: &mut Hand, rows: &[Entitlement]) {
    hand.answer(StepName::Resolve, Answer::Found(Identity::Same));
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(rows.to_vec()));
}

#[test]
fn what_was_approved_is_read_anew_and_then_erased_even_where_there_is_less_of_it() {
    let (one, two) = (row("S1", Some("1"), "active"), row("S2", Some("2"), "active"));
    let mut hand = customer(&[one.clone(), two]);
    approve(&mut hand);
    hand.restart();
    read(&mut hand, &[one]);
    hand.answer(StepName::TerminateEntitlement, Answer::Done);
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(Vec::new()));
    hand.answer(StepName::DeleteCustomer, Answer::Done);
    hand.answer(StepName::ReadBack, Answer::Missing(Absence::vouched()));
    hand.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn every_kind_of_more_asks_again_and_touches_nothing() {
    let approved = [row("S1", None, "cancelled"), row("S2", Some("2"), "active")];
    let taken_over = Entitlement { externally_managed: true, ..row("S2", Some("2"), "active") };
    for (what, now) in [
        ("another offer", vec![row("S3", None, "active")]),
        ("the same offer once more", vec![row("S2", Some("2"), "active"), row("S2", Some("3"), "active")]),
        ("one that was cancelled, taken up again", vec![row("S1", None, "active")]),
        ("one that an app store runs by now", vec![taken_over]),
    ] {
        let mut hand = customer(&approved);
        approve(&mut hand);
        read(&mut hand, &now);
        hand.expect_ask(InputKind::Approval);
        assert!(!hand.state.touched, "{what}");
        // Approved anew, it goes on.
        approve(&mut hand);
        read(&mut hand, &now);
        hand.carry_intents();
        hand.expect_call(StepName::TerminateEntitlement);
    }
    // Ids that one list gives and another does not are no news.
    let mut hand = customer(&approved);
    approve(&mut hand);
    read(&mut hand, &[row("S1", Some("1"), "cancelled"), row("S2", None, "cancelled")]);
    hand.carry_intents();
    hand.expect_call(StepName::TerminateEntitlement);
}

#[test]
fn an_entitlement_that_comes_up_midway_asks_again_before_it_is_ended() {
    let one = row("S1", Some("1"), "active");
    let mut hand = customer(std::slice::from_ref(&one));
    approve(&mut hand);
    read(&mut hand, &[one]);
    hand.answer(StepName::TerminateEntitlement, Answer::Done);
    let new = row("S9", Some("9"), "active");
    hand.answer(StepName::ListEntitlements, Answer::Entitlements(vec![new]));
    assert_eq!(hand.expect_ask(InputKind::Approval).entitlements[0].offer_id, "S9");
    // What is done stays done: only the new one is left to end, once all was read again.
    approve(&mut hand);
    read(&mut hand, &[row("S9", Some("9"), "active")]);
    hand.carry_intents();
    assert_eq!(hand.expect_call(StepName::TerminateEntitlement).item, 1);
}

#[test]
fn an_approval_runs_out_while_nothing_was_begun_and_holds_once_it_was() {
    let mut hand = needed(jobs::easycms());
    let found = || Answer::Found(Identity::Same);
    hand.answer(StepName::Resolve, found()).expect_ask(InputKind::Approval);
    approve(&mut hand).answer(StepName::Resolve, found());
    hand.pass(limits().approval_max.as_secs()).expect_ask(InputKind::Approval);
    approve(&mut hand).answer(StepName::Resolve, found());
    hand.pass(limits().approval_max.as_secs() - 1).answer(StepName::Resolve, found()).carry_intents();
    hand.expect_call(StepName::DeleteAccount);
    hand.pass(limits().approval_max.as_secs());
    hand.expect_call(StepName::DeleteAccount);
}

#[test]
fn a_person_who_was_not_there_when_it_was_approved_or_is_another_by_now_asks_again() {
    let user = |guid: &str, fields: &[Field]| Answer::User {
        identity: Identity::Same,
        guid: guid.to_owned(),
        email: None,
        fields: fields.to_vec(),
    };
    let reads = |hand: &mut Hand, guid: &str, fields: &[Field], codes: [CodeState; 2]| {
        hand.answer(StepName::Resolve, user(guid, fields));
        for state in codes {
            hand.answer(StepName::ReadCode, Answer::Code { state, owner: Identity::Same });
        }
    };
    let target = || {
        serde_json::json!({ "system": "vitalsource", "reference": "shop-77",
            "codes": [{ "code": "A1" }, { "code": "B2" }] })
    };
    let (live, dead) = (CodeState::Active, CodeState::Cancelled);
    let approved = || {
        let mut hand = needed(target());
        hand.rules.confirm = erasure_worker::job::flow::Confirm::Never;
        reads(&mut hand, "ONE", &[Field::Email], [live, dead]);
        hand.expect_ask(InputKind::Approval);
        approve(&mut hand);
        hand
    };
    for (guid, fields, codes) in
        [("ONE", &[Field::Email, Field::FirstName][..], [live, dead]), ("ONE", &[Field::Email][..], [live, live])]
    {
        let mut hand = approved();
        reads(&mut hand, guid, fields, codes);
        hand.expect_ask(InputKind::Approval);
    }
    // Another user is refused at once, whoever approves.
    let mut hand = approved();
    hand.answer(StepName::Resolve, user("OTHER", &[Field::Email]));
    hand.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve));
    let mut hand = approved();
    reads(&mut hand, "ONE", &[], [dead, dead]);
    hand.carry_intents();
    hand.expect_call(StepName::RevokeCode);
}

#[test]
fn no_form_of_target_is_called_destructively_before_its_approval() {
    for target in jobs::every_form() {
        let mut hand = needed(target.clone());
        let mut asked = false;
        for _ in 0..20 {
            match hand.next() {
                Next::Call(step) => {
                    assert!(!step.name.needs_intent(), "{step:?} of {target}");
                    let answer = match step.name {
                        StepName::ListEntitlements => Answer::Entitlements(vec![row("S1", None, "active")]),
                        StepName::ReadCode => Answer::Code { state: CodeState::Active, owner: Identity::Same },
                        StepName::Resolve if target["system"] == "vitalsource" => Answer::User {
                            identity: Identity::Same,
                            guid: "ONE".to_owned(),
                            email: None,
                            fields: Vec::new(),
                        },
                        _ => Answer::Found(Identity::Same),
                    };
                    hand.write(Entry::Answered { target: 0, step, answer: Some(answer), at: hand.now });
                }
                Next::Ask(asks) => {
                    asked = asks.iter().all(|ask| ask.kind == InputKind::Approval);
                    break;
                }
                other => panic!("{other:?} of {target}"),
            }
        }
        assert!(asked, "{target}");
    }
}

//! Approvals: no destructive call without an approval, and none beyond the approved findings.

use erasure_worker::job::flow::Next;
use erasure_worker::job::{
    Absence, Answer, CodeState, Entitlement, Entry, Field, Identity, InputKind, Reason, StepName, TargetEnd,
    TargetOutcome,
};
use serde_json::Value;

use crate::jobs;
use crate::scenario::limits;
use crate::script::Script;

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

fn needed(target: Value) -> Script {
    let mut script = Script::new(target);
    script.write(Entry::ApprovalNeeded { by: "ann".to_owned(), at: script.now });
    script
}

fn approve(script: &mut Script) -> &mut Script {
    script.write(Entry::Approved { by: "bob".to_owned(), at: script.now });
    script
}

/// A customer with these entitlements, up to the request for an approval.
fn customer(rows: &[Entitlement]) -> Script {
    let mut script = needed(jobs::cleeng());
    script.rules.confirm = erasure_worker::job::flow::Confirm::Never;
    read(&mut script, rows);
    script.expect_ask(InputKind::Approval);
    script
}

fn read(script: &mut Script, rows: &[Entitlement]) {
    script.answer(StepName::Resolve, Answer::Found(Identity::Same));
    script.answer(StepName::ListEntitlements, Answer::Entitlements(rows.to_vec()));
}

#[test]
fn after_the_approval_the_findings_are_read_again_and_erased_also_if_there_are_fewer() {
    let (one, two) = (row("S1", Some("1"), "active"), row("S2", Some("2"), "active"));
    let mut script = customer(&[one.clone(), two]);
    approve(&mut script);
    script.restart();
    read(&mut script, &[one]);
    script.answer(StepName::TerminateEntitlement, Answer::Done);
    script.answer(StepName::ListEntitlements, Answer::Entitlements(Vec::new()));
    script.answer(StepName::DeleteCustomer, Answer::Done);
    script.answer(StepName::ReadBack, Answer::Missing(Absence::vouched()));
    script.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn findings_beyond_the_approved_ones_need_a_new_approval_before_any_change() {
    let approved = [row("S1", None, "cancelled"), row("S2", Some("2"), "active")];
    let taken_over = Entitlement { externally_managed: true, ..row("S2", Some("2"), "active") };
    for (what, now) in [
        ("another offer", vec![row("S3", None, "active")]),
        ("the same offer once more", vec![row("S2", Some("2"), "active"), row("S2", Some("3"), "active")]),
        ("a cancelled entitlement that is active again", vec![row("S1", None, "active")]),
        ("an entitlement that an app store manages now", vec![taken_over]),
    ] {
        let mut script = customer(&approved);
        approve(&mut script);
        read(&mut script, &now);
        script.expect_ask(InputKind::Approval);
        assert!(!script.state.touched, "{what}");
        // With a new approval the erasure continues.
        approve(&mut script);
        read(&mut script, &now);
        script.carry_intents();
        script.expect_call(StepName::TerminateEntitlement);
    }
    // An id that only one of the lists gives is no new finding.
    let mut script = customer(&approved);
    approve(&mut script);
    read(&mut script, &[row("S1", Some("1"), "cancelled"), row("S2", None, "cancelled")]);
    script.carry_intents();
    script.expect_call(StepName::TerminateEntitlement);
}

#[test]
fn an_entitlement_that_appears_during_the_erasure_needs_a_new_approval() {
    let one = row("S1", Some("1"), "active");
    let mut script = customer(std::slice::from_ref(&one));
    approve(&mut script);
    read(&mut script, &[one]);
    script.answer(StepName::TerminateEntitlement, Answer::Done);
    let new = row("S9", Some("9"), "active");
    script.answer(StepName::ListEntitlements, Answer::Entitlements(vec![new]));
    assert_eq!(script.expect_ask(InputKind::Approval).entitlements[0].offer_id, "S9");
    // Done steps stay done: after new reads only the new entitlement is terminated.
    approve(&mut script);
    read(&mut script, &[row("S9", Some("9"), "active")]);
    script.carry_intents();
    assert_eq!(script.expect_call(StepName::TerminateEntitlement).item, 1);
}

#[test]
fn an_approval_expires_before_the_first_destructive_call_but_not_after_it() {
    let mut script = needed(jobs::easycms());
    let found = || Answer::Found(Identity::Same);
    script.answer(StepName::Resolve, found()).expect_ask(InputKind::Approval);
    approve(&mut script).answer(StepName::Resolve, found());
    script.pass(limits().approval_max.as_secs()).expect_ask(InputKind::Approval);
    approve(&mut script).answer(StepName::Resolve, found());
    script.pass(limits().approval_max.as_secs() - 1).answer(StepName::Resolve, found()).carry_intents();
    script.expect_call(StepName::DeleteAccount);
    script.pass(limits().approval_max.as_secs());
    script.expect_call(StepName::DeleteAccount);
}

#[test]
fn new_fields_or_active_codes_need_a_new_approval_and_another_user_is_refused() {
    let user = |guid: &str, fields: &[Field]| Answer::User {
        identity: Identity::Same,
        guid: guid.to_owned(),
        email: None,
        fields: fields.to_vec(),
    };
    let reads = |script: &mut Script, guid: &str, fields: &[Field], codes: [CodeState; 2]| {
        script.answer(StepName::Resolve, user(guid, fields));
        for state in codes {
            script.answer(StepName::ReadCode, Answer::Code { state, owner: Identity::Same });
        }
    };
    let target = || {
        serde_json::json!({ "system": "vitalsource", "reference": "shop-77",
            "codes": [{ "code": "A1" }, { "code": "B2" }] })
    };
    let (live, dead) = (CodeState::Active, CodeState::Cancelled);
    let approved = || {
        let mut script = needed(target());
        script.rules.confirm = erasure_worker::job::flow::Confirm::Never;
        reads(&mut script, "ONE", &[Field::Email], [live, dead]);
        script.expect_ask(InputKind::Approval);
        approve(&mut script);
        script
    };
    for (guid, fields, codes) in
        [("ONE", &[Field::Email, Field::FirstName][..], [live, dead]), ("ONE", &[Field::Email][..], [live, live])]
    {
        let mut script = approved();
        reads(&mut script, guid, fields, codes);
        script.expect_ask(InputKind::Approval);
    }
    // Another user is refused at once: no approval permits it.
    let mut script = approved();
    script.answer(StepName::Resolve, user("OTHER", &[Field::Email]));
    script.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve));
    let mut script = approved();
    reads(&mut script, "ONE", &[], [dead, dead]);
    script.carry_intents();
    script.expect_call(StepName::RevokeCode);
}

#[test]
fn no_form_of_a_target_gets_a_destructive_call_before_its_approval() {
    for target in jobs::every_form() {
        let mut script = needed(target.clone());
        let mut asked = false;
        for _ in 0..20 {
            match script.next() {
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
                    script.write(Entry::Answered { target: 0, step, answer: Some(answer), at: script.now });
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

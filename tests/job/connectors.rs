//! Connectors: the part of a target, the flow's rules at their boundaries, and the parts of events. The enumerated
//! runs are with those of the other kinds.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::job::event::{self, About};
use erasure_worker::job::flow::{self, Next};
use erasure_worker::job::plan::{Act, Evidence, Expect, Lost};
use erasure_worker::job::receipt::claims;
use erasure_worker::job::record::Appended;
use erasure_worker::job::{
    Absence, Accepts, Answer, Draft, Entry, Fact, FailureKind, Found, Identity, InputKind, Job, JobOutcome, Means,
    Plan, Reading, Reason, Shows, Spec, Step, StepName, TargetEnd, TargetOutcome, draft,
};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::catalogue::connector::{accepts, all, by_person, delete, gone, in_two_steps, plan, target};
use crate::chance;
use crate::executor::Run;
use crate::jobs;
use crate::plan::Plan as Faults;
use crate::published::{frame, record};
use crate::script::{START, Script};

const ACT: StepName = StepName::ConnectorAct;
const LOOK: StepName = StepName::ConnectorReadBack;

fn parsed(target: Value, accepts: &Accepts) -> Result<Job, String> {
    let body = jobs::one(target).to_string();
    draft::job(body.as_bytes(), None, accepts).map_err(|refusal| refusal.invalid.to_string())
}

fn two_steps() -> Arc<Plan> {
    Arc::new(plan(in_two_steps()))
}

/// A script for a plan.
pub fn script(plan: &Arc<Plan>) -> Script {
    let accepts = accepts(plan);
    let rules = accepts.systems["helpdesk"].clone();
    Script { job: parsed(target(), &accepts).unwrap(), rules, ..Script::new(jobs::easycms()) }
}

fn says(plan: &Plan, means: Means) -> Answer {
    with_facts(plan, means, Vec::new())
}

fn with_facts(plan: &Plan, means: Means, facts: Vec<(u16, Fact)>) -> Answer {
    Answer::Connector(Reading { shape: plan.shape(), means, is_bare: false, facts })
}

fn bare(plan: &Plan, means: Means) -> Answer {
    Answer::Connector(Reading { shape: plan.shape(), means, is_bare: true, facts: Vec::new() })
}

const SAME: Means = Means::Found(Identity::Same);

fn absent() -> Means {
    Means::Gone(Absence::vouched())
}

#[test]
fn a_target_has_the_identifiers_and_proofs_of_the_plan_and_no_others() {
    let accepts = accepts(&two_steps());
    let whole = jobs::with(&target(), "/proofs", Some(json!({ "customer_password": "right" })));
    let job = parsed(whole.clone(), &accepts).unwrap();
    let Spec::Connector { identifiers, proofs } = &job.targets[0].spec else { panic!("of another kind") };
    let shown: Vec<_> = identifiers.iter().map(|(name, text)| (name.as_str(), text.expose_secret())).collect();
    assert_eq!(shown, [("email", "ann@example.com"), ("user_id", "7")]);
    assert_eq!(proofs["customer_password"].expose_secret(), "right");
    let digits = "expected a string of 1 to 32 digits, not all of them 0";
    for (pointer, value, expected) in [
        ("/subject", None, "targets[0].subject: is missing and required"),
        ("/subject", Some(json!("7")), "targets[0].subject: expected an object, found a string"),
        ("/subject", Some(json!({})), "targets[0].subject: names nobody; expected email, user_id"),
        (
            "/subject",
            Some(json!({ "email": "ann@example.com" })),
            "targets[0].subject.user_id: is missing and required",
        ),
        ("/subject/user_id", Some(json!(7)), "targets[0].subject.user_id: expected a string, found a number"),
        ("/subject/user_id", Some(json!("7a")), &format!("targets[0].subject.user_id: {digits}")),
        ("/subject/user_id", Some(json!("000")), &format!("targets[0].subject.user_id: {digits}")),
        (
            "/subject/user_id",
            Some(json!("NULL")),
            "targets[0].subject.user_id: is a word for nothing; expected the person's own identifier",
        ),
        (
            "/subject/email",
            Some(json!("ann")),
            "targets[0].subject.email: expected exactly one e-mail address, such as ann@example.com",
        ),
        (
            "/subject/guid",
            Some(json!("9DDB")),
            "targets[0].subject.guid: is not a field here; expected one of email, user_id",
        ),
        (
            "/subject/bea@example.org",
            Some(json!("1")),
            "targets[0].subject.<a field name of 15 bytes>: is not a field here; expected one of email, user_id",
        ),
        (
            "/proofs/code",
            Some(json!("1")),
            "targets[0].proofs.code: is not a field here; expected one of customer_password",
        ),
        (
            "/proofs/customer_password",
            Some(json!("")),
            "targets[0].proofs.customer_password: expected 1 to 8192 bytes of text",
        ),
        ("/email", Some(json!("a@example.com")), "targets[0].email: is not a field here; expected one of"),
    ] {
        let error = parsed(jobs::with(&whole, pointer, value), &accepts).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn the_identity_is_all_identifiers_in_the_order_of_their_names_and_no_proof() {
    let accepts = accepts(&two_steps());
    let bytes = |subject: Value, proofs: Value| {
        let target = json!({ "system": "helpdesk", "subject": subject, "proofs": proofs });
        parsed(target, &accepts).unwrap().identity_bytes().to_vec()
    };
    let one = bytes(json!({ "user_id": "7", "email": "ann@example.com" }), json!({}));
    let other = bytes(json!({ "email": "ann@example.com", "user_id": "7" }), json!({ "customer_password": "x" }));
    assert_eq!(one, other);
    let mut parts = Vec::new();
    let names = ["system", "helpdesk", "subject.email", "ann@example.com", "subject.user_id", "7"];
    for part in names {
        parts.extend_from_slice(&(part.len() as u64).to_be_bytes());
        parts.extend_from_slice(part.as_bytes());
    }
    assert_eq!(one, parts);
    assert_ne!(one, bytes(json!({ "user_id": "7" }), json!({})));
}

#[test]
fn a_job_that_was_accepted_is_read_with_any_plan_and_with_none() {
    let whole = jobs::one(target()).to_string();
    let job = draft::job(whole.as_bytes(), None, &accepts(&two_steps())).unwrap();
    let mut changed = plan(in_two_steps());
    changed.identifiers.remove("email");
    let other = accepts(&Arc::new(changed));
    let mut without = other.clone();
    without.systems.get_mut("helpdesk").unwrap().plan = None;
    for accepts in [other, without] {
        assert!(draft::job(whole.as_bytes(), None, &accepts).is_err());
        let read = draft::accepted_job(whole.as_bytes(), None, &accepts).unwrap();
        assert_eq!(read.identity_bytes(), job.identity_bytes());
    }
}

#[test]
fn sealed_proofs_of_a_connector_are_opened_where_they_stand() {
    let target = jobs::with(&target(), "/proofs", Some(json!({ "customer_password": "sealed" })));
    let mut draft = Draft::read(jobs::one(target).to_string().as_bytes(), None).unwrap();
    let mut paths = Vec::new();
    draft
        .open_proofs::<()>(|path, text| {
            paths.push((path.to_owned(), text.to_owned()));
            Ok(Some("right".to_owned().into()))
        })
        .unwrap();
    assert_eq!(paths, [("targets[0].proofs.customer_password".to_owned(), "sealed".to_owned())]);
    let job = draft.job(&accepts(&two_steps())).unwrap();
    let Spec::Connector { proofs, .. } = &job.targets[0].spec else { panic!("of another kind") };
    assert_eq!(proofs["customer_password"].expose_secret(), "right");
}

#[test]
fn an_absence_counts_only_at_an_address_at_which_something_was_seen_before() {
    let plan = Arc::new(plan(vec![delete(by_person(), gone())]));
    // The person's own read has shown the person.
    let mut seen = script(&plan);
    seen.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    seen.answer(LOOK, bare(&plan, absent())).expect_end(TargetEnd::well(TargetOutcome::Erased));

    // Another address: an absence there says nothing, unless that read shows the object first.
    let bin = || vec![Expect { read: 4, shows: vec![Shows::Gone] }];
    let within = Some(Duration::from_secs(100));
    let evidence = Evidence::Read { expect: bin(), first: Duration::ZERO, longest: None, within };
    let plan = Arc::new(crate::catalogue::connector::plan(vec![delete(by_person(), evidence)]));
    let mut unseen = script(&plan);
    unseen.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    for seconds in [30, 30, 60] {
        unseen.answer(LOOK, bare(&plan, absent()));
        assert!(matches!(unseen.next(), Next::Wait { .. }));
        unseen.pass(seconds);
    }
    unseen.answer(LOOK, bare(&plan, absent())).expect_end(TargetEnd::failed(Reason::Unproven, LOOK));

    let mut positive = script(&plan);
    positive.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    positive.answer(LOOK, says(&plan, absent())).expect_end(TargetEnd::well(TargetOutcome::Erased));

    let mut later = script(&plan);
    later.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    later.answer(LOOK, bare(&plan, absent())).pass(30).answer(LOOK, says(&plan, SAME)).pass(60);
    later.answer(LOOK, bare(&plan, absent())).expect_end(TargetEnd::well(TargetOutcome::Erased));
}

#[test]
fn evidence_is_read_from_first_on_at_growing_pauses_up_to_longest_and_until_within() {
    let expect = vec![Expect { read: 0, shows: vec![Shows::Gone] }];
    let seconds = Duration::from_secs;
    let (longest, within) = (Some(seconds(1_000)), Some(seconds(5_000)));
    let evidence = Evidence::Read { expect, first: seconds(60), longest, within };
    let plan = Arc::new(plan(vec![delete(by_person(), evidence)]));
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    let mut pauses = Vec::new();
    while let Next::Wait { until, .. } = script.next() {
        pauses.push(until.since(script.now).as_secs());
        script.now = until;
        script.answer(LOOK, says(&plan, Means::Pending));
    }
    assert_eq!(pauses, [60, 60, 120, 240, 480, 960, 1_000, 1_000, 1_000, 1_000]);
    script.expect_end(TargetEnd::failed(Reason::NotGone, LOOK));
}

#[test]
fn a_lost_answer_is_settled_as_the_plan_says() {
    let lost = |lost: Lost| {
        let plan = Arc::new(plan(vec![delete(lost, Evidence::Answer)]));
        let mut script = script(&plan);
        script.answer(StepName::Resolve, says(&plan, SAME));
        script.fail(ACT, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(2);
        (plan, script)
    };
    let (plan, mut script) = lost(Lost::Recognised);
    script.answer(ACT, says(&plan, Means::DoneBefore)).expect_end(TargetEnd::well(TargetOutcome::Erased));
    let (plan, mut script) = lost(Lost::Harmless);
    script.answer(ACT, says(&plan, Means::Done)).expect_end(TargetEnd::well(TargetOutcome::Erased));
    let (_, mut script) = lost(Lost::Unproven);
    script.expect_end(TargetEnd::failed(Reason::Unproven, ACT));
    // A read-back shows it: that is a proof too.
    let (plan, mut script) = lost(by_person());
    script.answer(LOOK, bare(&plan, absent())).expect_end(TargetEnd::well(TargetOutcome::Erased));
    // Still there at once, and again half a minute after the call: then the call is repeated.
    let (plan, mut script) = lost(by_person());
    script.answer(LOOK, says(&plan, SAME));
    assert!(matches!(script.next(), Next::Wait { why: flow::Why::Pending, .. }));
    script.pass(28).answer(LOOK, says(&plan, SAME));
    script.answer(ACT, says(&plan, Means::Done)).expect_end(TargetEnd::well(TargetOutcome::Erased));
    // It is being worked on, and the evidence is the answer that was lost: no read proves it.
    let (plan, mut script) = lost(by_person());
    let end = loop {
        match script.next() {
            Next::End(end) => break end,
            Next::Wait { .. } => drop(script.pass(60)),
            Next::Call(step) => assert_eq!(step.name, LOOK),
            other => panic!("{other:?}"),
        }
        if matches!(script.next(), Next::Call(_)) {
            script.answer(LOOK, says(&plan, Means::Pending));
        }
    };
    assert_eq!(end, TargetEnd::failed(Reason::Unproven, LOOK));
    // It is being worked on: it is not repeated, and nothing proves it yet.
    let (plan, mut script) = lost(Lost::Read(vec![Expect { read: 5, shows: vec![Shows::Done] }]));
    script.expect_end(TargetEnd::failed(Reason::Unproven, LOOK));
    assert!(plan.reads[5].needs == [1], "the read needs a fact that was lost with the answer");
}

#[test]
fn an_accepted_call_is_no_evidence_where_the_answer_must_be() {
    let plan = Arc::new(plan(vec![delete(by_person(), Evidence::Answer)]));
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    script.expect_end(TargetEnd::failed(Reason::Unproven, ACT));
}

#[test]
fn reads_that_are_none_show_nothing() {
    let none = Evidence::Read { expect: Vec::new(), first: Duration::ZERO, longest: None, within: None };
    let plan = Arc::new(plan(vec![delete(Lost::Read(Vec::new()), none)]));
    let mut done = script(&plan);
    done.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Done));
    done.expect_end(TargetEnd::failed(Reason::Unproven, ACT));
    let mut lost = script(&plan);
    lost.answer(StepName::Resolve, says(&plan, SAME));
    lost.fail(ACT, FailureKind::Ambiguous, Reason::SystemUnavailable);
    lost.pass(3600).expect_end(TargetEnd::failed(Reason::Unproven, ACT));
}

#[test]
fn an_effect_that_was_there_before_any_call_ends_as_absent() {
    let plan = Arc::new(plan(vec![delete(Lost::Recognised, Evidence::Answer)]));
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::DoneBefore));
    script.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

#[test]
fn another_plan_reads_anew_before_the_first_act_and_ends_as_unproven_after_it() {
    let change = |change: fn(&mut Plan)| {
        let mut changed = plan(in_two_steps());
        change(&mut changed);
        Arc::new(changed)
    };
    reads_anew(&change(|plan| plan.acts[0].name = "archive".to_owned()));
    // A file with other conditions, and another region: an absence there says nothing about what was seen here.
    reads_anew(&change(|plan| plan.connector = "helpdesk@89abcdef".to_owned()));
    reads_anew(&change(|plan| plan.installation = "https://eu.helpdesk.example.com".to_owned()));
}

fn reads_anew(renamed: &Arc<Plan>) {
    let old = two_steps();
    let mut untouched = script(&old);
    untouched.answer(StepName::Resolve, says(&old, SAME));
    untouched.rules.plan = Some(Arc::clone(renamed));
    untouched.answer(StepName::Resolve, says(renamed, SAME));
    untouched.carry_intents();
    untouched.expect_call(ACT);

    let mut touched = script(&old);
    touched.answer(StepName::Resolve, says(&old, SAME)).answer(ACT, says(&old, Means::Accepted));
    touched.rules.plan = Some(Arc::clone(renamed));
    touched.expect_end(TargetEnd::failed(Reason::Unproven, ACT));
    touched.restart();
    touched.expect_end(TargetEnd::failed(Reason::Unproven, ACT));
}

fn list_plan() -> Arc<Plan> {
    let each = Act { each: Some(0), needs: vec![0], reads: vec![1], ..delete(Lost::Recognised, Evidence::Answer) };
    Arc::new(plan(vec![each]))
}

fn list(plan: &Plan, ids: &[&str]) -> Answer {
    with_facts(plan, SAME, vec![(0, Fact::List(ids.iter().map(|id| (*id).to_owned()).collect()))])
}

#[test]
fn a_member_of_a_list_keeps_its_place_when_the_list_is_read_again() {
    let plan = list_plan();
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME));
    script.answer(StepName::ConnectorRead, list(&plan, &["a", "b", "a"]));
    script.answer(ACT, says(&plan, Means::Done)).pass(3600);
    script.answer(StepName::Resolve, says(&plan, SAME));
    script.answer(StepName::ConnectorRead, list(&plan, &["c", "b", "c"]));
    assert_eq!(script.state.findings.list(0).unwrap(), ["a", "b", "c"]);
    for member in 1..3 {
        script.carry_intents();
        assert_eq!(script.expect_call(ACT), Step::of_connector(ACT, 0, member));
        script.answer(ACT, says(&plan, Means::Done));
    }
    script.expect_end(TargetEnd::well(TargetOutcome::Erased));
    let numbers: Vec<_> = script.state.numbered(ACT).into_iter().map(|(step, _)| step.member()).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_list_that_grew_since_the_approval_needs_another_one() {
    let plan = list_plan();
    let mut script = script(&plan);
    script.write(Entry::ApprovalNeeded { by: "ann".to_owned(), at: START });
    script.answer(StepName::Resolve, says(&plan, SAME));
    script.answer(StepName::ConnectorRead, list(&plan, &["a", "b"]));
    script.expect_ask(InputKind::Approval);
    script.write(Entry::Approved { by: "bob".to_owned(), at: START });
    script.answer(StepName::Resolve, says(&plan, SAME));
    script.answer(StepName::ConnectorRead, list(&plan, &["a", "b", "c"]));
    script.expect_ask(InputKind::Approval);
    script.write(Entry::Approved { by: "bob".to_owned(), at: START });
    script.answer(StepName::Resolve, says(&plan, SAME));
    script.answer(StepName::ConnectorRead, list(&plan, &["b"]));
    script.carry_intents();
    script.expect_call(ACT);
}

#[test]
fn findings_without_a_connector_keep_their_bytes() {
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, Answer::Found(Identity::Same));
    assert_eq!(Found::of(&script.state).to_bytes(), [1, 1, 1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_reading_is_private_and_has_its_place_at_the_end_of_the_stored_forms() {
    let facts = vec![(1, Fact::Text("t".to_owned())), (0, Fact::List(vec!["a".to_owned()]))];
    let answer = Answer::Connector(Reading { shape: 1, means: Means::Accepted, is_bare: true, facts });
    assert!(answer.is_private());
    assert_eq!(Answer::from_bytes(&answer.to_bytes()).unwrap(), answer);
    assert_eq!(answer.to_bytes(), [1, 12, 1, 6, 1, 2, 1, 0, 1, b't', 0, 2, 1, 1, b'a']);
    let step = Step::of_connector(StepName::ConnectorReadBack, 2, 3);
    assert_eq!((step.item, step.place(), step.member()), (20_003, 2, 3));
    let entry = Entry::Intent { target: 0, step, at: START };
    let bytes = Appended { entries: vec![entry], sealed: Vec::new() }.to_bytes();
    assert_eq!(bytes[..4], [1, 1, 0, 0]);
    assert_eq!(bytes[4], 18, "the name of the step");
    assert!(!format!("{:?}", Fact::Text("ann@example.com".to_owned())).contains("ann"));
    let gone = Answer::Connector(Reading { shape: 1, means: absent(), is_bare: true, facts: Vec::new() });
    let mut unvouched = gone.to_bytes();
    assert_eq!(unvouched, [1, 12, 1, 1, 1, 1, 0]);
    unvouched[4] = 0;
    assert_eq!(Answer::from_bytes(&unvouched).unwrap().believed(), Answer::Unclear(Reason::Unproven));
}

/// The target of the final event of a scenario of the catalogue, and the same target in the receipt.
fn told(name: &str) -> (Value, Value) {
    let (scenario, _) = all().into_iter().find(|(scenario, _)| scenario.name == name).unwrap();
    let mut run = Run::new(&scenario, Faults::none());
    let end = run.finish().unwrap();
    let outcome = match end.outcome {
        TargetOutcome::Previewed => JobOutcome::Previewed,
        outcome if outcome.is_erased() => JobOutcome::Completed,
        _ => JobOutcome::Failed,
    };
    let (record, targets, rules) = (record(&run, (1, 1)), [run.state.clone()], [&scenario.rules]);
    let about = About { job: &run.job, record: &record, targets: &targets, rules: &rules };
    let event = about.ended(&frame(), outcome).event;
    let text = String::from_utf8(event.body.clone()).unwrap();
    assert!(!text.contains("ann@") && !text.contains("task-") && !text.contains("\"s0\""), "{text}");
    let event: Value = serde_json::from_slice(&event.body).unwrap();
    let claims = claims::of(event["data"].as_object().unwrap());
    (event["data"]["targets"][0].clone(), claims["targets"][0].clone())
}

#[test]
fn an_event_names_the_connector_and_says_if_the_evidence_is_a_promise() {
    let (erased, certified) = told("two acts and a list");
    let of = |claims: &Value| (claims["connector"].clone(), claims["declared"].clone());
    assert_eq!(of(&certified), (json!("helpdesk@0123abcd"), json!(false)));
    assert_eq!((&erased["kind"], &erased["connector"]), (&json!("connector"), &json!("helpdesk@0123abcd")));
    assert_eq!((&erased["outcome"], &erased["identity"]), (&json!("erased"), &json!("checked")));
    assert_eq!(erased["preserved"], json!(["invoices"]));
    assert!(erased.get("evidence").is_none() && erased.get("promises").is_none());
    let steps = |target: &Value| -> Vec<Value> {
        let steps = target["steps"].as_array().unwrap().iter();
        steps.map(|step| json!([step["step"], step["outcome"], step["count"]])).collect()
    };
    assert_eq!(steps(&erased), [json!(["connector_act", "erased", 4]), json!(["connector_read_back", "erased", 2])]);

    let (declared, certified) = told("a deletion by promise");
    assert_eq!(of(&certified), (json!("helpdesk@0123abcd"), json!(true)));
    assert_eq!((&declared["outcome"], &declared["evidence"]), (&json!("erased"), &json!("declared")));
    assert_eq!(declared["promises"], json!(["within 90 days"]));

    let (failed, _) = told("a purge that shows never");
    assert_eq!(
        (&failed["error"]["reason"], &failed["error"]["step"]),
        (&json!("not_gone"), &json!("connector_read_back"))
    );
    assert_eq!(failed["preserved"], json!([]));
    assert_eq!(told("a task, and nobody to compare").0["identity"], "unchecked");
    assert_eq!(told("nobody").0["identity"], "nobody");
    let (preview, _) = told("a preview of a person");
    assert_eq!(preview["preview"]["found"], true);
    let acts = json!([
        { "act": "end_session", "count": 2 }, { "act": "soft_delete", "count": 1 }, { "act": "purge", "count": 1 },
    ]);
    assert_eq!(preview["preview"]["acts"], acts);
}

#[test]
fn an_accepted_call_without_an_effect_makes_a_failed_job_partial() {
    let plan = two_steps();
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME));
    assert!(!event::changed(&script.state));
    script.answer(ACT, says(&plan, Means::Accepted));
    assert!(event::changed(&script.state));
}

proptest! {
    #[test]
    fn a_random_scenario_with_random_faults_is_never_falsely_reported_as_erased(
        number in any::<prop::sample::Index>(), plan in chance::plan(), crash in chance::crash(),
    ) {
        let (scenario, _) = all().swap_remove(number.index(all().len()));
        chance::check(&scenario, plan, crash)?;
    }
}

//! The world changes while a job waits: every scenario, each of its waits, every change.
//!
//! The rule it keeps: no case is random. The cases are complete, and their number is printed. A wait of a minute or
//! more may bring any change; a shorter wait only changes that a read-back must show.

use std::time::Duration;

use erasure_worker::job::flow::Next;
use erasure_worker::job::{
    Absence, Answer, CodeState, Entry, Field, Identity, InputKind, Job, Reason, StepName, TargetEnd, TargetOutcome,
};
use serde_json::json;

use crate::catalogue;
use crate::executor::Run;
use crate::jobs;
use crate::plan::{Fault, Plan};
use crate::scenario::{Reply, Scenario, limits};
use crate::script::{START, Script};
use crate::world::World;
use crate::world::vitalsource::VitalSource;

/// Reasons for a wait at a call: a pause before the next attempt, a limit, a hold, a lost answer, a refused proof.
const WAITS: [Fault; 5] = [Fault::Unavailable, Fault::Limited, Fault::Ours, Fault::Lost, Fault::Theirs];
/// Later calls and waits give no new case.
const CALLS: usize = 12;
const MOST_WAITS: usize = 14;

#[derive(Default)]
struct Tally {
    runs: usize,
    changed: usize,
    replays: usize,
    violations: Vec<String>,
}

impl Tally {
    /// Runs the scenario. A failed run is replayed once.
    fn run<'a>(&mut self, scenario: &'a Scenario, plan: Plan) -> Run<'a> {
        let mut run = Run::new(scenario, plan);
        self.runs += 1;
        match run.finish() {
            Ok(end) if !end.outcome.is_erased() => {
                self.replays += 1;
                if let Err(violation) = run.replay(None) {
                    self.violations.push(violation);
                }
            }
            Ok(_) => {}
            Err(violation) => self.violations.push(violation),
        }
        self.changed += usize::from(run.is_changed);
        run
    }
}

/// A user by the reference alone. The reference may later lead to another user.
fn by_reference(name: &'static str, codes: usize, fields: &[Field]) -> Scenario {
    let listed: Vec<_> = (0..codes).map(|n| json!({ "code": format!("C{n}") })).collect();
    let target = json!({ "system": "vitalsource", "reference": "shop-77", "codes": listed });
    let world = VitalSource::with(codes).but(|world| world.fields = fields.to_vec());
    Scenario::new(name, target, world)
}

fn operator_approves(job: &mut Job, kind: InputKind, times: u32, world: &dyn World) -> Reply {
    if kind == InputKind::Approval && times < 6 {
        return Reply::Approve(120);
    }
    catalogue::confirms(job, kind, times, world)
}

fn scenarios() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = catalogue::all().into_iter().map(|(scenario, _)| scenario).collect();
    // If the identifiers name two persons, no destructive call is made whatever changes.
    all.retain(|scenario| !scenario.is_mismatch);
    let known = || {
        vec![by_reference("a reference", 0, &[Field::Email]), by_reference("a reference and codes", 2, &[Field::Email])]
    };
    all.extend(known().into_iter().map(|scenario| scenario.person(catalogue::confirms)));
    all.push(by_reference("a reference and nothing else", 1, &[Field::Reference]).person(catalogue::confirms));
    all.extend(known().into_iter().map(|scenario| scenario.person(operator_approves).approval()));
    let approved = |name, target, world: Box<dyn World>| {
        let mut scenario = Scenario::new(name, target, VitalSource::with(0)).person(operator_approves).approval();
        scenario.world = world;
        scenario
    };
    use crate::world::{cleeng::Cleeng, easycms::EasyCms, zeta::Zeta};
    all.push(approved("an approved customer", jobs::cleeng(), Box::new(Cleeng::with(2))));
    let shared = Cleeng::with(0).but(|world| world.shared = true);
    all.push(approved("an approved shared customer", jobs::cleeng(), Box::new(shared)));
    let password = jobs::with(&jobs::easycms(), "/customer_password", Some("right".into()));
    all.push(approved("an approved account", password, Box::new(EasyCms::account())));
    all.push(approved("an approved member", jobs::program(), Box::new(Zeta::member())));
    all
}

#[test]
fn changes_during_a_wait_cause_no_false_completion_and_no_harm_to_another_person() {
    let mut tally = Tally::default();
    let mut waits = 0;
    for scenario in scenarios() {
        let calls = tally.run(&scenario, Plan::none()).calls.min(CALLS);
        let faulty = (0..calls).flat_map(|call| WAITS.map(|fault| Plan::none().fault(call, fault)));
        let twice = (0..calls).map(|call| Plan::none().fault(call, Fault::Lost).fault(call + 1, Fault::Limited));
        let undone = (0..calls).map(|call| Plan::none().fault(call, Fault::LostUndone).fault(call + 1, Fault::Limited));
        for plan in std::iter::once(Plan::none()).chain(faulty).chain(twice).chain(undone) {
            let seen = tally.run(&scenario, plan.clone()).waits;
            waits += seen.len().min(MOST_WAITS);
            for (wait, changes) in seen.into_iter().take(MOST_WAITS).enumerate() {
                for changed in changes {
                    tally.run(&scenario, plan.clone().change(wait, changed));
                }
            }
        }
    }
    let Tally { runs, changed, replays, violations } = tally;
    eprintln!("changes in waits: {waits} waits, {runs} runs, {changed} with a change, {replays} replayed");
    let count = violations.len();
    assert!(changed > 20_000, "{changed}");
    assert!(count == 0, "{count} violations, the first:\n{}", violations[..count.min(3)].join("\n\n"));
}

/// A user whose only field was overwritten, according to the system's answer.
fn overwritten() -> Script {
    let mut script = Script::new(json!({
        "system": "vitalsource", "guid": "G-1", "confirmation": { "confirmed_at": "2026-11-22T09:58:00Z" },
    }));
    script.answer(StepName::Resolve, user("G-1", &[Field::Email]));
    script.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
    script.answer(StepName::OverwriteUser, Answer::Done);
    script
}

/// Waits and reads until another call or the end, and returns the pauses. Each read shows the person's own values.
fn reads(script: &mut Script) -> Vec<Duration> {
    let mut pauses = Vec::new();
    loop {
        match script.next() {
            Next::Call(step) if step.name == StepName::ReadBack => {
                script.answer(StepName::ReadBack, Answer::Values { stand: false });
            }
            Next::Call(step) if step.name == StepName::CheckLicenses => {
                script.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
            }
            Next::Wait { until, .. } => {
                pauses.push(until.since(script.now));
                script.now = until;
            }
            Next::Settle { .. } => script.carry_intents(),
            _ => return pauses,
        }
    }
}

#[test]
fn an_overwrite_without_an_effect_is_repeated_three_times_after_three_reads_each_and_then_only_read_back() {
    let mut script = overwritten();
    for _ in 0..3 {
        let pauses = reads(&mut script);
        assert_eq!(pauses, [30, 30].map(Duration::from_secs));
        script.answer(StepName::OverwriteUser, Answer::Done);
    }
    let last = script.now;
    let pauses = reads(&mut script);
    assert!(pauses.is_sorted() && pauses.last() == Some(&limits().max_interval), "{pauses:?}");
    assert!(script.now.since(last) < limits().pending_max + limits().max_interval);
    script.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
    // A replay makes a new attempt.
    script.new_run();
    script.answer(StepName::ReadBack, Answer::Values { stand: false });
    reads(&mut script);
    script.answer(StepName::OverwriteUser, Answer::Done).answer(StepName::ReadBack, Answer::Values { stand: true });
    script.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

fn user(guid: &str, fields: &[Field]) -> Answer {
    Answer::User { identity: Identity::Same, guid: guid.to_owned(), email: None, fields: fields.to_vec() }
}

/// A user by the reference, read and asked for a confirmation, which comes after an hour.
fn confirmed_late(fields: &[Field], state: CodeState) -> Script {
    let mut script =
        Script::new(json!({ "system": "vitalsource", "reference": "shop-77", "codes": [{ "code": "A1" }] }));
    let code = Answer::Code { state, owner: Identity::Same };
    script.answer(StepName::Resolve, user("G-1", fields)).answer(StepName::ReadCode, code);
    script.expect_ask(InputKind::Confirmation);
    catalogue::confirms(&mut script.job, InputKind::Confirmation, 1, &VitalSource::with(0));
    script.pass(3600).continued();
    script
}

#[test]
fn fields_filled_in_during_the_wait_for_a_confirmation_are_overwritten() {
    let mut script = confirmed_late(&[Field::Email], CodeState::Active);
    script.answer(StepName::Resolve, user("G-1", &[Field::FirstName, Field::Email]));
    script.answer(StepName::ReadCode, Answer::Code { state: CodeState::Active, owner: Identity::Same });
    script.answer(StepName::RevokeCode, Answer::Done);
    script.answer(StepName::ReadBackCode, Answer::Code { state: CodeState::Cancelled, owner: Identity::Same });
    script.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
    script.answer(StepName::OverwriteUser, Answer::Done);
    // A field was filled in between the last read and the overwrite: only the read-back shows it.
    script.answer(StepName::ReadBack, Answer::Left { fields: vec![Field::LastName] });
    script.answer(StepName::OverwriteUser, Answer::Done);
    script.answer(StepName::ReadBack, Answer::Values { stand: true });
    script.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn after_a_wait_a_reference_to_another_user_or_to_none_although_the_first_exists_is_a_mismatch() {
    let mismatch = || TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve);
    let mut script = confirmed_late(&[Field::Email], CodeState::Cancelled);
    script.answer(StepName::Resolve, user("G-2", &[Field::Email])).expect_end(mismatch());
    let mut script = confirmed_late(&[Field::Email], CodeState::Cancelled);
    script.answer(StepName::Resolve, Answer::Missing(Absence::vouched()));
    script.answer(StepName::ReadBack, Answer::Values { stand: false }).expect_end(mismatch());
    let mut script = confirmed_late(&[Field::Email], CodeState::Cancelled);
    script.answer(StepName::Resolve, Answer::Missing(Absence::vouched()));
    script.answer(StepName::ReadBack, Answer::Missing(Absence::vouched()));
    script.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

#[test]
fn a_shared_customer_whose_email_changes_at_any_time_is_never_reported_absent() {
    let other = || Answer::Found(Identity::Other);
    let read = || {
        let mut script = Script::new(jobs::cleeng());
        script.answer(StepName::Resolve, Answer::Found(Identity::Same));
        script.answer(StepName::ListEntitlements, Answer::Entitlements(Vec::new()));
        script
    };
    // Before the deletion: the customer is read again.
    let mut script = read();
    script.pass(60).answer(StepName::Resolve, other());
    script.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve));
    // After the deletion: the system has answered that it did nothing.
    let mut script = read();
    script
        .answer(StepName::DeleteCustomer, Answer::Unclear(Reason::SharedCustomer))
        .answer(StepName::ReadBack, other());
    script.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::ReadBack));
}

#[test]
fn a_read_is_valid_for_a_minute_and_repeated_after_a_continuation_approval_or_replay() {
    let found = || Answer::Found(Identity::Same);
    for (seconds, again) in [(59, false), (60, true)] {
        let mut script = Script::new(jobs::easycms());
        script.answer(StepName::Resolve, found()).pass(seconds);
        assert_eq!(matches!(script.next(), Next::Call(step) if step.name == StepName::Resolve), again, "{seconds}");
    }
    let at = START;
    for (what, entry) in [
        ("continued", Entry::Continued { at }),
        ("offered again", Entry::OfferedAgain { at }),
        ("approved", Entry::Approved { by: "bob".to_owned(), at }),
        ("a new run", Entry::NewRun { at }),
    ] {
        let mut script = Script::new(jobs::easycms());
        script.answer(StepName::Resolve, found());
        script.write(entry);
        assert!(matches!(script.next(), Next::Call(step) if step.name == StepName::Resolve), "{what}");
    }
    // A hold or a pause of any length.
    let mut script = Script::new(jobs::easycms());
    script.answer(StepName::Resolve, found());
    script.state.forget_first_reads();
    script.expect_call(StepName::Resolve);
}

#[test]
fn a_job_whose_every_call_waits_for_minutes_still_ends() {
    let mut script = Script::new(jobs::easycms());
    let mut reads = 0;
    loop {
        script.carry_intents();
        match script.next() {
            Next::Call(step) if step.name == StepName::Resolve => {
                reads += 1;
                script.answer(StepName::Resolve, Answer::Found(Identity::Same)).now =
                    script.now.plus(Duration::from_secs(600));
            }
            Next::Call(step) => break assert_eq!(step.name, StepName::DeleteAccount),
            other => panic!("{other:?}"),
        }
        assert!(reads < 20, "endless reads");
    }
    assert_eq!(reads, 5);
}

//! The world changes while a job waits: every scenario, every wait of it, every change.
//!
//! The rule it keeps: nothing is drawn; the cases are all there are, and their number is told. A wait of
//! a minute or more may change anything; a shorter one what a read-back must show.

use std::time::Duration;

use erasure_worker::job::flow::Next;
use erasure_worker::job::{
    Absence, Answer, CodeState, Entry, Field, Identity, InputKind, Job, Reason, StepName, TargetEnd, TargetOutcome,
};
use serde_json::json;

use crate::catalogue;
use crate::executor::Run;
use crate::hand::{Hand, START};
use crate::jobs;
use crate::plan::{Fault, Plan};
use crate::scenario::{Reply, Scenario, limits};
use crate::world::World;
use crate::world::vitalsource::VitalSource;

/// What makes a job wait at a call: a pause before the next attempt, a limit, a hold, a lost answer, a
/// refused proof.
const WAITS: [Fault; 5] = [Fault::Unavailable, Fault::Limited, Fault::Ours, Fault::Lost, Fault::Theirs];
/// Later calls and waits repeat what was before.
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
    /// Runs, and where the run failed opens it once more.
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

/// A user by the reference alone, which can come to lead to another one.
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
    // Whose identifiers name two persons is not acted on whatever changes.
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
fn whatever_changes_while_a_job_waits_nobody_is_called_gone_who_is_there_and_nobody_else_is_touched() {
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

/// A user whose only field was overwritten, as the system says.
fn overwritten() -> Hand {
    let mut hand = Hand::new(json!({
        "system": "vitalsource", "guid": "G-1", "confirmation": { "confirmed_at": "2026-11-22T09:58:00Z" },
    }));
    hand.answer(StepName::Resolve, user("G-1", &[Field::Email]));
    hand.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
    hand.answer(StepName::OverwriteUser, Answer::Done);
    hand
}

/// Goes on in waits and reads, each read showing the person's own values, until another call or the end; what
/// pauses there were.
fn looks(hand: &mut Hand) -> Vec<Duration> {
    let mut pauses = Vec::new();
    loop {
        match hand.next() {
            Next::Call(step) if step.name == StepName::ReadBack => {
                hand.answer(StepName::ReadBack, Answer::Values { stand: false });
            }
            Next::Call(step) if step.name == StepName::CheckLicenses => {
                hand.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
            }
            Next::Wait { until, .. } => {
                pauses.push(until.since(hand.now));
                hand.now = until;
            }
            Next::Settle { .. } => hand.carry_intents(),
            _ => return pauses,
        }
    }
}

#[test]
fn an_overwrite_that_did_not_take_is_made_again_three_times_after_three_looks_each_and_then_only_looked_for() {
    let mut hand = overwritten();
    for _ in 0..3 {
        let pauses = looks(&mut hand);
        assert_eq!(pauses, [30, 30].map(Duration::from_secs));
        hand.answer(StepName::OverwriteUser, Answer::Done);
    }
    let last = hand.now;
    let pauses = looks(&mut hand);
    assert!(pauses.is_sorted() && pauses.last() == Some(&limits().max_interval), "{pauses:?}");
    assert!(hand.now.since(last) < limits().pending_max + limits().max_interval);
    hand.expect_end(TargetEnd::failed(Reason::NotGone, StepName::ReadBack));
    // Whoever replays it asks for a new attempt.
    hand.new_run();
    hand.answer(StepName::ReadBack, Answer::Values { stand: false });
    looks(&mut hand);
    hand.answer(StepName::OverwriteUser, Answer::Done).answer(StepName::ReadBack, Answer::Values { stand: true });
    hand.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

fn user(guid: &str, fields: &[Field]) -> Answer {
    Answer::User { identity: Identity::Same, guid: guid.to_owned(), email: None, fields: fields.to_vec() }
}

/// A user by the reference, read and asked for a confirmation; it comes after an hour.
fn confirmed_late(fields: &[Field], state: CodeState) -> Hand {
    let mut hand = Hand::new(json!({ "system": "vitalsource", "reference": "shop-77", "codes": [{ "code": "A1" }] }));
    let code = Answer::Code { state, owner: Identity::Same };
    hand.answer(StepName::Resolve, user("G-1", fields)).answer(StepName::ReadCode, code);
    hand.expect_ask(InputKind::Confirmation);
    catalogue::confirms(&mut hand.job, InputKind::Confirmation, 1, &VitalSource::with(0));
    hand.pass(3600).continued();
    hand
}

#[test]
fn names_that_were_empty_and_are_filled_in_before_the_confirmation_comes_are_overwritten() {
    let mut hand = confirmed_late(&[Field::Email], CodeState::Active);
    hand.answer(StepName::Resolve, user("G-1", &[Field::FirstName, Field::Email]));
    hand.answer(StepName::ReadCode, Answer::Code { state: CodeState::Active, owner: Identity::Same });
    hand.answer(StepName::RevokeCode, Answer::Done);
    hand.answer(StepName::ReadBackCode, Answer::Code { state: CodeState::Cancelled, owner: Identity::Same });
    hand.answer(StepName::CheckLicenses, Answer::Licenses { unexpired: 0 });
    hand.answer(StepName::OverwriteUser, Answer::Done);
    // One more was filled in between the last read and the overwrite: only the read-back shows it.
    hand.answer(StepName::ReadBack, Answer::Left { fields: vec![Field::LastName] });
    hand.answer(StepName::OverwriteUser, Answer::Done);
    hand.answer(StepName::ReadBack, Answer::Values { stand: true });
    hand.expect_end(TargetEnd::well(TargetOutcome::Anonymised));
}

#[test]
fn a_reference_that_leads_to_another_user_after_a_wait_or_to_nobody_while_the_first_is_there_is_a_mismatch() {
    let mismatch = || TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve);
    let mut hand = confirmed_late(&[Field::Email], CodeState::Cancelled);
    hand.answer(StepName::Resolve, user("G-2", &[Field::Email])).expect_end(mismatch());
    let mut hand = confirmed_late(&[Field::Email], CodeState::Cancelled);
    hand.answer(StepName::Resolve, Answer::Missing(Absence::vouched()));
    hand.answer(StepName::ReadBack, Answer::Values { stand: false }).expect_end(mismatch());
    let mut hand = confirmed_late(&[Field::Email], CodeState::Cancelled);
    hand.answer(StepName::Resolve, Answer::Missing(Absence::vouched()));
    hand.answer(StepName::ReadBack, Answer::Missing(Absence::vouched()));
    hand.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

#[test]
fn a_shared_customer_whose_email_changes_at_any_moment_is_never_absent() {
    let other = || Answer::Found(Identity::Other);
    let read = || {
        let mut hand = Hand::new(jobs::cleeng());
        hand.answer(StepName::Resolve, Answer::Found(Identity::Same));
        hand.answer(StepName::ListEntitlements, Answer::Entitlements(Vec::new()));
        hand
    };
    // Before the delete: it is read again.
    let mut hand = read();
    hand.pass(60).answer(StepName::Resolve, other());
    hand.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::Resolve));
    // After it: the system has said that it did nothing.
    let mut hand = read();
    hand.answer(StepName::DeleteCustomer, Answer::Unclear(Reason::SharedCustomer)).answer(StepName::ReadBack, other());
    hand.expect_end(TargetEnd::refused(Reason::IdentityMismatch, StepName::ReadBack));
}

#[test]
fn what_was_read_is_acted_on_for_a_minute_and_read_again_after_each_continuation_approval_and_replay() {
    let found = || Answer::Found(Identity::Same);
    for (seconds, again) in [(59, false), (60, true)] {
        let mut hand = Hand::new(jobs::easycms());
        hand.answer(StepName::Resolve, found()).pass(seconds);
        assert_eq!(matches!(hand.next(), Next::Call(step) if step.name == StepName::Resolve), again, "{seconds}");
    }
    let at = START;
    for (what, entry) in [
        ("continued", Entry::Continued { at }),
        ("offered again", Entry::OfferedAgain { at }),
        ("approved", Entry::Approved { by: "bob".to_owned(), at }),
        ("a new run", Entry::NewRun { at }),
    ] {
        let mut hand = Hand::new(jobs::easycms());
        hand.answer(StepName::Resolve, found());
        hand.write(entry);
        assert!(matches!(hand.next(), Next::Call(step) if step.name == StepName::Resolve), "{what}");
    }
    // A hold or a pause, of whatever length.
    let mut hand = Hand::new(jobs::easycms());
    hand.answer(StepName::Resolve, found());
    hand.state.forget_first_reads();
    hand.expect_call(StepName::Resolve);
}

#[test]
fn a_job_whose_every_call_takes_minutes_to_be_let_through_still_comes_to_its_end() {
    let mut hand = Hand::new(jobs::easycms());
    let mut reads = 0;
    loop {
        hand.carry_intents();
        match hand.next() {
            Next::Call(step) if step.name == StepName::Resolve => {
                reads += 1;
                hand.answer(StepName::Resolve, Answer::Found(Identity::Same)).now =
                    hand.now.plus(Duration::from_secs(600));
            }
            Next::Call(step) => break assert_eq!(step.name, StepName::DeleteAccount),
            other => panic!("{other:?}"),
        }
        assert!(reads < 20, "it reads for ever");
    }
    assert_eq!(reads, 5);
}

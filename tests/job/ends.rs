//! Every wait: how its pauses grow, and what ends it.
//!
//! The rule it keeps: without an entry here a new reason to wait does not compile. The flows' pauses are measured in
//! every run that the executor makes.

use std::collections::BTreeSet;
use std::time::Duration;

use erasure_worker::job::flow::{Next, Why};
use erasure_worker::job::wait::Waiting;
use erasure_worker::job::{
    Absence, Answer, Entry, FailureKind, Identity, InputKind, Reason, StepName, TargetEnd, TargetOutcome,
};
use serde_json::json;

use crate::catalogue;
use crate::executor::{Rest, Run};
use crate::plan::{Fault, Plan};
use crate::script::Script;

/// The part that decides a wait's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A flow. It is measured here.
    Flow,
    /// The engine.
    Engine,
}

/// A wait: the part that decides it, how its pauses grow (or why they need not), and what ends it.
const fn account(why: Waiting) -> (By, &'static str, &'static str) {
    match why {
        Waiting::Retry => (By::Flow, "grows to `retry.max_interval`", "`retry.max_attempts`, `retry.max_elapsed`"),
        Waiting::Pending => (By::Flow, "grows to `retry.max_interval`", "`waits.pending_max`"),
        Waiting::Input => (By::Flow, "as long as it has waited, an hour at most", "`waits.input_max`"),
        Waiting::RateLimit => (By::Engine, "its place in the line", "its turn"),
        Waiting::Held => {
            (By::Engine, "as long as the hold lasts, a quarter of an hour at most", "a harmless read that works")
        }
        Waiting::Renewal => (By::Engine, "none: it returns at once", "its return"),
        Waiting::Paused => (By::Engine, "as long as the pause lasts, a quarter of an hour at most", "an operator"),
        Waiting::Guard => {
            (By::Engine, "a quarter of an hour, the longest within which a release takes effect", "an operator")
        }
    }
}

#[test]
fn the_table_of_waits_in_the_docs_states_the_pauses_and_the_end_of_every_wait() {
    let page = include_str!("../../docs/architecture.md");
    let (_, table) = page.split_once("| wait | pauses | ends by |\n").expect("a table of waits");
    let rows: BTreeSet<&str> = table.lines().take_while(|line| line.starts_with('|')).skip(1).collect();
    let row = |why: Waiting| {
        let (_, pauses, ends) = account(why);
        format!("| `{}` | {pauses} | {ends} |", why.as_str())
    };
    let expected: Vec<String> = Waiting::ALL.map(row).into();
    assert_eq!(rows, expected.iter().map(String::as_str).collect());
}

/// The step that two pauses wait for: the only call between them.
fn between(made: &[StepName], before: &Rest, after: &Rest) -> Option<StepName> {
    match made.get(before.calls..after.calls) {
        Some([step]) => Some(*step),
        _ => None,
    }
}

/// The fault in the pauses of a run, if there is one.
pub fn of(run: &Run<'_>) -> Option<String> {
    let (rules, limits) = (&run.scenario.rules, &run.scenario.limits);
    let longest = limits.max_interval.max(rules.verify_interval);
    let pause = |rest: &Rest| rest.until.since(rest.from);
    let pending: Vec<&Rest> = run.rests.iter().filter(|rest| rest.why == Why::Pending).collect();
    for rest in &pending {
        if pause(rest) > longest {
            return Some(format!("a pause of {:?}", pause(rest)));
        }
    }
    // The first two pauses may be equal. After them each pause is longer than the last but one.
    for three in pending.windows(3) {
        let steps = (between(&run.watch.made, three[0], three[1]), between(&run.watch.made, three[1], three[2]));
        let is_one = steps.0.is_some() && steps.0 == steps.1;
        let crashed = three[2].from.since(three[0].from) > pause(three[0]) + pause(three[1]) + Duration::from_secs(1);
        if is_one && !crashed && pause(three[2]) <= pause(three[0]) && pause(three[2]) < longest {
            return Some(format!("the pauses of {steps:?} do not grow: {three:?}"));
        }
    }
    None
}

/// The kinds of input that a run asked for.
fn asked(run: &Run<'_>) -> BTreeSet<String> {
    let kind = |entry: &Entry| match entry {
        Entry::Asked { kind, .. } => Some(format!("{kind:?}")),
        _ => None,
    };
    run.entries().filter_map(kind).collect()
}

/// The longest time of a run that never gets its input or its effect. A person may be asked twice, and an overwrite
/// may be repeated and awaited again.
fn longest(run: &Run<'_>) -> Duration {
    let limits = &run.scenario.limits;
    let inputs = limits.input_max * 2 * u32::try_from(asked(run).len()).unwrap();
    limits.max_elapsed + limits.pending_max * 2 + inputs + limits.max_interval * 40
}

#[test]
fn every_wait_that_a_flow_decides_occurs_and_ends_by_its_limit() {
    let (mut met, mut inputs, mut runs) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (scenario, _) in catalogue::all() {
        let mut run = Run::new(&scenario, Plan::none());
        run.finish().unwrap();
        let each = |call| {
            let forever = |fault| Plan { forever: Some((call, fault)), ..Plan::none() };
            [Fault::Unavailable, Fault::Lost, Fault::Theirs].map(forever)
        };
        let plans = (0..run.calls.min(14)).flat_map(each);
        for plan in std::iter::once(Plan::none()).chain(plans) {
            let mut run = Run::new(&scenario, plan);
            let begin = run.now;
            run.finish().unwrap();
            runs += 1;
            let why = |rest: &Rest| match rest.why {
                Why::Retry => Waiting::Retry,
                Why::Pending => Waiting::Pending,
            };
            met.extend(run.rests.iter().map(|rest| why(rest).as_str()));
            inputs.extend(asked(&run));
            let took = run.now.since(begin);
            assert!(took <= longest(&run), "{}", run.story(&format!("it took {took:?}")));
        }
    }
    eprintln!("waits: {runs} runs with an endless wait; asked for {inputs:?}");
    assert!(inputs.len() >= 6, "{inputs:?}");
    met.insert(Waiting::Input.as_str());
    let decided = Waiting::ALL.into_iter().filter(|why| account(*why).0 == By::Flow).map(Waiting::as_str);
    assert_eq!(met, decided.collect());
}

/// The pauses between reads while a person is asked for something, each from the answer to the next call.
fn reads_while_asked(script: &mut Script, name: StepName, item: u32) -> Vec<u64> {
    let mut pauses = Vec::new();
    while pauses.len() < 8 {
        let answered_at = script.now;
        while matches!(script.next(), Next::Ask(_)) {
            script.pass(10);
        }
        assert_eq!(script.expect_call(name).item, item);
        pauses.push(script.now.since(answered_at).as_secs());
        script.answer(name, Answer::Found(Identity::Same));
    }
    pauses
}

#[test]
fn during_a_wait_for_input_the_pauses_between_reads_grow_and_an_absent_person_ends_the_wait() {
    const GROWING: [u64; 8] = [30, 60, 120, 240, 480, 900, 900, 900];
    const FROM_A_MINUTE: [u64; 8] = [60, 60, 120, 240, 480, 900, 900, 900];
    let found = || Answer::Found(Identity::Same);
    let manual = json!({ "system": "loyalty", "method": "manual", "member": { "member_id": "m1" } });
    let mut script = Script::new(manual);
    script.answer(StepName::Resolve, found());
    script.expect_ask(InputKind::ManualDeletion);
    script.answer(StepName::ReadBack, found());
    assert_eq!(reads_while_asked(&mut script, StepName::ReadBack, 0), GROWING);
    script.pass(900).answer(StepName::ReadBack, Answer::Missing(Absence::vouched()));
    script.expect_end(TargetEnd::well(TargetOutcome::Erased));

    // A token that has expired, or ended with the member.
    let member = json!({
        "system": "loyalty", "method": "member_api", "member": { "member_id": "m1" }, "access_token": "t",
        "current_password": "p",
    });
    let refused = FailureKind::UnauthorisedTheirs(InputKind::AccessToken);
    let mut script = Script::new(member);
    script.answer(StepName::Resolve, found()).answer(StepName::Resolve, found());
    script.fail(StepName::DeleteMember, refused, Reason::InputRefused);
    script.expect_ask(InputKind::AccessToken);
    assert_eq!(reads_while_asked(&mut script, StepName::Resolve, 1), FROM_A_MINUTE);
    script.pass(900).answer(StepName::Resolve, Answer::Missing(Absence::vouched()));
    script.fail(StepName::Resolve, refused, Reason::InputRefused);
    script.expect_end(TargetEnd::well(TargetOutcome::Absent));
}

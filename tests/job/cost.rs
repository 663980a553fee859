//! The cost of a target with the most codes: calls, entries and intents. The flow's own work must not grow with the
//! square of the codes.

use std::sync::Arc;

use erasure_worker::job::flow::{self, Next};
use erasure_worker::job::plan::Lost;
use erasure_worker::job::state::Leading;
use erasure_worker::job::{At, CodeState, Entry, Shows, StepName, TargetState};

use crate::catalogue::connector::{SESSION, by, expect, plan, scenario, sessions, target};
use crate::catalogue::reader;
use crate::executor::Run;
use crate::plan::{Plan, Survives};
use crate::scenario::Scenario;
use crate::world::connector::Desk;
use crate::world::vitalsource::VitalSource;

const CODES: usize = 10_000;

/// Runs without a fault. Returns the state, the calls, the number of entries and of awaited writes.
fn run(scenario: &Scenario) -> (TargetState, Vec<StepName>, usize, usize) {
    watched(scenario, |_, _| ())
}

/// As [`run`]; also shows each action with the state in which it was chosen.
fn watched(
    scenario: &Scenario,
    mut watch: impl FnMut(&Next, &TargetState),
) -> (TargetState, Vec<StepName>, usize, usize) {
    let (mut state, mut world) = (TargetState::default(), scenario.world.copy());
    let (mut made, mut entries, mut waits) = (Vec::new(), 0_u64, 0);
    let mut now = At(1_795_341_600_000);
    loop {
        let next = flow::next(&scenario.job, 0, &state, &scenario.rules, &scenario.limits, now);
        watch(&next, &state);
        let written = match next {
            Next::Intend(steps) => {
                waits += 1;
                steps.into_iter().map(|step| Entry::Intent { target: 0, step, at: now }).collect()
            }
            Next::Settle { step, done } => vec![Entry::Settled { target: 0, step, done, at: now }],
            Next::Wait { until, .. } => {
                now = until;
                Vec::new()
            }
            Next::End(end) => {
                assert!(end.outcome.is_erased(), "{end:?}");
                return (state, made, entries as usize, waits);
            }
            Next::Ask(asks) => panic!("{asks:?}"),
            Next::Call(step) => {
                made.push(step.name);
                let answer = Some(world.call(now, &scenario.job, step, &state).unwrap());
                vec![Entry::Answered { target: 0, step, answer, at: now }]
            }
        };
        for entry in written {
            entries += 1;
            state.apply(&entry, entries);
        }
    }
}

fn count(made: &[StepName], name: StepName) -> usize {
    made.iter().filter(|made| **made == name).count()
}

// A walk over all codes for every call would be 200 million steps: the test would take too long.
#[test]
fn ten_thousand_codes_are_read_and_revoked_once_each_with_sixteen_intents_a_write() {
    let scenario = Scenario::new("the most codes", reader(CODES), VitalSource::with(CODES));
    let (state, made, entries, waits) = run(&scenario);
    assert_eq!((count(&made, StepName::ReadCode), count(&made, StepName::RevokeCode)), (CODES, CODES));
    assert_eq!(count(&made, StepName::ReadBackCode), CODES);
    // Beside the codes: resolve, licences, overwrite and read-back; the overwrite's intent.
    assert_eq!((made.len(), entries), (3 * CODES + 4, 4 * CODES + 5));
    assert_eq!(waits, CODES / 16 + 1);
    assert_eq!(state.done_prefix(StepName::RevokeCode) as usize, CODES);
    assert!(state.unsent().is_empty());
}

#[test]
fn ten_thousand_codes_of_an_absent_user_are_read_once_each() {
    let mut world = VitalSource::with(CODES);
    (world.exists, world.proven) = (false, true);
    world.codes.iter_mut().for_each(|code| code.state = CodeState::Cancelled);
    let (_, made, entries, waits) = run(&Scenario::new("the most codes, and no user", reader(CODES), world));
    assert_eq!((made.len(), entries, waits), (CODES + 1, CODES + 1, 0));
}

#[test]
fn after_a_crash_at_most_the_sixteen_codes_in_doubt_are_read_back() {
    let scenario = Scenario::new("forty codes", reader(40), VitalSource::with(40));
    let mut plain = Run::new(&scenario, Plan::none());
    plain.finish().unwrap();
    let mut most = 0;
    for point in 0..plain.points {
        let mut run = Run::new(&scenario, Plan::none().crash(point, Survives::Durable));
        run.finish().unwrap();
        // After the last revoke each code is read anyway.
        let last = run.watch.made.iter().rposition(|made| *made == StepName::RevokeCode).unwrap();
        most = most.max(count(&run.watch.made[..last], StepName::ReadBackCode));
    }
    assert_eq!(most, 16);
}

/// The vendor takes an hour for each member, and for all of them the same one.
#[test]
fn two_thousand_members_of_a_list_wait_once_and_each_is_looked_at_where_the_last_one_ended() {
    const MEMBERS: usize = 2_000;
    let ended = || vec![expect(SESSION, Shows::Done)];
    let plan = Arc::new(plan(vec![sessions(Lost::Read(ended()), by(ended(), 3_600))]));
    let scenario = scenario("a long list", target(), Desk::new(&plan, MEMBERS));
    let (mut pauses, mut called, mut looked) = (0, 0, 0);
    let (state, made, entries, waits) = watched(&scenario, |next, state| match next {
        Next::Wait { .. } => pauses += 1,
        // The walk over the members begins at this one: no decision looks at all of them.
        Next::Call(step) if step.name == StepName::ConnectorAct => {
            assert_eq!((state.leading(0), step.member()), (Leading { done: called, settled: 0 }, called));
            called += 1;
        }
        Next::Call(step) if step.name == StepName::ConnectorReadBack => {
            assert_eq!((state.leading(0), step.member()), (Leading { done: called, settled: looked }, looked));
            looked += 1;
        }
        _ => {}
    });
    assert_eq!(pauses, 1);
    assert_eq!((count(&made, StepName::ConnectorAct), count(&made, StepName::ConnectorReadBack)), (MEMBERS, MEMBERS));
    assert_eq!((count(&made, StepName::Resolve), count(&made, StepName::ConnectorRead)), (1, 1));
    // An intent, an answer, a read and its settlement for each, and the two first reads.
    assert_eq!((entries, waits), (4 * MEMBERS + 2, MEMBERS));
    assert_eq!(state.leading(0), Leading { done: MEMBERS as u32, settled: MEMBERS as u32 });
    assert!(state.unsent().is_empty());
}

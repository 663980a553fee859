//! The events that the engine would publish about a run.

use erasure_worker::job::event::{About, Frame};
use erasure_worker::job::flow::{self, Next};
use erasure_worker::job::record::Event;
use erasure_worker::job::{At, Entry, JobOutcome, JobRecord, TargetOutcome, TargetState};
use serde_json::{Value, json};

use crate::executor::Run;
use crate::jobs;
use crate::plan::Plan;
use crate::scenario::Scenario;

const NOW: At = At(1_795_345_200_000);
/// The frame of an event written now.
pub fn frame() -> Frame<'static> {
    Frame {
        environment: "production",
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        now: NOW,
    }
}

/// The record of an open job.
pub fn record(run: &Run<'_>, numbers: (u32, u32)) -> JobRecord {
    JobRecord {
        identity: vec![1],
        run: numbers.0,
        seq: numbers.1,
        body: vec![2],
        copy: 0,
        park_written: 0,
        park_confirmed: 0,
        opened_at: NOW,
        requested_at: run.job.requested_at.into(),
        due_at: run.job.due_at.map(At::from),
        regulation: run.job.regulation.clone(),
        systems: run.job.targets.iter().map(|target| target.system.clone()).collect(),
        subject_ref: "s-0123".to_owned(),
        waiting: None,
        announced: Vec::new(),
        owed: None,
        lasting: Default::default(),
        seen: Default::default(),
        stands: Default::default(),
        waits_at: None,
    }
}

/// An event as a consumer reads it.
pub fn parsed(event: &Event) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

/// Builds an event about a run.
pub fn about<T>(run: &Run<'_>, scenario: &Scenario, say: impl FnOnce(&About<'_>) -> T) -> T {
    let record = record(run, (1, 1));
    let (targets, rules) = ([run.state.clone()], [&scenario.rules]);
    say(&About { job: &run.job, record: &record, targets: &targets, rules: &rules })
}

/// The final event of a run as the engine would publish it.
pub fn ended(run: &Run<'_>, scenario: &Scenario) -> Value {
    let outcome = match run.state.end.as_ref().unwrap().outcome {
        outcome if outcome.is_erased() => JobOutcome::Completed,
        TargetOutcome::Previewed => JobOutcome::Previewed,
        _ => JobOutcome::Failed,
    };
    parsed(&about(run, scenario, |about| about.ended(&frame(), outcome)).event)
}

/// An ended run.
pub fn finished<'a>(scenario: &'a Scenario, plan: Plan) -> Run<'a> {
    let mut run = Run::new(scenario, plan);
    run.finish().unwrap();
    run
}

/// The state of a run at its first request for input, and the event of that request.
pub fn asking(scenario: &Scenario) -> (TargetState, Value) {
    let mut state = TargetState::default();
    let mut world = scenario.world.copy();
    for seq in 1.. {
        match flow::next(&scenario.job, 0, &state, &scenario.rules, &scenario.limits, NOW) {
            Next::Call(step) => {
                let answer = Some(world.call(NOW, &scenario.job, step, &state).unwrap());
                state.apply(&Entry::Answered { target: 0, step, answer, at: NOW }, seq);
            }
            Next::Intend(steps) => {
                for step in steps {
                    state.apply(&Entry::Intent { target: 0, step, at: NOW }, seq);
                }
            }
            Next::Ask(asks) => {
                let mut run = Run::new(scenario, Plan::none());
                run.state = state.clone();
                let asks: Vec<_> = asks.into_iter().map(|ask| (0, ask)).collect();
                let event = about(&run, scenario, |about| about.needs_input(&frame(), &asks));
                return (state, parsed(&event));
            }
            other => panic!("{other:?}, and no request for input"),
        }
    }
    unreachable!()
}

/// A shop account with its right password.
pub fn shop() -> Value {
    jobs::with(&jobs::easycms(), "/customer_password", Some("right".into()))
}

/// A target with a confirmation.
pub fn confirmed(target: Value) -> Value {
    jobs::with(&target, "/confirmation", Some(json!({ "confirmed_at": "2026-11-22T09:58:00Z" })))
}

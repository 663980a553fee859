//! Every scenario with every fault and crash at every place, one or two at a time.
//!
//! The rule it keeps: no case is random. The cases are complete, and their number is printed.

use erasure_worker::job::{Reason, TargetEnd};

use crate::catalogue;
use crate::executor::Run;
use crate::plan::{Fault, Plan, Survives};
use crate::scenario::Scenario;

/// The number of cases and the violations.
#[derive(Default)]
struct Tally {
    cases: usize,
    violations: Vec<String>,
}

impl Tally {
    fn run<'a>(&mut self, scenario: &'a Scenario, plan: &Plan) -> Run<'a> {
        let mut run = Run::new(scenario, plan.clone());
        self.cases += 1;
        if let Err(violation) = run.finish() {
            self.violations.push(violation);
        }
        run
    }

    fn close(self, what: &str) {
        eprintln!("{what}: {} cases", self.cases);
        let count = self.violations.len();
        assert!(count == 0, "{count} violations, the first:\n{}", self.violations[..count.min(3)].join("\n\n"));
    }
}

fn scenarios() -> impl Iterator<Item = Scenario> {
    catalogue::all().into_iter().map(|(scenario, _)| scenario)
}

/// Longer runs repeat themselves: later faults give no new case.
const CALLS: usize = 14;
const POINTS: usize = 90;
/// The crash comes within this many points after the fault.
const AFTER: usize = 20;

#[test]
fn with_one_fault_at_any_call_a_run_ends_without_a_false_completion_or_a_blind_repeat() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let calls = tally.run(&scenario, &Plan::none()).calls.min(CALLS);
        for (call, fault) in (0..calls).flat_map(|call| Fault::ALL.map(|fault| (call, fault))) {
            tally.run(&scenario, &Plan::none().fault(call, fault));
        }
    }
    tally.close("one fault");
}

#[test]
fn with_two_faults_at_any_two_calls_a_run_ends_without_a_false_completion_or_a_blind_repeat() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let calls = tally.run(&scenario, &Plan::none()).calls.min(CALLS);
        for (call, fault) in (0..calls).flat_map(|call| Fault::ALL.map(|fault| (call, fault))) {
            let first = Plan::none().fault(call, fault);
            let more = tally.run(&scenario, &first).calls.min(call + 6);
            for (call, fault) in (call + 1..more).flat_map(|call| Fault::SECOND.map(|fault| (call, fault))) {
                tally.run(&scenario, &first.clone().fault(call, fault));
            }
        }
    }
    tally.close("two faults");
}

#[test]
fn with_a_permanent_fault_a_run_ends_without_a_false_completion() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let calls = tally.run(&scenario, &Plan::none()).calls.min(CALLS);
        // An endless limit or hold makes an endless wait: no attempt is spent.
        let without_end = [Fault::Limited, Fault::Ours];
        for fault in Fault::ALL.into_iter().filter(|fault| !without_end.contains(fault)) {
            for call in 0..calls {
                let plan = Plan { forever: Some((call, fault)), ..Plan::none() };
                tally.run(&scenario, &plan);
            }
        }
    }
    tally.close("a fault for ever");
}

#[test]
fn with_a_crash_at_any_point_a_run_ends_without_a_false_completion_or_a_blind_repeat() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let points = tally.run(&scenario, &Plan::none()).points.min(POINTS);
        for (point, survives) in (0..points).flat_map(|point| Survives::ALL.map(|survives| (point, survives))) {
            tally.run(&scenario, &Plan::none().crash(point, survives));
        }
    }
    tally.close("one crash");
}

#[test]
fn with_a_fault_and_a_later_crash_a_run_ends_without_a_false_completion_or_a_blind_repeat() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let calls = tally.run(&scenario, &Plan::none()).calls.min(CALLS);
        for (call, fault) in (0..calls).flat_map(|call| Fault::DOUBTS.map(|fault| (call, fault))) {
            let faulty = Plan::none().fault(call, fault);
            let run = tally.run(&scenario, &faulty);
            let from = run.first_fault_at.unwrap_or(run.points);
            for (point, survives) in
                (from..run.points.min(from + AFTER)).flat_map(|point| Survives::ALL.map(|survives| (point, survives)))
            {
                tally.run(&scenario, &faulty.clone().crash(point, survives));
            }
        }
    }
    tally.close("one fault and one crash");
}

#[test]
fn with_two_crashes_at_any_two_points_a_run_ends_without_a_false_completion_or_a_blind_repeat() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let points = tally.run(&scenario, &Plan::none()).points.min(POINTS / 2);
        for (point, survives) in (0..points).flat_map(|point| Survives::ALL.map(|survives| (point, survives))) {
            let first = Plan::none().crash(point, survives);
            let more = tally.run(&scenario, &first).points.min(point + 12);
            for second in point + 1..more {
                tally.run(&scenario, &first.clone().crash(second, Survives::Durable));
            }
        }
    }
    tally.close("two crashes");
}

/// True if a replay may end so, although the scenario ends well without faults: a member's deletion without a
/// read-back stays unproven.
fn may_stay_open(end: &TargetEnd) -> bool {
    matches!(end.reason, Some(Reason::Unproven))
}

#[test]
fn a_replay_of_a_failed_run_repeats_no_done_step_and_forgets_no_doubt() {
    let mut tally = Tally::default();
    let crashes = [None, Some((0, Survives::All)), Some((1, Survives::All)), Some((3, Survives::Durable))];
    for (scenario, expected) in catalogue::all() {
        let ends_well = ["erased", "anonymised", "absent", "previewed"].contains(&expected);
        let run = tally.run(&scenario, &Plan::none());
        let (calls, points) = (run.calls.min(CALLS), run.points.min(POINTS));
        let mut plans = Vec::new();
        for call in 0..calls {
            plans.push(Plan { forever: Some((call, Fault::Unavailable)), ..Plan::none() });
            plans.push(Plan { forever: Some((call, Fault::Rejected)), ..Plan::none() });
            for fault in Fault::DOUBTS {
                plans.push(Plan { forever: Some((call + 1, Fault::Unavailable)), ..Plan::none().fault(call, fault) });
            }
        }
        for point in 0..points {
            let crash = Plan::none().crash(point, Survives::Durable);
            let made = tally.run(&scenario, &crash).calls_at_crash.unwrap_or(0);
            for call in made..made + 2 {
                plans.push(Plan { forever: Some((call, Fault::Unavailable)), ..crash.clone() });
            }
        }
        for plan in plans {
            for crash in crashes {
                let mut run = tally.run(&scenario, &plan);
                if run.state.end.as_ref().is_none_or(|end| end.outcome.is_erased()) {
                    break;
                }
                tally.cases += 1;
                match run.replay(crash) {
                    Err(violation) => tally.violations.push(violation),
                    Ok(end) if ends_well && end.reason.is_some() && !may_stay_open(&end) => {
                        tally.violations.push(run.story(&format!("the fault is over, and the replay ends {end:?}")));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
    tally.close("replays");
}

//! Every scenario without faults.

use crate::catalogue;
use crate::executor::Run;
use crate::plan::Plan;

#[test]
fn every_scenario_ends_as_documented() {
    let all = catalogue::all();
    let mut wrong = Vec::new();
    for (scenario, expected) in &all {
        let mut run = Run::new(scenario, Plan::none());
        let outcome = match run.finish() {
            Ok(end) => end.reason.map_or(end.outcome.to_string(), |reason| format!("{}/{reason}", end.outcome)),
            Err(violation) => violation,
        };
        if outcome != *expected {
            wrong.push(format!(
                "{}: {outcome:.800}, not {expected}, {:?}",
                scenario.name,
                &run.watch.made[..20.min(run.watch.made.len())]
            ));
        }
    }
    eprintln!("{} scenarios", all.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

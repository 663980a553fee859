//! Runs one target as the engine does, over the relay: the pure flow decides each step.
//!
//! The rule it keeps: it does not wait like the engine. A wait for a person or a held system, or too many calls, end
//! the run without a claim.

use std::time::Duration;

use erasure_worker::job::flow::{self, Next};
use erasure_worker::job::{Answer, At, Entry, Failure, FailureKind, Job, Step, TargetEnd, TargetState};
use erasure_worker::seal::{Keyring, MasterKey};
use erasure_worker::systems::{Call, Facts, System};

use super::relay::Relay;
use super::scenario::Scenario;

/// A client's result of one call.
pub type Said = Result<Answer, Failure>;

/// One call, and the numbers of its exchanges.
#[derive(Debug, Clone)]
pub struct Made {
    pub step: Step,
    pub exchanges: std::ops::Range<usize>,
    pub said: Said,
}

/// A run of a target.
pub struct Run {
    pub calls: Vec<Made>,
    /// `None` if it waits for a person or a system.
    pub end: Option<TargetEnd>,
    pub state: TargetState,
}

/// More calls than any of the flows needs.
const MOST_CALLS: usize = 120;

fn keyring() -> Keyring {
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    Keyring::new(MasterKey::parse(key).expect("a key"), Vec::new()).expect("a keyring")
}

/// The facts that the engine would give the client.
pub fn facts(job: &Job, state: &TargetState, step: Step) -> Facts {
    let (keys, job_id) = (keyring(), job.key.job_id.to_string());
    let of_job = (job.key.tenant.as_str(), job_id.as_str(), 0);
    Facts::of(job, 0, state, step, &|guid, field| keys.replacements(guid, field.as_str(), of_job))
}

/// Runs a scenario. Before each call `other` may return another client to continue with.
pub async fn run(
    scenario: &Scenario,
    client: &dyn System,
    relay: &Relay,
    mut other: impl FnMut(usize) -> Option<Box<dyn System>>,
) -> Run {
    let mut job = scenario.job();
    let mut run = Run { calls: Vec::new(), end: None, state: TargetState::default() };
    let mut now = At(1_795_341_600_000);
    let (mut seq, mut asked) = (0, 0);
    let mut elsewhere: Option<Box<dyn System>> = None;
    let mut apply = |state: &mut TargetState, entry: Entry| {
        seq += 1;
        state.apply(&entry, seq);
    };
    while run.calls.len() < MOST_CALLS {
        now = now.plus(Duration::from_millis(50));
        match flow::next(&job, 0, &run.state, &scenario.rules, &scenario.limits(), now) {
            Next::End(end) => {
                run.end = Some(end);
                return run;
            }
            Next::Settle { step, done } => apply(&mut run.state, Entry::Settled { target: 0, step, done, at: now }),
            Next::Intend(steps) => {
                for step in steps {
                    apply(&mut run.state, Entry::Intent { target: 0, step, at: now });
                }
            }
            Next::Wait { until, .. } => now = until,
            Next::Ask(asks) => {
                asked += 1;
                if asked > 4 || !scenario.give(&mut job, &asks[0]) {
                    return run;
                }
                apply(&mut run.state, Entry::Continued { at: now });
            }
            Next::Call(step) => {
                if let Some(client) = other(run.calls.len()) {
                    elsewhere = Some(client);
                }
                let facts = facts(&job, &run.state, step);
                let from = relay.count();
                let call = Call { job: &job, target: &job.targets[0], index: 0, step, facts: &facts };
                let said = elsewhere.as_deref().unwrap_or(client).call(call).await;
                run.calls.push(Made { step, exchanges: from..relay.count(), said: said.clone() });
                match said {
                    Ok(answer) => {
                        apply(&mut run.state, Entry::Answered { target: 0, step, answer: Some(answer), at: now });
                    }
                    Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }) => {
                        // Held: here the system is called again at most twice, each time after a minute.
                        let held = run.calls.iter().filter(|made| is_held(&made.said)).count();
                        if held > 2 {
                            return run;
                        }
                        now = now.plus(Duration::from_secs(60));
                    }
                    Err(Failure { kind, reason, .. }) => {
                        let not_before = now.plus(Duration::from_millis(500));
                        apply(&mut run.state, Entry::Failed { target: 0, step, kind, reason, at: now, not_before });
                    }
                }
            }
        }
    }
    run
}

fn is_held(said: &Said) -> bool {
    matches!(said, Err(Failure { kind: FailureKind::RateLimited | FailureKind::UnauthorisedOurs, .. }))
}

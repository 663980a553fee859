//! The state in which a job leaves the worker: its end, a wait, or a question to a person.
//!
//! The rule it keeps: a job is checked again at the earliest moment at which one of its targets can continue.

use std::time::Duration;

use super::Engine;
use super::in_hand::Run;
use crate::job::flow::Ask;
use crate::job::wait::Waiting;
use crate::job::{At, Job};

/// The state in which a target stops.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// It ended.
    Ended,
    /// It waits until this time.
    Waits { until: At, why: Waiting },
    /// It waits for a person's input.
    Asks(Vec<Ask>),
    /// The run must stop.
    Stopped,
}

/// The state in which the whole job stops.
pub(crate) enum Rests {
    /// Every target ended.
    Ended,
    /// It was cancelled before anything destructive.
    Cancelled,
    /// It waits.
    Waits(Waits),
    /// The delivery was lost.
    Lost,
    /// The worker drains.
    Drained,
}

/// A job's wait.
pub(crate) struct Waits {
    pub until: At,
    pub why: Waiting,
    /// The waiting target, if it is one.
    pub target: Option<u16>,
    /// The inputs that persons are asked for.
    pub asks: Vec<(u16, Ask)>,
}

impl Engine {
    /// The time of the job's next check, the reason of its wait, and the inputs that it needs.
    pub(super) fn soonest(&self, run: &Run<'_>, rests: &[Rest]) -> Waits {
        let now = self.now();
        // A ceiling holds a job as a whole.
        let guarded = rests.iter().find_map(|rest| match rest {
            Rest::Waits { until, why: Waiting::Guard } => Some(*until),
            _ => None,
        });
        if let Some(until) = guarded {
            return Waits { until, why: Waiting::Guard, target: None, asks: Vec::new() };
        }
        let mut asks = Vec::new();
        let mut soonest: Option<(At, Waiting, Option<u16>)> = None;
        for (index, rest) in rests.iter().enumerate() {
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            match rest {
                Rest::Ended => {}
                // A twin continues after the end of the earlier target, which may take long.
                Rest::Waits { .. } if twin_before(run.job, index).is_some_and(|twin| rests[twin] != Rest::Ended) => {}
                Rest::Stopped => soonest = Some((now, Waiting::Renewal, None)),
                Rest::Waits { until, why } => {
                    if soonest.is_none_or(|(at, ..)| *until < at) {
                        soonest = Some((*until, *why, Some(number)));
                    }
                }
                Rest::Asks(wanted) => asks.extend(wanted.iter().cloned().map(|ask| (number, ask))),
            }
        }
        let (until, why, target) = soonest.unwrap_or_else(|| {
            // Only a person's input can move it. The job is checked again after about the time that it has waited: an
            // early input is seen early, and a long wait costs little.
            let asked = run.journal.with(|state| {
                state.targets.iter().filter(|target| target.end.is_none()).flat_map(|t| t.asked.values()).min().copied()
            });
            let until = now.plus(now.since(asked.unwrap_or(now)).max(Duration::from_secs(5)));
            (until, Waiting::Input, asks.first().map(|(target, _)| *target))
        });
        Waits { until, why, target, asks }
    }
}

/// An earlier target with the same identity.
pub(crate) fn twin_before(job: &Job, index: usize) -> Option<usize> {
    if job.targets.len() < 2 {
        return None;
    }
    let mine = job.target_identity(index);
    (0..index).find(|earlier| job.target_identity(*earlier) == mine)
}

//! The parts of events that only a connector's target has.
//!
//! The rule it keeps: names and words from the connector's file, and counts; never a fact from a reply.

use serde_json::{Map, Value, json};

use crate::outcome::{StepOutcome, TargetEnd, TargetOutcome};
use crate::plan::Plan;
use crate::reading::Means;
use crate::state::{StepState, TargetState};

/// Adds the connector, and says if an erasure rests on the vendor's word alone.
pub(super) fn tell(plan: &Plan, end: &TargetEnd, target: &mut Map<String, Value>) {
    target.insert("connector".into(), plan.connector.clone().into());
    // An absence rests on a read, unless nobody can be read.
    let is_absent_by_word =
        end.outcome == TargetOutcome::Absent && plan.reads.first().is_none_or(|read| read.is_unchecked);
    if (end.outcome == TargetOutcome::Erased || is_absent_by_word) && plan.is_declared() {
        target.insert("evidence".into(), "declared".into());
        target.insert("promises".into(), plan.promises().into());
    }
}

/// The outcome of a step with this answer.
pub(super) fn outcome(means: Means, state: &StepState) -> StepOutcome {
    match means {
        Means::Gone(_) | Means::Done => StepOutcome::Erased,
        Means::DoneBefore if state.is_ours() => StepOutcome::AlreadyErased,
        Means::DoneBefore => StepOutcome::Absent,
        Means::Accepted if state.settled_done => StepOutcome::Erased,
        Means::Accepted | Means::Found(_) | Means::NotDone | Means::Pending | Means::Marked => StepOutcome::Pending,
    }
}

/// Each act, with the number of its calls; `null` if it is not known yet.
pub(super) fn acts(plan: &Plan, state: &TargetState) -> Value {
    let each = plan.acts.iter().map(|act| {
        let count = act.each.map_or(Some(1), |fact| state.findings.list(fact).map(<[String]>::len));
        json!({ "act": act.name, "count": count })
    });
    each.collect()
}

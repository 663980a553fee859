//! The parts about approvals in events and for operators: the losses of each target, and the last decision.
//!
//! The rule it keeps: counts, offers, words of closed lists and operators' names; no personal data of the subject.

use serde_json::{Value, json};

use super::{About, preserved, preview, refunds};
use crate::journal::At;
use crate::state::TargetState;

impl About<'_> {
    /// Each target with its losses. A target that has ended loses nothing more.
    pub fn losses(&self, now: At) -> Value {
        let each = self.job.targets.iter().zip(self.targets).zip(self.rules).enumerate();
        let shown = each.map(|(index, ((target, state), rules))| {
            json!({
                "target": index, "system": target.system, "kind": target.kind.as_str(),
                "outcome": state.end.as_ref().map(|end| end.outcome.as_str()),
                "reason": state.end.as_ref().and_then(|end| end.reason).map(crate::Reason::as_str),
                "preview": preview(&target.spec, state, rules), "refunds": refunds(&target.spec, state, now),
                "preserved": preserved(rules),
            })
        });
        shown.collect()
    }
}

/// The requesters of an erasure that needs an approval, and the last decision; `None` if it needs none.
pub(super) fn approval(targets: &[TargetState]) -> Option<Value> {
    let each = || targets.iter().map(|state| &state.approving);
    let first = each().find(|approving| approving.is_needed())?;
    let approved = each().filter_map(|one| one.approved.as_ref()).map(|one| ("approved", &one.by, one.at));
    let rejected = each().filter_map(|one| one.rejected.as_ref()).map(|(by, at)| ("rejected", by, *at));
    let last = approved.chain(rejected).max_by_key(|(_, _, at)| *at);
    Some(json!({
        "requested_by": first.requested_by,
        "decision": last.map(|(word, ..)| word), "by": last.map(|(_, by, _)| by),
        "at": last.map(|(_, _, at)| at.to_rfc3339()),
    }))
}

//! Cleeng: compare, list, (confirm,) terminate each entitlement, list again, anonymise, read back.
//!
//! The rule it keeps: the customer is deleted only when nothing still gives access, and a 404 on
//! the delete counts as nothing before a read-back.

use super::{Evidence, Flow, Go, Next, Seen};
use crate::job::model::Spec;
use crate::job::outcome::{Reason, TargetEnd, TargetOutcome};
use crate::job::step::{Answer, FailureKind, Identity, Step, StepName};

const RESOLVE: Step = Step::one(StepName::Resolve);
const DELETE: Step = Step::one(StepName::DeleteCustomer);
/// The list that the flow starts from: the customer's offers, or Core's entitlements.
const FIRST_LIST: Step = Step::item(StepName::ListEntitlements, 0);
/// Every later list, always from Core with the publisher token.
const CORE_LIST: Step = Step::item(StepName::ListEntitlements, 1);

pub(super) fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    let is_backend = matches!(flow.target.spec, Spec::CleengBackend { .. });
    match flow.read(RESOLVE)? {
        Answer::Found(identity) => {
            if !flow.same_person(*identity)? {
                return absent(flow);
            }
        }
        Answer::Missing { .. } => return absent(flow),
        _ => return flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
    flow.read(FIRST_LIST)?;
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    if !flow.state.touched {
        flow.confirmed(!flow.state.with_access.is_empty(), StepName::TerminateEntitlement)?;
    }

    let deleted = flow.state.get(DELETE).is_some_and(|state| state.is_done());
    if !deleted {
        end_access(flow, is_backend)?;
    }
    match flow.act(DELETE, 1, |seq| gone(flow, seq), |reason, _| flow.refused(reason, StepName::DeleteCustomer))? {
        Evidence::NotOurs => Ok(TargetEnd::well(TargetOutcome::Absent)),
        Evidence::Answer | Evidence::Before => {
            flow.verified(DELETE, shows)?;
            Ok(TargetEnd::well(TargetOutcome::Anonymised))
        }
    }
}

/// Nobody by that id: believed once a list, made with the same credential, was answered.
fn absent(flow: &Flow<'_>) -> Go<TargetEnd> {
    flow.read(CORE_LIST)?;
    if flow.state.with_access.is_empty() {
        return Ok(if flow.is_preview() { flow.previewed() } else { TargetEnd::well(TargetOutcome::Absent) });
    }
    flow.failed(Reason::Unproven, StepName::Resolve)
}

/// Terminates everything that gives access and, for the backend flow (or after a doubt), lists
/// again until nothing does.
fn end_access(flow: &Flow<'_>, is_backend: bool) -> Go<()> {
    // "User has an active subscription": look once more, then believe it.
    if let Some(state) = flow.state.get(DELETE)
        && matches!(state.failure, Some((FailureKind::Refused, Reason::ActiveEntitlement)))
        && state.refusals == 1
    {
        flow.read_after(CORE_LIST, state.seq)?;
        return Err(Next::Settle { step: DELETE, done: false });
    }
    let mut last = 0;
    let count = u32::try_from(flow.state.entitlements.len()).unwrap_or(u32::MAX);
    for item in flow.state.done_prefix(StepName::TerminateEntitlement)..count {
        let step = Step::item(StepName::TerminateEntitlement, item);
        if !flow.state.entitlements[item as usize].gives_access {
            continue;
        }
        flow.act(step, 1, |seq| ended(flow, item, seq), |_, state| still_active(flow, state.unclear))?;
    }
    for state in flow.state.all(StepName::TerminateEntitlement) {
        last = last.max(state.seq);
    }
    // The seed's MediaStore flow goes straight on to the delete, which refuses (422) if it must.
    let list_again = last > 0 && (is_backend || flow.state.get(CORE_LIST).is_some());
    if list_again {
        let seen =
            |answer: &Answer| matches!(answer, Answer::Entitlements(rows) if rows.iter().all(|row| !row.gives_access));
        let answer = flow.poll_after(CORE_LIST, last, seen)?;
        if !seen(answer) {
            return flow.refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement);
        }
        let answers = flow.state.get(CORE_LIST).map_or(0, |state| state.answers);
        still_active(flow, if seen(answer) { 0 } else { answers })?;
    }
    Ok(())
}

fn still_active(flow: &Flow<'_>, times: u32) -> Go<()> {
    if times >= super::FEW {
        return flow.refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement);
    }
    Ok(())
}

/// Whether entitlement `item` has lost its access, by a list made after `seq`.
fn ended(flow: &Flow<'_>, item: u32, seq: u64) -> Go<Seen> {
    flow.read_after(CORE_LIST, seq)?;
    Ok(if flow.state.with_access.contains(&item) { Seen::NotDone } else { Seen::Done })
}

fn gone(flow: &Flow<'_>, seq: u64) -> Go<Seen> {
    let answer = flow.read_after(Step::one(StepName::ReadBack), seq)?;
    shows(answer).map_or_else(|| flow.failed(Reason::Unproven, StepName::ReadBack), Ok)
}

/// A read-back by id: gone, or anonymised (another e-mail, or none). The list was answered to the
/// same credential, so a 404 is proven.
fn shows(answer: &Answer) -> Option<Seen> {
    match answer {
        Answer::Missing { .. } | Answer::Found(Identity::Other | Identity::Blank) => Some(Seen::Done),
        Answer::Found(Identity::Same | Identity::Unreadable) => Some(Seen::NotDone),
        _ => None,
    }
}

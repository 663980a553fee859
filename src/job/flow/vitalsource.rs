//! VitalSource: resolve the user, compare every code's owner, (confirm,) revoke every code, look for
//! content that no code accounts for, overwrite the identifiers, read back, tell the requester.
//!
//! The rule it keeps: every code is a checkpoint of its own, and the identifiers are overwritten
//! only when no given code and no unknown licence is left.

use super::{Flow, Go, Next, Seen, Why, fields_to_overwrite};
use crate::job::model::Spec;
use crate::job::outcome::{Reason, TargetEnd, TargetOutcome};
use crate::job::state::StepState;
use crate::job::step::{Answer, CodeState, FailureKind, Identity, Step, StepName};

const RESOLVE: Step = Step::one(StepName::Resolve);
const LICENSES: Step = Step::one(StepName::CheckLicenses);
const OVERWRITE: Step = Step::one(StepName::OverwriteUser);
const TELL: Step = Step::one(StepName::TellRequester);

pub(super) fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    let Spec::VitalSource { codes, overwrite, .. } = &flow.target.spec else {
        return flow.failed(Reason::Invalid, StepName::Resolve);
    };
    let codes = u32::try_from(codes.len()).unwrap_or(u32::MAX);
    let resolved = flow.read(RESOLVE)?;
    match resolved {
        Answer::User { identity, .. } => drop(flow.same_person(*identity)?),
        Answer::Missing { .. } => {}
        _ => return flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
    for item in flow.state.done_prefix(StepName::ReadCode)..codes {
        flow.read(Step::item(StepName::ReadCode, item))?;
    }
    let Answer::User { fields, .. } = resolved else {
        return nobody(flow, matches!(resolved, Answer::Missing { proven: true }));
    };
    if !flow.state.touched {
        owners(flow)?;
        if flow.is_preview() {
            return Ok(flow.previewed());
        }
        flow.approved(StepName::RevokeCode)?;
        flow.confirmed(codes > 0, StepName::RevokeCode)?;
    }
    for item in flow.state.done_prefix(StepName::RevokeCode)..codes {
        revoke(flow, item, codes)?;
    }
    let is_overwritten = flow.state.get(OVERWRITE).is_some_and(StepState::is_done);
    if flow.rules.check_licenses && !is_overwritten {
        licenses(flow)?;
    }
    if fields_to_overwrite(fields, overwrite).is_empty() {
        blank(flow)?;
    } else {
        let values = |seq| {
            let answer = flow.read_after(Step::one(StepName::ReadBack), seq)?;
            shows(answer).map_or_else(|| flow.failed(Reason::Unproven, StepName::ReadBack), Ok)
        };
        flow.act(OVERWRITE, 1, values, |reason, _| flow.failed(reason, StepName::OverwriteUser))?;
        flow.verified(OVERWRITE, shows)?;
    }
    if flow.rules.tell_requester {
        told(flow)?;
    }
    Ok(TargetEnd::well(TargetOutcome::Anonymised))
}

/// No user by that name: with a proven credential and codes that are not active, there is nothing.
fn nobody(flow: &Flow<'_>, proven: bool) -> Go<TargetEnd> {
    let mut proven = proven;
    for state in flow.state.all(StepName::ReadCode) {
        match &state.answer {
            Some(Answer::Code { state: CodeState::Unknown, .. }) => {}
            Some(Answer::Code { state: CodeState::Cancelled, .. }) => proven = true,
            // A live code cannot be shown to be this person's: there is nobody to compare with.
            Some(Answer::Code { state: CodeState::Active, .. }) => {
                return flow.refused(Reason::IdentityMismatch, StepName::ReadCode);
            }
            _ => return flow.failed(Reason::UnreadableReply, StepName::ReadCode),
        }
    }
    match (proven, flow.is_preview()) {
        (true, true) => Ok(flow.previewed()),
        (true, false) => Ok(TargetEnd::well(TargetOutcome::Absent)),
        (false, _) => flow.failed(Reason::Unproven, StepName::Resolve),
    }
}

/// A user of whom nothing was stored that would have to be overwritten: it must still read so.
fn blank(flow: &Flow<'_>) -> Go<()> {
    match flow.read(Step::one(StepName::ReadBack))? {
        Answer::Values { stand: true } => Ok(()),
        Answer::Values { stand: false } => flow.failed(Reason::NotGone, StepName::ReadBack),
        _ => flow.failed(Reason::Unproven, StepName::ReadBack),
    }
}

/// No code of somebody else's, before the first revoke.
fn owners(flow: &Flow<'_>) -> Go<()> {
    for state in flow.state.all(StepName::ReadCode) {
        match &state.answer {
            Some(Answer::Code { state: CodeState::Cancelled | CodeState::Unknown, .. }) => {}
            Some(Answer::Code { state: CodeState::Active, owner }) => match owner {
                Identity::Other => return flow.refused(Reason::IdentityMismatch, StepName::ReadCode),
                Identity::Unreadable | Identity::Blank if flow.rules.strict_identity => {
                    return flow.refused(Reason::IdentityUnreadable, StepName::ReadCode);
                }
                Identity::Same | Identity::Unreadable | Identity::Blank => {}
            },
            _ => return flow.failed(Reason::UnreadableReply, StepName::ReadCode),
        }
    }
    Ok(())
}

/// Revokes one code. A repeat is recognised by the system (469), so that several intents may be
/// written ahead; a lost or unclear answer is read back all the same.
fn revoke(flow: &Flow<'_>, item: u32, codes: u32) -> Go<()> {
    let step = Step::item(StepName::RevokeCode, item);
    let read_back = |seq| match flow.read_after(Step::item(StepName::ReadBackCode, item), seq)? {
        Answer::Code { state: CodeState::Active, .. } => Ok(Seen::NotDone),
        // The user was read with the same key, so an unknown code is proven not to exist.
        Answer::Code { state: CodeState::Cancelled | CodeState::Unknown, .. } => Ok(Seen::Done),
        _ => flow.failed(Reason::UnreadableReply, StepName::ReadBackCode),
    };
    let unclear = |_, state: &StepState| {
        if state.unclear >= super::FEW { flow.refused(Reason::CodeNotRevoked, StepName::RevokeCode) } else { Ok(()) }
    };
    flow.act(step, codes - item, read_back, unclear).map(|_| ())
}

/// No unexpired licence is left. A revoked one may linger in the list for a moment, so it is looked
/// at a few times.
fn licenses(flow: &Flow<'_>) -> Go<()> {
    match flow.read(LICENSES)? {
        Answer::Licenses { unexpired: 0 } => Ok(()),
        Answer::Licenses { .. } => {
            let Some(state) = flow.state.get(LICENSES) else { return Err(Next::Call(LICENSES)) };
            if state.answers >= super::FEW && state.failure.is_none() {
                return flow.refused(Reason::UnknownContent, StepName::CheckLicenses);
            }
            let until = state.answered_at.plus(flow.pause(state.answers));
            if flow.now < until {
                return Err(Next::Wait { until, why: Why::Pending });
            }
            Err(flow.attempt(LICENSES, Some(state)))
        }
        _ => flow.failed(Reason::UnreadableReply, StepName::CheckLicenses),
    }
}

/// Tells the requester's endpoint. The erasure is done by now: a deaf endpoint does not undo it,
/// and the event names the follow-up in any case.
fn told(flow: &Flow<'_>) -> Go<()> {
    let Some(state) = flow.state.get(TELL) else { return Err(Next::Call(TELL)) };
    if state.answer.is_some() {
        return Ok(());
    }
    match flow.attempt(TELL, Some(state)) {
        Next::End(_) => Ok(()),
        _ if matches!(state.failure, Some((FailureKind::UnauthorisedTheirs(_), _))) => Ok(()),
        other => Err(other),
    }
}

fn shows(answer: &Answer) -> Option<Seen> {
    match answer {
        Answer::Values { stand: true } => Some(Seen::Done),
        Answer::Values { stand: false } => Some(Seen::NotDone),
        _ => None,
    }
}

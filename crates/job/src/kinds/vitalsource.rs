//! VitalSource: resolve the user, compare every code's owner, (confirm,) revoke every code, look for content that no
//! code explains, overwrite the identifiers, read back, notify the requester.
//!
//! The rule it keeps: every code is a checkpoint of its own. The identifiers are overwritten only if no given code
//! and no unknown licence is left.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{About, Lines, Spec, fields};
use crate::cursor::{Invalid, Node, Object};
use crate::field::{identifier, need, time};
use crate::flow::{Act, Confirm, FEW, Flow, Go, Next, Rules, Seen, Why, fields_to_overwrite};
use crate::outcome::{Reason, TargetEnd, TargetOutcome};
use crate::state::StepState;
use crate::step::{Answer, CodeState, FailureKind, Field, Identity, Step, StepName};

/// The most codes in a target.
pub const MAX_CODES: usize = 10_000;

pub(super) const KIND: About = About {
    name: "vitalsource",
    confirm: Confirm::Always,
    spec,
    next,
    id_form: None,
    lines: Lines {
        keys: &["guid", "reference"],
        found_by: &["guid", "reference"],
        is_enough: true,
        fields: &["guid", "reference", "codes"],
        needs: None,
        methods: &[],
        target: |word, value, _| fields([(word, json!(value)), ("codes", json!([]))]),
    },
};

/// A VitalSource code and what the requester's records say of it.
#[derive(Debug, Clone)]
pub struct Code {
    /// The code.
    pub code: SecretString,
    /// The time at which it was redeemed.
    pub redeemed_at: Option<Timestamp>,
    /// The part that was read, 0 to 100.
    pub percent_read: Option<f64>,
}

const RESOLVE: Step = Step::one(StepName::Resolve);
const LICENSES: Step = Step::one(StepName::CheckLicenses);
const OVERWRITE: Step = Step::one(StepName::OverwriteUser);
const READ_BACK: Step = Step::one(StepName::ReadBack);
const TELL: Step = Step::one(StepName::TellRequester);

fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    let Spec::VitalSource { codes, overwrite, .. } = &flow.target.spec else {
        return flow.failed(Reason::Invalid, StepName::Resolve);
    };
    let codes = u32::try_from(codes.len()).unwrap_or(u32::MAX);
    let resolved = flow.read(RESOLVE)?;
    match resolved {
        Answer::User { identity, guid, .. } => {
            flow.same_person(*identity)?;
            // The reference may lead to another user now; a GUID is never used twice.
            if flow.state.guid().is_some_and(|first| !first.eq_ignore_ascii_case(guid)) {
                return flow.refused(Reason::IdentityMismatch, StepName::Resolve);
            }
        }
        Answer::Missing { .. } => {}
        _ => return flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
    for item in flow.state.done_prefix(StepName::ReadCode)..codes {
        flow.read(Step::item(StepName::ReadCode, item))?;
    }
    let Answer::User { .. } = resolved else {
        return nobody(flow);
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
    for item in flow.state.done_prefix(StepName::ReadBackCode)..codes {
        revoked(flow, item)?;
    }
    let is_overwritten = flow.state.get(OVERWRITE).is_some_and(StepState::is_done);
    if !is_overwritten {
        if flow.rules.check_licenses {
            licenses(flow)?;
        }
        // Also midway: more data may be stored now than was approved.
        flow.approved(StepName::OverwriteUser)?;
    }
    values(flow, overwrite)?;
    if flow.rules.tell_requester {
        requester(flow)?;
    }
    // The notice may take long, and the state after it counts.
    flow.fresh(READ_BACK)?;
    Ok(TargetEnd::well(TargetOutcome::Anonymised))
}

/// Overwrites the identifiers and reads them back. If that shows more fields, the person has filled them in since:
/// all of them are overwritten again.
fn values(flow: &Flow<'_>, overwrite: &BTreeSet<Field>) -> Go<()> {
    if fields_to_overwrite(flow.state, overwrite).is_empty() {
        return blank(flow);
    }
    let read_back = |seq| {
        let answer = flow.read_after(READ_BACK, seq)?;
        shows(answer).map_or_else(|| flow.failed(Reason::Unproven, StepName::ReadBack), Ok)
    };
    let basis = if flow.rules.check_licenses { &[LICENSES, RESOLVE][..] } else { &[RESOLVE] };
    let act = Act::last(OVERWRITE, basis, READ_BACK);
    flow.act(act, read_back, |reason, _| flow.failed(reason, StepName::OverwriteUser))?;
    let look = flow.state.get(READ_BACK).filter(|look| look.failure.is_none() && look.seq > flow.seq(OVERWRITE));
    let is_settled = flow.state.get(OVERWRITE).is_some_and(|state| state.settled_done);
    let is_undone =
        |answer: &Answer| matches!(answer, Answer::Left { .. }) || (is_settled && shows(answer) == Some(Seen::NotDone));
    if look.and_then(|look| look.answer.as_ref()).is_some_and(is_undone) {
        return Err(Next::Settle { step: OVERWRITE, done: false });
    }
    flow.taken(OVERWRITE, READ_BACK, shows)?;
    flow.verified(OVERWRITE, shows)
}

/// No user has that name: without an active code there is nothing to erase.
fn nobody(flow: &Flow<'_>) -> Go<TargetEnd> {
    for state in flow.state.all(StepName::ReadCode) {
        match &state.answer {
            Some(Answer::Code { state: CodeState::Unknown | CodeState::Cancelled, .. }) => {}
            // An active code cannot be shown to be this person's: there is no user to compare with.
            Some(Answer::Code { state: CodeState::Active, .. }) => {
                return flow.refused(Reason::IdentityMismatch, StepName::ReadCode);
            }
            _ => return flow.failed(Reason::UnreadableReply, StepName::ReadCode),
        }
    }
    flow.fresh(RESOLVE)?;
    // Found before: the job's name may lead nowhere although the user exists.
    if flow.state.guid().is_some() {
        flow.fresh(READ_BACK)?;
        if !matches!(flow.read(READ_BACK)?, Answer::Missing(_)) {
            return flow.refused(Reason::IdentityMismatch, StepName::Resolve);
        }
    }
    Ok(if flow.is_preview() { flow.previewed() } else { TargetEnd::well(TargetOutcome::Absent) })
}

/// A user without data to overwrite: a read-back must still show that.
fn blank(flow: &Flow<'_>) -> Go<()> {
    if flow.rules.check_licenses {
        flow.fresh(LICENSES)?;
    }
    match flow.read(READ_BACK)? {
        Answer::Values { stand: true } => Ok(()),
        Answer::Values { stand: false } | Answer::Left { .. } => flow.failed(Reason::NotGone, StepName::ReadBack),
        _ => flow.failed(Reason::Unproven, StepName::ReadBack),
    }
}

/// Before the first revoke: no code may belong to another user, and none may be unknown while the user exists.
fn owners(flow: &Flow<'_>) -> Go<()> {
    flow.state.all(StepName::ReadCode).iter().try_for_each(|state| match &state.answer {
        Some(Answer::Code { state: CodeState::Unknown, .. }) => {
            flow.refused(Reason::IdentityMismatch, StepName::ReadCode)
        }
        answer => owner(flow, answer.as_ref()),
    })
}

fn owner(flow: &Flow<'_>, answer: Option<&Answer>) -> Go<()> {
    match answer {
        Some(Answer::Code { state: CodeState::Cancelled | CodeState::Unknown, .. }) => Ok(()),
        Some(Answer::Code { state: CodeState::Active, owner }) => match owner {
            Identity::Other => flow.refused(Reason::IdentityMismatch, StepName::ReadCode),
            Identity::Unreadable | Identity::Blank if flow.rules.strict_identity => {
                flow.refused(Reason::IdentityUnreadable, StepName::ReadCode)
            }
            Identity::Same | Identity::Unreadable | Identity::Blank => Ok(()),
        },
        _ => flow.failed(Reason::UnreadableReply, StepName::ReadCode),
    }
}

/// Revokes one code. The system recognises a repeat (469), so several intents may be written ahead. A lost or unclear
/// answer is still read back.
fn revoke(flow: &Flow<'_>, item: u32, codes: u32) -> Go<()> {
    let step = Step::item(StepName::RevokeCode, item);
    let (read, look) = (Step::item(StepName::ReadCode, item), Step::item(StepName::ReadBackCode, item));
    // The code's owner may have changed since all codes were compared.
    owner(flow, flow.state.get(read).and_then(|state| state.answer.as_ref()))?;
    let read_back = |seq| match is_revoked(flow.read_after(look, seq)?) {
        Some(seen) => Ok(seen),
        None => flow.failed(Reason::UnreadableReply, StepName::ReadBackCode),
    };
    let unclear = |_, state: &StepState| {
        if state.unclear >= FEW { flow.refused(Reason::CodeNotRevoked, StepName::RevokeCode) } else { Ok(()) }
    };
    let act =
        Act { step, basis: &[RESOLVE, read], rewrites: None, ahead: codes - item, item_read: Some(StepName::ReadCode) };
    flow.act(act, read_back, unclear).map(|_| ())
}

/// The answer to a revoke has no content, and any proxy before the system can give the same. So only the code's own
/// read proves that it is cancelled. The system may need a moment to show it.
fn revoked(flow: &Flow<'_>, item: u32) -> Go<()> {
    let revoke = Step::item(StepName::RevokeCode, item);
    let look = Step::item(StepName::ReadBackCode, item);
    // A code that a read-back settled was read before that.
    let is_settled = flow.state.get(revoke).is_some_and(|state| state.settled_done);
    match flow.read_after(look, if is_settled { 0 } else { flow.seq(revoke) })? {
        Answer::Code { state: CodeState::Cancelled | CodeState::Unknown, .. } => Ok(()),
        Answer::Code { state: CodeState::Active, .. } => match flow.looks_again(look) {
            Some(next) => Err(next),
            None => {
                flow.taken(revoke, look, is_revoked)?;
                flow.refused(Reason::CodeNotRevoked, StepName::RevokeCode)
            }
        },
        _ => flow.failed(Reason::UnreadableReply, StepName::ReadBackCode),
    }
}

fn is_revoked(answer: &Answer) -> Option<Seen> {
    match answer {
        Answer::Code { state: CodeState::Active, .. } => Some(Seen::NotDone),
        // A client gives this answer only with a proof.
        Answer::Code { state: CodeState::Cancelled | CodeState::Unknown, .. } => Some(Seen::Done),
        _ => None,
    }
}

/// No unexpired licence may be left. A revoked one may stay in the list for a moment, so the list is read a few
/// times.
fn licenses(flow: &Flow<'_>) -> Go<()> {
    match flow.read(LICENSES)? {
        Answer::Licenses { unexpired: 0 } => Ok(()),
        Answer::Licenses { .. } => {
            let Some(state) = flow.state.get(LICENSES) else { return Err(Next::Call(LICENSES)) };
            if state.answers >= FEW && state.failure.is_none() {
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

/// Sends a notice to the requester's endpoint. The erasure is already done: a failing endpoint does not undo it, and
/// the event names the follow-up in any case.
fn requester(flow: &Flow<'_>) -> Go<()> {
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
        Answer::Values { stand: false } | Answer::Left { .. } => Some(Seen::NotDone),
        _ => None,
    }
}

fn spec(object: &mut Object<'_>, _rules: &Rules) -> Result<Spec, Invalid> {
    let guid = identifier(object, "guid")?;
    let reference = identifier(object, "reference")?;
    if guid.is_none() && reference.is_none() {
        return Err(Invalid::at(object.path_of("guid"), "is missing; expected guid, reference or both"));
    }
    let path = object.path_of("codes");
    let items = object.list("codes")?.unwrap_or_default();
    if items.len() > MAX_CODES {
        return Err(Invalid::at(path, format!("has {} entries; expected at most {MAX_CODES}", items.len())));
    }
    let mut codes: Vec<Code> = Vec::with_capacity(items.len());
    for (index, node) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let mut inner = object.within(node, path.clone())?;
        let code = need(identifier(&mut inner, "code")?, &inner, "code")?;
        let redeemed_at = time(&mut inner, "redeemed_at")?;
        let percent_read = inner.number("percent_read")?;
        if percent_read.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(Invalid::at(inner.path_of("percent_read"), "expected a number from 0 to 100"));
        }
        inner.finish()?;
        codes.push(Code { code, redeemed_at, percent_read });
    }
    let mut seen = HashSet::with_capacity(codes.len());
    if let Some(twice) = codes.iter().position(|code| !seen.insert(code.code.expose_secret())) {
        return Err(Invalid::at(format!("{path}[{twice}].code"), "appears twice; expected each code once"));
    }
    let mut overwrite = BTreeSet::new();
    let path = object.path_of("overwrite");
    for (index, node) in object.list("overwrite")?.unwrap_or_default().iter().enumerate() {
        let field = match node {
            Node::Text(text) => Field::ALL.into_iter().find(|field| field.as_str() == text.as_str()),
            _ => None,
        };
        let names: Vec<_> = Field::ALL.iter().map(|field| field.as_str()).collect();
        overwrite.insert(
            field.ok_or_else(|| {
                Invalid::at(format!("{path}[{index}]"), format!("expected one of {}", names.join(", ")))
            })?,
        );
    }
    Ok(Spec::VitalSource { guid, reference, codes, overwrite })
}

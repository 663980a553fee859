//! Cleeng: compare, list, (confirm,) terminate each entitlement, list again, anonymise, read back.
//!
//! The rule it keeps: the customer is deleted only if no entitlement gives access, and a 404 to the delete proves
//! nothing without a read-back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::json;

use super::{About, Lines, Spec, fields};
use crate::cursor::{Invalid, Node, Object};
use crate::field::{MAX_PROOF, customer_id, email, is_customer_id, need};
use crate::flow::{Act, Confirm, Evidence, FEW, Flow, Go, Next, Rules, Seen};
use crate::outcome::{Reason, TargetEnd, TargetOutcome};
use crate::state::StepState;
use crate::step::{Answer, FailureKind, Identity, Step, StepName};

pub(super) const KIND: About = About {
    name: "cleeng",
    confirm: Confirm::WhenActive,
    spec,
    next,
    id_form: Some(is_customer_id),
    lines: Lines {
        keys: &["customer_id"],
        found_by: &["customer_id", "email"],
        is_enough: false,
        fields: &["customer_email"],
        needs: Some(("customer_email", "Cleeng needs the customer's e-mail address as well")),
        methods: &[],
        target: |word, value, _| fields([("flow", json!("backend")), (word, json!(value))]),
    },
};

const RESOLVE: Step = Step::one(StepName::Resolve);
/// By the e-mail address, if the id finds nobody.
const BY_EMAIL: Step = Step::item(StepName::Resolve, 1);
const DELETE: Step = Step::one(StepName::DeleteCustomer);
/// The first list: the customer's offers, or Core's entitlements.
const FIRST_LIST: Step = Step::item(StepName::ListEntitlements, 0);
/// Every later list, always from Core with the publisher token.
const CORE_LIST: Step = Step::item(StepName::ListEntitlements, 1);
const READ_BACK: Step = Step::one(StepName::ReadBack);

fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
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
    list(flow.read(FIRST_LIST)?, flow)?;
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    let deleted = flow.state.get(DELETE).is_some_and(|state| state.is_done());
    if !deleted {
        // Also midway: a later list may show entitlements that were not approved.
        flow.approved(StepName::TerminateEntitlement)?;
    }
    if !flow.state.touched {
        flow.confirmed(!flow.state.with_access.is_empty(), StepName::TerminateEntitlement)?;
    }

    if !deleted {
        end_access(flow, is_backend)?;
    }
    let basis = basis(flow);
    let act = Act::last(DELETE, &basis, READ_BACK);
    let unclear = |reason, state: &StepState| match flow.state.get(READ_BACK).and_then(|state| state.answer.as_ref()) {
        // The call with the lost answer may have deleted the customer, or the customer may have another e-mail
        // address since.
        Some(Answer::Found(Identity::Other)) if state.doubted => flow.failed(Reason::Unproven, StepName::ReadBack),
        Some(Answer::Found(Identity::Other)) => flow.refused(Reason::IdentityMismatch, StepName::ReadBack),
        _ => flow.refused(reason, StepName::DeleteCustomer),
    };
    let evidence = flow.act(act, |seq| gone(flow, seq), unclear)?;
    flow.verified(DELETE, |answer| shows(flow, answer))?;
    Ok(TargetEnd::well(match evidence {
        Evidence::NotOurs => TargetOutcome::Absent,
        Evidence::Answer | Evidence::Before => TargetOutcome::Anonymised,
    }))
}

/// The reads of the person and of the access: a list by either interface; if none is recent, by the publisher token,
/// since the customer's own may have expired.
fn basis(flow: &Flow<'_>) -> [Step; 2] {
    let list = if flow.state.is_fresh(FIRST_LIST, flow.now) { FIRST_LIST } else { CORE_LIST };
    [RESOLVE, list]
}

/// Anything but a list says nothing about access.
fn list(answer: &Answer, flow: &Flow<'_>) -> Go<()> {
    match answer {
        Answer::Entitlements(_) => Ok(()),
        _ => flow.failed(Reason::UnreadableReply, StepName::ListEntitlements),
    }
}

/// The id finds nobody. The e-mail address is looked up too: it may find another customer, or the same one. And the
/// access is listed: a list with access contradicts the absence.
fn absent(flow: &Flow<'_>) -> Go<TargetEnd> {
    match flow.read_after(BY_EMAIL, flow.seq(RESOLVE))? {
        Answer::Missing(_) => {}
        Answer::Found(Identity::Other) => return flow.refused(Reason::IdentityMismatch, StepName::Resolve),
        _ => return flow.failed(Reason::Unproven, StepName::Resolve),
    }
    // The access of an earlier list may have ended since.
    list(flow.read_after(CORE_LIST, flow.seq(RESOLVE))?, flow)?;
    flow.fresh(RESOLVE)?;
    flow.fresh(BY_EMAIL)?;
    if flow.state.with_access.is_empty() {
        return Ok(if flow.is_preview() { flow.previewed() } else { TargetEnd::well(TargetOutcome::Absent) });
    }
    flow.failed(Reason::Unproven, StepName::Resolve)
}

/// Terminates every entitlement that gives access. In the backend flow (or after a doubt) it lists again until none
/// does.
fn end_access(flow: &Flow<'_>, is_backend: bool) -> Go<()> {
    // "User has an active subscription": read once more, then accept it.
    if let Some(state) = flow.state.get(DELETE)
        && matches!(state.failure, Some((FailureKind::Refused, Reason::ActiveEntitlement)))
        && state.refusals == 1
    {
        list(flow.read_after(CORE_LIST, state.seq)?, flow)?;
        return Err(Next::Settle { step: DELETE, done: false });
    }
    let count = u32::try_from(flow.state.entitlements.len()).unwrap_or(u32::MAX);
    for item in flow.state.done_prefix(StepName::TerminateEntitlement)..count {
        terminate(flow, item)?;
    }
    let acted = flow.state.all(StepName::TerminateEntitlement).iter().zip(0..).max_by_key(|(state, _)| state.seq);
    let Some((_, last)) = acted else { return Ok(()) };
    // The MediaStore flow continues with the delete, which refuses (422) if there is access.
    if is_backend || flow.state.get(CORE_LIST).is_some() {
        let has_no_access =
            |answer: &Answer| matches!(answer, Answer::Entitlements(rows) if rows.iter().all(|row| !row.gives_access));
        let answer = flow.poll_after(CORE_LIST, Step::item(StepName::TerminateEntitlement, last), has_no_access)?;
        list(answer, flow)?;
        if !has_no_access(answer) {
            return flow.refused(Reason::ActiveEntitlement, StepName::TerminateEntitlement);
        }
    }
    Ok(())
}

/// Terminates one entitlement that gives access.
fn terminate(flow: &Flow<'_>, item: u32) -> Go<()> {
    let step = Step::item(StepName::TerminateEntitlement, item);
    let state = flow.state.get(step);
    if state.is_none() && !flow.state.entitlements[item as usize].gives_access {
        return Ok(());
    }
    if let Some(StepState { failure: Some((FailureKind::Refused, reason)), seq, .. }) = state {
        // No customer has the e-mail address now: another job may have anonymised the customer since.
        if *reason == Reason::IdentityMismatch {
            flow.read_after(RESOLVE, *seq)?;
        // It may have ended before, with a lost answer: the list shows that, or the refusal counts.
        } else if ended(flow, item, *seq)? == Seen::Done {
            return Err(Next::Settle { step, done: true });
        }
    }
    let basis = basis(flow);
    let act = Act::one(step, &basis);
    flow.act(act, |seq| ended(flow, item, seq), |reason, state| still_active(flow, reason, state.unclear)).map(|_| ())
}

fn still_active(flow: &Flow<'_>, reason: Reason, times: u32) -> Go<()> {
    if times >= FEW { flow.refused(reason, StepName::TerminateEntitlement) } else { Ok(()) }
}

/// Whether entitlement `item` has lost its access, by a list made after `seq`.
fn ended(flow: &Flow<'_>, item: u32, seq: u64) -> Go<Seen> {
    list(flow.read_after(CORE_LIST, seq)?, flow)?;
    Ok(if flow.state.with_access.contains(&item) { Seen::NotDone } else { Seen::Done })
}

fn gone(flow: &Flow<'_>, seq: u64) -> Go<Seen> {
    let answer = flow.read_after(READ_BACK, seq)?;
    shows(flow, answer).map_or_else(|| flow.failed(Reason::Unproven, StepName::ReadBack), Ok)
}

/// A read-back by id: gone, or anonymised (another e-mail address, or none). People change their e-mail address too.
/// So another one counts only together with the delete's own success answer, or if that answer was lost and the
/// person was still seen less than a minute before.
fn shows(flow: &Flow<'_>, answer: &Answer) -> Option<Seen> {
    match answer {
        Answer::Missing { .. } | Answer::Found(Identity::Blank) => Some(Seen::Done),
        Answer::Found(Identity::Other) => another_email(flow),
        Answer::Found(_) => Some(Seen::NotDone),
        _ => None,
    }
}

fn another_email(flow: &Flow<'_>) -> Option<Seen> {
    let delete = flow.state.get(DELETE)?;
    let read_at = flow.state.get(READ_BACK).map_or(flow.now, |state| state.answered_at);
    match delete.answer {
        Some(Answer::Done) => Some(Seen::Done),
        Some(_) => Some(Seen::NotDone),
        None if delete.doubted && flow.state.was_seen_before(read_at) => Some(Seen::Done),
        None => None,
    }
}

fn spec(object: &mut Object<'_>, _rules: &Rules) -> Result<Spec, Invalid> {
    match object.need_text("flow")? {
        "backend" => {
            let customer_id = need(customer_id(object, "customer_id")?, object, "customer_id")?;
            let customer_email = need(email(object, "customer_email")?, object, "customer_email")?;
            Ok(Spec::CleengBackend { customer_id, customer_email })
        }
        "mediastore" => {
            let token = object.need_text("customer_token")?;
            let customer_id = jwt_customer(token).ok_or_else(|| {
                Invalid::at(
                    object.path_of("customer_token"),
                    "expected a JWT whose customerId claim is a string of digits",
                )
            })?;
            let customer_email = need(email(object, "customer_email")?, object, "customer_email")?;
            Ok(Spec::CleengMediastore { customer_token: token.into(), customer_id, customer_email })
        }
        _ => Err(Invalid::at(object.path_of("flow"), "expected backend or mediastore")),
    }
}

/// The `customerId` claim of a JWT, unverified: MediaStore verifies the token. Here it is needed only to know its
/// person before the first destructive call.
fn jwt_customer(token: &str) -> Option<SecretString> {
    if token.len() > MAX_PROOF || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let payload = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let Node::Object(claims) = Node::parse(&payload).ok()? else { return None };
    let (_, claim) = claims.iter().find(|(name, _)| name == "customerId")?;
    let digits = match claim {
        Node::Text(text) => text.to_string(),
        Node::Number(number) => number.to_string(),
        _ => return None,
    };
    is_customer_id(&digits).then(|| digits.into())
}

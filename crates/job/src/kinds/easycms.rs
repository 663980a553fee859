//! EasyCMS: look for the account, delete it with the customer's password, read back.
//!
//! The rule it keeps: "does not exist or your credentials do not match" is decided only by a read of the account.

use serde_json::json;

use super::{About, Lines, Spec, fields};
use crate::cursor::{Invalid, Object};
use crate::field::{MAX_PROOF, email, need, secret};
use crate::flow::{Act, Confirm, Evidence, Flow, Go, Next, Rules, Seen};
use crate::outcome::{InputKind, Reason, TargetEnd, TargetOutcome};
use crate::step::{Answer, Step, StepName};

pub(super) const KIND: About = About {
    name: "easycms",
    confirm: Confirm::Never,
    spec,
    next,
    id_form: None,
    lines: Lines {
        keys: &["email"],
        found_by: &["email"],
        is_enough: true,
        fields: &["customer_password"],
        needs: None,
        methods: &[],
        target: |word, value, _| fields([(word, json!(value))]),
    },
};

fn spec(object: &mut Object<'_>, _rules: &Rules) -> Result<Spec, Invalid> {
    Ok(Spec::EasyCms {
        email: need(email(object, "email")?, object, "email")?,
        customer_password: secret(object, "customer_password", MAX_PROOF)?,
    })
}

const RESOLVE: Step = Step::one(StepName::Resolve);
const DELETE: Step = Step::one(StepName::DeleteAccount);
const READ_BACK: Step = Step::one(StepName::ReadBack);

fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    match flow.read(RESOLVE)? {
        Answer::Missing { .. } if flow.is_preview() => return Ok(flow.previewed()),
        Answer::Missing { .. } => return Ok(TargetEnd::well(TargetOutcome::Absent)),
        Answer::Found(identity) => flow.same_person(*identity)?,
        _ => return flow.failed(Reason::UnreadableReply, StepName::Resolve),
    };
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    if !flow.is_sent(DELETE) {
        flow.approved(StepName::DeleteAccount)?;
    }
    flow.confirmed(true, StepName::DeleteAccount)?;
    if !flow.is_sent(DELETE) && matches!(flow.target.spec, Spec::EasyCms { customer_password: None, .. }) {
        return Err(Next::Ask(vec![flow.ask(InputKind::CustomerPassword, StepName::DeleteAccount)]));
    }
    let read_back = |seq| {
        let answer = flow.read_after(READ_BACK, seq)?;
        shows(answer).map_or_else(|| flow.failed(Reason::Unproven, StepName::ReadBack), Ok)
    };
    let evidence = flow.act(Act::last(DELETE, &[RESOLVE], READ_BACK), read_back, |reason, _| {
        flow.failed(reason, StepName::DeleteAccount)
    })?;
    flow.verified(DELETE, shows)?;
    Ok(TargetEnd::well(match evidence {
        Evidence::NotOurs => TargetOutcome::Absent,
        Evidence::Answer | Evidence::Before => TargetOutcome::Erased,
    }))
}

/// Only a well-formed, authenticated reply has a count, so a count of 0 is proof by itself.
fn shows(answer: &Answer) -> Option<Seen> {
    match answer {
        Answer::Missing { .. } => Some(Seen::Done),
        Answer::Found(_) => Some(Seen::NotDone),
        _ => None,
    }
}

//! A request's id and body, and the documented form of an answer.
//!
//! The rule it keeps: the same call has the same bytes whenever it is made. Only its time and signature differ.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::job::{Failure, FailureKind, Reason};
use crate::systems::Call;
use crate::systems::http::{Effect, Reply};

/// The namespace of ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d9b_7c64_0e5f_4f0a_b1c8_94a3_6d17_e2f5);

/// The id of a target's request in a run. The receiver recognises a repeat by it.
pub(super) fn id(call: &Call<'_>) -> String {
    let key = &call.job.key;
    let about = format!("{}/{}/{}/{}", key.tenant, key.job_id, call.index, call.facts.run_began_at.0);
    Uuid::new_v5(&NAMESPACE, about.as_bytes()).to_string()
}

/// A body about a person. Its time is the job's, so that a repeat has the same bytes.
pub(super) fn about(
    kind: &str,
    id: &str,
    system: &str,
    call: &Call<'_>,
    subject: &BTreeMap<String, SecretString>,
) -> Value {
    let key = &call.job.key;
    json!({
        "type": kind,
        "timestamp": call.job.requested_at,
        "data": { "id": id, "system": system, "tenant": key.tenant, "job_id": key.job_id, "subject": shown(subject) },
    })
}

/// The identifiers as a JSON object.
pub(super) fn shown(subject: &BTreeMap<String, SecretString>) -> Map<String, Value> {
    subject.iter().map(|(name, value)| (name.clone(), value.expose_secret().into())).collect()
}

/// An answer of the receiver. Another field is permitted; a repeated one is not.
#[derive(Deserialize)]
pub(super) struct Said {
    pub status: Status,
    /// Whether every identifier names this person.
    pub same: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Erased,
    Absent,
    Accepted,
    Refused,
    Found,
    /// To a probe alone.
    Ready,
}

/// The answer, if the reply has the documented form.
pub(super) fn said(reply: &Reply, effect: Effect) -> Result<Said, Failure> {
    match reply.status() {
        200 | 202 => reply.json().ok_or_else(|| reply.unreadable(effect)),
        401 | 403 => Err(reply.failure(effect)),
        _ => Err(reply.not_from_interface(effect)),
    }
}

/// The answer to an erasure or about its status. Another person's data is never erased data of this one.
pub(super) fn outcome(reply: &Reply, effect: Effect) -> Result<Status, Failure> {
    match said(reply, effect)? {
        Said { same: Some(false), .. } => Err(Failure::new(FailureKind::Refused, Reason::IdentityMismatch)
            .with_note("the receiver says that the identifiers name another person")),
        Said { status: Status::Refused, .. } => {
            Err(Failure::new(FailureKind::Refused, Reason::Precondition).with_note("the receiver refuses"))
        }
        Said { status: Status::Erased, same: None } | Said { status: Status::Found | Status::Ready, .. } => {
            Err(reply.unreadable(effect))
        }
        Said { status, .. } => Ok(status),
    }
}

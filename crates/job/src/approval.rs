//! The losses of a target as its reads found them, and the check of a later read against them.
//!
//! The rule it keeps: a loss counts as new unless the approver has certainly seen it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::journal::At;
use super::reading::{Fact, Means};
use super::state::TargetState;
use super::step::Field;
use super::step::{Answer, CodeState, Entitlement, Identity, StepName};

/// The approvals of an erasure by another operator than its requesters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Approving {
    /// The requesters; empty if no approval is needed.
    pub requested_by: Vec<String>,
    /// The last approval.
    pub approved: Option<Approved>,
    /// The operator who rejected it, and the time.
    pub rejected: Option<(String, At)>,
}

impl Approving {
    /// True if nothing may be erased without an approval.
    pub fn is_needed(&self) -> bool {
        !self.requested_by.is_empty()
    }
}

/// An approval, with its findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// The operator.
    pub by: String,
    /// The time.
    pub at: At,
    /// The findings at that time.
    pub found: Found,
}

/// The person that one kind of read found.
///
/// Stored: a variant's place is its form on the disk. A new one goes to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Seen {
    Nobody,
    Somebody { is_same: bool, guid: Option<String>, email: Option<String> },
}

impl Seen {
    fn of(answer: &Answer) -> Option<Seen> {
        match answer {
            Answer::Missing { .. } | Answer::Found(Identity::Blank) => Some(Seen::Nobody),
            Answer::Found(identity) => {
                Some(Seen::Somebody { is_same: *identity == Identity::Same, guid: None, email: None })
            }
            Answer::User { identity, guid, email, .. } => Some(Seen::Somebody {
                is_same: *identity == Identity::Same,
                guid: Some(guid.clone()),
                email: email.clone(),
            }),
            Answer::Connector(reading) => match reading.means {
                Means::Gone(_) => Some(Seen::Nobody),
                Means::Found(identity) => {
                    Some(Seen::Somebody { is_same: identity == Identity::Same, guid: None, email: None })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The findings of a target's reads. They name the person: they stay in memory, and leave it only as a keyed digest.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    persons: Vec<Option<Seen>>,
    fields: Vec<Field>,
    access: Vec<Entitlement>,
    codes: Vec<u32>,
    /// Only a connector has any: without them the bytes are those of earlier releases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    facts: BTreeMap<u16, Fact>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("access", &self.access.len()).field("codes", &self.codes).finish_non_exhaustive()
    }
}

impl Found {
    /// The findings in a target's state.
    pub fn of(target: &TargetState) -> Found {
        let resolved = target.all(StepName::Resolve);
        let fields = resolved.iter().find_map(|state| match &state.answer {
            Some(Answer::User { fields, .. }) => Some(fields.clone()),
            _ => None,
        });
        let is_active = |answer: &Option<Answer>| matches!(answer, Some(Answer::Code { state: CodeState::Active, .. }));
        let codes = target.all(StepName::ReadCode).iter().zip(0..).filter(|(state, _)| is_active(&state.answer));
        // Not the facts of acts: they come after the approval.
        let readings = [StepName::Resolve, StepName::ConnectorRead].into_iter().flat_map(|name| target.all(name));
        let readings = readings.filter_map(|state| state.answer.as_ref()?.reading());
        Found {
            facts: readings.flat_map(|reading| reading.facts.iter().cloned()).collect(),
            persons: resolved.iter().map(|state| state.answer.as_ref().and_then(Seen::of)).collect(),
            fields: fields.unwrap_or_default(),
            access: target.entitlements.iter().filter(|row| row.gives_access).cloned().collect(),
            codes: codes.map(|(_, item)| item).collect(),
        }
    }

    /// The same bytes for the same findings.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// True if the approved findings name all losses.
    pub fn is_within(&self, approved: &Found) -> bool {
        let known = |(item, seen): (usize, &Option<Seen>)| match (seen, approved.persons.get(item)) {
            (None | Some(Seen::Nobody), _) => true,
            (Some(seen), Some(Some(before))) => seen == before,
            (Some(_), _) => false,
        };
        self.persons.iter().enumerate().all(known)
            && self.fields.iter().all(|field| approved.fields.contains(field))
            && self.codes.iter().all(|code| approved.codes.contains(code))
            && self.facts.iter().all(|(place, fact)| approved.facts.get(place).is_some_and(|old| fact.is_within(old)))
            && is_covered(&self.access, &approved.access)
    }
}

/// True if each row has an approved row of its own.
fn is_covered(rows: &[Entitlement], approved: &[Entitlement]) -> bool {
    let mut left: Vec<&Entitlement> = approved.iter().collect();
    // Rows with an id first: a row without an id must not use an approved row that fits one of these.
    let mut rows: Vec<&Entitlement> = rows.iter().collect();
    rows.sort_by_key(|row| row.id.is_none());
    rows.into_iter().all(|row| {
        let same = |known: &Entitlement, exactly: bool| {
            let same_id = row.id == known.id || (!exactly && (row.id.is_none() || known.id.is_none()));
            // Active again since, or moved to an app store: no longer the approved row.
            let same_worth = row.status == known.status || row.status != "active";
            same_id
                && same_worth
                && row.offer_id == known.offer_id
                && (known.externally_managed || !row.externally_managed)
        };
        let place = left.iter().position(|known| same(known, true));
        let place = place.or_else(|| left.iter().position(|known| same(known, false)));
        place.map(|place| left.swap_remove(place)).is_some()
    })
}

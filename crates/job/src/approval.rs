//! What a target stands to lose, as its reads told it, and whether a later look shows more.
//!
//! The rule it keeps: whatever is not certain to have been seen by the approver counts as new.

use serde::{Deserialize, Serialize};

use super::journal::At;
use super::kinds::Field;
use super::state::TargetState;
use super::step::{Answer, CodeState, Entitlement, Identity, StepName};

/// That the erasure waits for the approval of somebody else than who asks for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Approving {
    /// Who asked for it; nobody where none is needed.
    pub requested_by: Vec<String>,
    /// The approval that was given last.
    pub approved: Option<Approved>,
    /// Who said no, and when.
    pub rejected: Option<(String, At)>,
}

impl Approving {
    /// True where nothing may be erased unapproved.
    pub fn is_needed(&self) -> bool {
        !self.requested_by.is_empty()
    }
}

/// An approval: of what, by whom, when.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// Who.
    pub by: String,
    /// When.
    pub at: At,
    /// What had been found by then.
    pub found: Found,
}

/// Whom one kind of read found.
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
            _ => None,
        }
    }
}

/// What a target's reads found. It names the person: it stays in memory, and leaves it only as a
/// keyed digest.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    persons: Vec<Option<Seen>>,
    fields: Vec<Field>,
    access: Vec<Entitlement>,
    codes: Vec<u32>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("access", &self.access.len()).field("codes", &self.codes).finish_non_exhaustive()
    }
}

impl Found {
    /// What a target's state says.
    pub fn of(target: &TargetState) -> Found {
        let resolved = target.all(StepName::Resolve);
        let fields = resolved.iter().find_map(|state| match &state.answer {
            Some(Answer::User { fields, .. }) => Some(fields.clone()),
            _ => None,
        });
        let is_active = |answer: &Option<Answer>| matches!(answer, Some(Answer::Code { state: CodeState::Active, .. }));
        let codes = target.all(StepName::ReadCode).iter().zip(0..).filter(|(state, _)| is_active(&state.answer));
        Found {
            persons: resolved.iter().map(|state| state.answer.as_ref().and_then(Seen::of)).collect(),
            fields: fields.unwrap_or_default(),
            access: target.entitlements.iter().filter(|row| row.gives_access).cloned().collect(),
            codes: codes.map(|(_, item)| item).collect(),
        }
    }

    /// The same for the same findings.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// True where nothing is lost that the approved findings do not name.
    pub fn is_within(&self, approved: &Found) -> bool {
        let known = |(item, seen): (usize, &Option<Seen>)| match (seen, approved.persons.get(item)) {
            (None | Some(Seen::Nobody), _) => true,
            (Some(seen), Some(Some(before))) => seen == before,
            (Some(_), _) => false,
        };
        self.persons.iter().enumerate().all(known)
            && self.fields.iter().all(|field| approved.fields.contains(field))
            && self.codes.iter().all(|code| approved.codes.contains(code))
            && is_covered(&self.access, &approved.access)
    }
}

/// Each of these is one of those, and no two are the same one.
fn is_covered(rows: &[Entitlement], approved: &[Entitlement]) -> bool {
    let mut left: Vec<&Entitlement> = approved.iter().collect();
    // Those that carry an id first: a row without one must not use theirs up.
    let mut rows: Vec<&Entitlement> = rows.iter().collect();
    rows.sort_by_key(|row| row.id.is_none());
    rows.into_iter().all(|row| {
        let same = |known: &Entitlement, exactly: bool| {
            let same_id = row.id == known.id || (!exactly && (row.id.is_none() || known.id.is_none()));
            // Taken up again since, or handed over to an app store: no longer what was approved.
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

//! The evidence for "this person does not exist in the system".
//!
//! The rule it keeps: an absence is believed only if the interface itself reported it in its own form, and address
//! and credential have found a person before. Each kind recognises its interface's form in one function
//! (`interface.rs`). Only this file makes an [`Absence`].

use std::sync::atomic::{AtomicBool, Ordering};

use crate::job::{Absence, Answer, Reason};

/// The interface's own report that the person does not exist. Made only after its form was recognised.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotFound(());

impl NotFound {
    /// The report was read in the interface's own form.
    pub(super) const fn reported() -> NotFound {
        NotFound(())
    }
}

/// The proof that a client's address and credential can find a person.
///
/// A client has one address and one credential; the proof holds for these only. A refused call or an empty list is
/// no proof: with the credential of another shop all lists are empty.
#[derive(Debug, Default)]
pub struct Credential {
    has_shown_somebody: AtomicBool,
    knows_somebody: bool,
}

impl Credential {
    /// `knows_somebody`: the client's probe reads a person who always exists.
    pub fn new(knows_somebody: bool) -> Credential {
        Credential { knows_somebody, ..Credential::default() }
    }

    /// True after a person was found.
    pub fn is_proven(&self) -> bool {
        self.has_shown_somebody.load(Ordering::Acquire)
    }

    /// Notes that a person was found.
    pub fn prove(&self) {
        self.has_shown_somebody.store(true, Ordering::Release);
    }

    /// True if the probe can find a person.
    pub(crate) fn knows_somebody(&self) -> bool {
        self.knows_somebody
    }

    /// The absence that follows from the interface's report; `None` without a proof of the credential.
    pub(super) fn vouched(&self, _: NotFound) -> Option<Absence> {
        self.is_proven().then(Absence::vouched)
    }

    /// The answer that follows from the interface's report of absence.
    pub(super) fn absence(&self, not_found: NotFound) -> Answer {
        self.vouched(not_found).map_or(Answer::Unclear(Reason::Unproven), Answer::Missing)
    }
}

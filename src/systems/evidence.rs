//! What counts as evidence that nobody is there.
//!
//! The rule it keeps: an absence is believed only where the interface itself told it in its own form, at an
//! address and with a credential that have shown somebody. Each kind has one function that knows the
//! interface's form (`interface.rs`); this is the one place where an [`Absence`] is made.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::job::{Absence, Answer, Reason};

/// The interface's own word that nobody is there. Made only where a kind's form of it was recognised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone(());

impl Gone {
    /// The word was read in the interface's own form.
    pub(super) const fn told() -> Gone {
        Gone(())
    }
}

/// Whether the address and the credential of a client have ever shown somebody.
///
/// A client is built for one address and one credential, so this says nothing of any other. What a refused
/// call or an empty list says is not enough: with the credential of another shop all lists are empty.
#[derive(Debug, Default)]
pub struct Credential {
    has_shown_somebody: AtomicBool,
    knows_somebody: bool,
}

impl Credential {
    /// With `knows_somebody` the client's probe reads a person who is always there.
    pub fn new(knows_somebody: bool) -> Credential {
        Credential { knows_somebody, ..Credential::default() }
    }

    /// True once somebody was shown.
    pub fn is_proven(&self) -> bool {
        self.has_shown_somebody.load(Ordering::Acquire)
    }

    /// Somebody was shown.
    pub fn prove(&self) {
        self.has_shown_somebody.store(true, Ordering::Release);
    }

    /// True where the probe can show somebody.
    pub fn knows_somebody(&self) -> bool {
        self.knows_somebody
    }

    /// What the interface's word that nobody is there comes to.
    pub(super) fn absence(&self, _: Gone) -> Answer {
        if self.is_proven() { Answer::Missing(Absence::vouched()) } else { Answer::Unclear(Reason::Unproven) }
    }
}

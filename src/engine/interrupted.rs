//! The reason why the work on a delivery was interrupted.
//!
//! The rule it keeps: an interrupted delivery is not acked; the broker redelivers its message.

use super::journal::JournalError;
use super::outbox::GaveUp;
use crate::store::StoreError;

/// The reason why a delivery could not be settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job's records cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
    /// The delivery's channel was lost.
    #[error("the delivery's channel was lost")]
    Lost,
}

impl From<GaveUp> for Interrupted {
    fn from(_: GaveUp) -> Self {
        Interrupted::Lost
    }
}

impl Interrupted {
    pub(super) fn store(&self) -> Option<&StoreError> {
        match self {
            Interrupted::Store(error) | Interrupted::Journal(JournalError::Store(error)) => Some(error),
            _ => None,
        }
    }
}

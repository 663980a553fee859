//! The key of one job: it exists only while the job's message is in hand.
//!
//! The rule it keeps: the key is derived from the person's data in the message, and never stored. So disk and master
//! key together cannot open what it sealed.

use std::fmt;

use zeroize::Zeroizing;

use super::master::KeyId;
use super::{SealError, envelope};

/// Seals and opens one job's records. Made by [`Keyring::job_secret`](super::Keyring::job_secret).
pub struct JobSecret {
    /// The current key first; never empty.
    pub(super) current: (KeyId, Zeroizing<[u8; 32]>),
    pub(super) previous: Vec<(KeyId, Zeroizing<[u8; 32]>)>,
}

impl fmt::Debug for JobSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSecret").field("master", &self.current.0).finish_non_exhaustive()
    }
}

impl JobSecret {
    /// Seals a record; `aad` names the record and is needed again to open it.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        envelope::seal(self.current.0, &self.current.1, aad, plain)
    }

    /// Opens a record sealed by this job under the current or a previous master key.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = std::iter::once(&self.current).chain(&self.previous).map(|(id, key)| (*id, &**key));
        envelope::open(keys, aad, sealed)
    }
}

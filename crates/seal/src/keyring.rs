//! The current master key, the previous ones of a rotation, and everything made with them.
//!
//! The rule it keeps: new bytes are made with the current key only; bytes of a previous key are still read and
//! recognised.

use std::fmt;

use hmac::Mac;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::job_secret::JobSecret;
use super::master::{KeyError, KeyId, MasterKey, feed, keyed};
use super::{SealError, envelope};

/// Bytes of a [`Digest`].
pub const DIGEST_LEN: usize = 36;

/// A keyed digest: four bytes with the master key's id, then 32 bytes of HMAC-SHA256.
pub type Digest = [u8; DIGEST_LEN];

/// The keys in use.
pub struct Keyring {
    current: MasterKey,
    previous: Vec<MasterKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current).field("previous", &self.previous).finish()
    }
}

impl Keyring {
    /// The current key, and the previous keys, whose bytes are still in use.
    ///
    /// A repeated key is an error: probably the new key was not installed.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Result<Self, KeyError> {
        for (n, key) in previous.iter().enumerate() {
            if key.id() == current.id() || previous[..n].iter().any(|other| other.id() == key.id()) {
                return Err(KeyError::Repeated(key.id()));
            }
        }
        Ok(Self { current, previous })
    }

    /// The id of the current key.
    pub fn key_id(&self) -> KeyId {
        self.current.id()
    }

    /// Seals bytes for the master key. `purpose` (such as [`PARKED`](super::PARKED)) selects the key, and `aad` names
    /// the owner of the bytes; both are needed again to open.
    pub fn seal_for_master(&self, purpose: &str, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.current.derive(&[b"seal", purpose.as_bytes()]);
        envelope::seal(self.current.id(), &key, aad, plain)
    }

    /// Opens the bytes of [`Keyring::seal_for_master`], by the current or a previous key.
    pub fn open_for_master(&self, purpose: &str, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys: Vec<_> = self.all().map(|key| derived(key, &[b"seal", purpose.as_bytes()])).collect();
        envelope::open(keys.iter().map(|(id, key)| (*id, &**key)), aad, sealed)
    }

    /// The key of one job, from the master key, the tenant, the job's id (a lower-case hyphenated UUID) and the
    /// canonical bytes of its identity. It also opens bytes that were sealed before a rotation.
    pub fn job_secret(&self, tenant: &str, job_id: &str, identity: &[u8]) -> JobSecret {
        let parts: [&[u8]; 4] = [b"job", tenant.as_bytes(), job_id.as_bytes(), identity];
        JobSecret {
            current: derived(&self.current, &parts),
            previous: self.previous.iter().map(|key| derived(key, &parts)).collect(),
        }
    }

    /// HMAC-SHA256 over the parts, each with its length before it, by a key for this purpose.
    pub fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        mac_with(&self.current, b"mac", purpose, parts)
    }

    /// True if `tag` is the [`Keyring::mac`] of the parts by the current or a previous key. The time does not depend
    /// on the place of the first difference.
    pub fn verify_mac(&self, purpose: &str, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.all()
            .map(|key| mac_with(key, b"mac", purpose, parts).ct_eq(tag))
            .fold(Choice::from(0), |any, this| any | this)
            .into()
    }

    /// A pseudonym of a subject: `s-` and 32 hex digits. It shows nothing of the person, and differs for each
    /// tenant and after a rotation.
    pub fn pseudonym(&self, tenant: &str, parts: &[&[u8]]) -> String {
        format!("s-{}", hex::encode(&mac_with(&self.current, b"pseudonym", tenant, parts)[..16]))
    }

    /// The [`Keyring::pseudonym`] by each key, the current one first.
    pub fn pseudonyms(&self, tenant: &str, parts: &[&[u8]]) -> Vec<String> {
        let name = |key| format!("s-{}", hex::encode(&mac_with(key, b"pseudonym", tenant, parts)[..16]));
        self.all().map(name).collect()
    }

    /// A keyed name of one identifier; upper and lower case are equal. It shows nothing of the person, and differs
    /// for each tenant and after a rotation.
    pub fn identifier_name(&self, tenant: &str, identifier: &str) -> [u8; 16] {
        identifier_with(&self.current, tenant, identifier)
    }

    /// The [`Keyring::identifier_name`] by each key, the current one first.
    pub fn identifier_names(&self, tenant: &str, identifier: &str) -> Vec<[u8; 16]> {
        self.all().map(|key| identifier_with(key, tenant, identifier)).collect()
    }

    /// A keyed digest to store instead of bytes, such as a job's identity: the disk alone allows no test of guesses.
    pub fn digest(&self, purpose: &str, bytes: &[u8]) -> Digest {
        digest_with(&self.current, purpose, bytes)
    }

    /// Whether a stored [`Keyring::digest`] is of these bytes; `None` if its key is no longer here, so that it cannot
    /// be checked.
    pub fn matches_digest(&self, purpose: &str, bytes: &[u8], stored: &[u8]) -> Option<bool> {
        let id = stored.get(..4)?;
        let mut known = self.all().filter(|key| key.id().0 == id).peekable();
        known.peek()?;
        Some(known.any(|key| digest_with(key, purpose, bytes).ct_eq(stored).into()))
    }

    /// The seeds of our new values for a user's field, thirty-two bytes each. The first one is written: it is the
    /// same on every worker and for every job about the user, an HMAC over the user's own id at the vendor (upper and
    /// lower case are equal) and the field. By the others a read-back recognises values written before a rotation, or
    /// by an earlier release for this target of this job.
    pub fn replacements(&self, user: &str, field: &str, (tenant, job_id, target): (&str, &str, u32)) -> Vec<[u8; 32]> {
        let of_user = self.all().map(|key| replacement_with(key, user, field));
        let of_job = self.all().map(|key| former_replacement_with(key, tenant, job_id, target, field));
        of_user.chain(of_job).collect()
    }

    pub(super) fn current(&self) -> &MasterKey {
        &self.current
    }

    pub(super) fn masters(&self) -> impl Iterator<Item = &MasterKey> {
        self.all()
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// A derived key, with the id of its master key.
fn derived(master: &MasterKey, parts: &[&[u8]]) -> (KeyId, Zeroizing<[u8; 32]>) {
    (master.id(), master.derive(parts))
}

fn mac_with(master: &MasterKey, family: &[u8], purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(&master.derive(&[family, purpose.as_bytes()]));
    feed(&mut mac, parts);
    mac.finalize().into_bytes().into()
}

fn identifier_with(master: &MasterKey, tenant: &str, identifier: &str) -> [u8; 16] {
    let written = Zeroizing::new(identifier.trim().to_lowercase());
    let mac = mac_with(master, b"identifier", tenant, &[written.as_bytes()]);
    std::array::from_fn(|place| mac[place])
}

fn digest_with(master: &MasterKey, purpose: &str, bytes: &[u8]) -> Digest {
    let mut digest = [0; DIGEST_LEN];
    digest[..4].copy_from_slice(&master.id().0);
    digest[4..].copy_from_slice(&mac_with(master, b"digest", purpose, &[bytes]));
    digest
}

fn replacement_with(master: &MasterKey, user: &str, field: &str) -> [u8; 32] {
    let user = Zeroizing::new(user.trim().to_ascii_lowercase());
    mac_with(master, b"replacement", "user", &[user.as_bytes(), field.as_bytes()])
}

fn former_replacement_with(master: &MasterKey, tenant: &str, job_id: &str, target: u32, field: &str) -> [u8; 32] {
    let parts: [&[u8]; 4] = [tenant.as_bytes(), job_id.as_bytes(), &target.to_le_bytes(), field.as_bytes()];
    mac_with(master, b"replacement", "value", &parts)
}

//! Everything keyed: sealed bytes, message authentication, pseudonyms and derived values, all from one master key.
//!
//! The rule it keeps: no key and no plaintext leaves through `Debug`, an error or a log line. Bytes that were
//! altered, cut, or moved to another context never open.
//!
//! A sealed value is, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 3 | magic `e5 77 73`: no JSON text starts like that |
//! | 1 | version, now 1 |
//! | 4 | id of the master key |
//! | 24 | nonce, random |
//! | n + 16 | XChaCha20-Poly1305 ciphertext and tag |
//!
//! The first eight bytes are authenticated together with the caller's additional data. The key is derived with
//! HKDF-SHA256, one for each purpose or job.

mod envelope;
mod job_secret;
pub mod jwe;
mod keyring;
mod master;
mod sign;
pub mod verify;

#[cfg(test)]
mod tests;

pub use envelope::looks_sealed;
pub use job_secret::JobSecret;
pub use keyring::{DIGEST_LEN, Digest, Keyring};
pub use master::{KeyError, KeyId, MasterKey};
pub use sign::Signer;

/// Sealed for the master key: the body of a job that waits on the broker.
pub const PARKED: &str = "parked";
/// Sealed for the master key: the body of a dead letter.
pub const DEAD_LETTER: &str = "dead-letter";

/// The reason why sealing or opening failed. No variant carries content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short, or without the magic.
    #[error("these bytes are not a sealed value")]
    NotSealed,
    /// Written in a format of a later release.
    #[error("the sealed value has version {0}, this release opens version 1")]
    Version(u8),
    /// No configured key has the id that the value names.
    #[error("the sealed value was made with master key {0}, which is neither the current nor a previous key")]
    UnknownKey(KeyId),
    /// Authentication failed.
    #[error("the sealed value does not open: it was altered or belongs to something else")]
    Refused,
    /// One of the worker's own messages on a wrong queue, or without a valid MAC.
    #[error("it came by a way on which it is not taken, or its master key is not configured here")]
    Misplaced,
    /// More bytes than the cipher accepts (256 GiB).
    #[error("the value is too long to be sealed")]
    TooLong,
}

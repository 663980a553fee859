//! A publisher's signature over a message: detached compact JWS (RFC 7515, appendix F).
//!
//! The rule it keeps: the configured key decides the algorithm, never the message.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// A key for a tenant's signatures. `Debug` shows only its kind.
#[derive(Clone)]
pub enum VerifyKey {
    /// A public key; only the tenant has the private one.
    Ed25519(VerifyingKey),
    /// A secret of tenant and worker; its bytes are those of the text.
    HmacSha256(SecretString),
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alg())
    }
}

impl VerifyKey {
    /// The public key from its 32 bytes; `None` for bytes that are no key, or a key under which any signature is
    /// valid.
    pub fn ed25519(bytes: &[u8; 32]) -> Option<VerifyKey> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(VerifyKey::Ed25519)
    }

    const fn alg(&self) -> &'static str {
        match self {
            VerifyKey::Ed25519(_) => "EdDSA",
            VerifyKey::HmacSha256(_) => "HS256",
        }
    }

    fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            VerifyKey::Ed25519(key) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            VerifyKey::HmacSha256(secret) => Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
        }
    }
}

/// The content of a signature besides the proof of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The time of the signature, in seconds since 1970.
    pub issued_at: i64,
    /// The job of the signature, if it names one.
    pub job_id: Option<String>,
}

/// The reason why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not `header..signature` with a header of the documented form.
    #[error("is no detached compact JWS whose header has alg, kid and iat")]
    Malformed,
    /// No such key.
    #[error("names a key that is not configured for this tenant")]
    UnknownKey,
    /// The key is for another algorithm.
    #[error("names another algorithm than its key has")]
    Algorithm,
    /// Made over other bytes, or with another key.
    #[error("does not belong to this body")]
    Wrong,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    iat: serde_json::Number,
    job_id: Option<String>,
    crit: Option<Value>,
}

/// Checks a signature over the exact body, with the key that it names.
///
/// # Errors
/// [`SignatureError`]; no content of the signature is repeated.
pub fn verify_detached(
    compact: &str,
    body: &[u8],
    keys: &BTreeMap<String, VerifyKey>,
) -> Result<Signed, SignatureError> {
    let malformed = |_| SignatureError::Malformed;
    let (protected, rest) = compact.split_once('.').ok_or(SignatureError::Malformed)?;
    let signature = rest.strip_prefix('.').ok_or(SignatureError::Malformed)?;
    let header = BASE64.decode(protected).map_err(malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| SignatureError::Malformed)?;
    let signature = BASE64.decode(signature).map_err(malformed)?;
    // No critical extension is supported, in particular none that changes the signed bytes.
    if header.crit.is_some() {
        return Err(SignatureError::Malformed);
    }
    let key = keys.get(&header.kid).ok_or(SignatureError::UnknownKey)?;
    if header.alg != key.alg() {
        return Err(SignatureError::Algorithm);
    }
    let message = format!("{protected}.{}", BASE64.encode(body));
    if !key.holds(message.as_bytes(), &signature) {
        return Err(SignatureError::Wrong);
    }
    #[allow(clippy::cast_possible_truncation, reason = "a fraction of a second is of no account here")]
    let issued_at = header.iat.as_i64().or_else(|| header.iat.as_f64().map(|seconds| seconds.floor() as i64));
    Ok(Signed { issued_at: issued_at.ok_or(SignatureError::Malformed)?, job_id: header.job_id })
}

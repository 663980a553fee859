//! Public keys, and the signatures that they check: compact JWS (RFC 7515) with EdDSA over Ed25519.
//!
//! The rule it keeps: no content of a token is used before its signature is valid under a given key, for the expected
//! kind of statement.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Map, Value};

/// The reason why a JWK set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not JSON with a list `keys`.
    #[error("expected a JWK set: a JSON object with a list \"keys\"")]
    NotASet,
    /// An Ed25519 key with a missing part.
    #[error("key {0} of the set has no kid, or its x is no Ed25519 public key")]
    Bad(usize),
    /// No key of the right kind.
    #[error("the set holds no Ed25519 key (kty OKP, crv Ed25519)")]
    Empty,
}

/// The reason why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, or no JSON in them.
    #[error("it is no compact JWS")]
    NotAToken,
    /// Another algorithm or kind of statement, or an extension that must be understood.
    #[error("its header is not that of the statement expected here")]
    Header,
    /// No key with this id was given.
    #[error("its key {0} is not among the public keys given")]
    UnknownKey(String),
    /// The signature is invalid.
    #[error("its signature does not hold: it was altered")]
    Signature,
}

/// The keys for checks of signatures, by `kid`.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(BTreeMap<String, VerifyingKey>);

impl PublicKeys {
    /// Reads a JWK set. Keys of other kinds are ignored.
    ///
    /// # Errors
    /// It is no set, holds an invalid Ed25519 key, or no key at all.
    pub fn read(set: &Value) -> Result<PublicKeys, KeysError> {
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeysError::NotASet)?;
        let mut read = BTreeMap::new();
        for (index, jwk) in keys.iter().enumerate() {
            let text = |name: &str| jwk.get(name).and_then(Value::as_str);
            if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
                continue;
            }
            let key = text("x").and_then(|x| BASE64.decode(x).ok()).and_then(|x| <[u8; 32]>::try_from(x).ok());
            let key = key.and_then(|x| VerifyingKey::from_bytes(&x).ok());
            let (Some(kid), Some(key)) = (text("kid"), key) else { return Err(KeysError::Bad(index)) };
            read.insert(kid.to_owned(), key);
        }
        if read.is_empty() { Err(KeysError::Empty) } else { Ok(PublicKeys(read)) }
    }

    /// A compact token's content, after its signature was checked.
    ///
    /// # Errors
    /// The token is refused.
    pub fn open(&self, typ: &str, token: &str) -> Result<Map<String, Value>, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::NotAToken)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::NotAToken)?;
        self.check(typ, header, signed.as_bytes(), signature)?;
        object(payload).ok_or(TokenError::NotAToken)
    }

    /// Checks a detached signature (`header..signature`) over bytes.
    ///
    /// # Errors
    /// The signature is invalid.
    pub fn check_detached(&self, typ: &str, token: &str, bytes: &[u8]) -> Result<(), TokenError> {
        let (header, signature) = token.split_once("..").ok_or(TokenError::NotAToken)?;
        self.check(typ, header, format!("{header}.{}", BASE64.encode(bytes)).as_bytes(), signature)
    }

    fn check(&self, typ: &str, header: &str, signed: &[u8], signature: &str) -> Result<(), TokenError> {
        let head = object(header).ok_or(TokenError::NotAToken)?;
        let text = |name: &str| head.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("alg") != "EdDSA" || text("typ") != typ || head.contains_key("crit") {
            return Err(TokenError::Header);
        }
        let signature = BASE64.decode(signature).map_err(|_| TokenError::NotAToken)?;
        let key = self.0.get(text("kid")).ok_or_else(|| {
            TokenError::UnknownKey(text("kid").chars().filter(|c| !c.is_control()).take(64).collect())
        })?;
        let signature = Signature::from_slice(&signature).map_err(|_| TokenError::Signature)?;
        key.verify_strict(signed, &signature).map_err(|_| TokenError::Signature)
    }
}

/// The `typ` in a token's header, unproven.
pub fn typ(token: &str) -> Option<String> {
    object(token.split('.').next()?)?.get("typ")?.as_str().map(str::to_owned)
}

/// A token's claims without a proof: only for naming a bad token.
pub fn claimed(token: &str) -> Option<Map<String, Value>> {
    object(token.split('.').nth(1)?)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
}

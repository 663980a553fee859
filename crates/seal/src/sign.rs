//! The worker's signature: Ed25519, with a key derived from the master key.
//!
//! The rule it keeps: everyone with the public key can check the worker's signatures alone.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey};

use super::keyring::Keyring;
use super::master::{KeyId, MasterKey};

fn signing_key(master: &MasterKey) -> SigningKey {
    SigningKey::from_bytes(&master.derive(&[b"sign"]))
}

fn jwk(master: &MasterKey) -> serde_json::Value {
    let public = signing_key(master).verifying_key();
    serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
        "kid": master.id().to_string(), "x": BASE64.encode(public.as_bytes()),
    })
}

/// Signs with the current key, which is derived once.
pub struct Signer {
    key: SigningKey,
    id: KeyId,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// A compact JWS (RFC 7515, EdDSA) over the bytes. `typ` names their kind, so that a signature for one kind of
    /// statement is never valid for another.
    pub fn compact(&self, typ: &str, payload: &[u8]) -> String {
        let (mut signed, signature) = self.parts(typ, payload);
        signed.push('.');
        signed.push_str(&signature);
        signed
    }

    /// As [`Signer::compact`], without the payload: `header..signature` (RFC 7515, appendix F).
    pub fn detached(&self, typ: &str, payload: &[u8]) -> String {
        let (signed, signature) = self.parts(typ, payload);
        let header = signed.split('.').next().unwrap_or_default();
        format!("{header}..{signature}")
    }

    fn parts(&self, typ: &str, payload: &[u8]) -> (String, String) {
        let header = serde_json::json!({ "alg": "EdDSA", "kid": self.id.to_string(), "typ": typ });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload));
        let signature = BASE64.encode(self.key.sign(signed.as_bytes()).to_bytes());
        (signed, signature)
    }
}

impl Keyring {
    /// A signer for many statements.
    pub fn signer(&self) -> Signer {
        Signer { key: signing_key(self.current()), id: self.key_id() }
    }

    /// A detached compact JWS (RFC 7515, appendix F) over the bytes: `header..signature`, EdDSA.
    pub fn sign_detached(&self, body: &[u8]) -> String {
        let key = signing_key(self.current());
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.key_id());
        let header = BASE64.encode(header);
        let signature = key.sign(format!("{header}.{}", BASE64.encode(body)).as_bytes());
        format!("{header}..{}", BASE64.encode(signature.to_bytes()))
    }

    /// The signatures of a webhook (Standard Webhooks, `v1a`), by the current key and the previous ones: during a
    /// rotation a receiver may have either public key. A JWS signs other bytes: they have one full stop, these have two.
    pub fn sign_webhook(&self, content: &[u8]) -> String {
        let one = |master| format!("v1a,{}", STANDARD.encode(signing_key(master).sign(content).to_bytes()));
        self.masters().map(one).collect::<Vec<_>>().join(" ")
    }

    /// The public keys, current one first, as a JWK set.
    pub fn public_keys(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.masters().map(jwk).collect::<Vec<_>>() })
    }
}

//! The worker's signature: Ed25519, with a key derived from the master key.
//!
//! The rule it keeps: whoever has the public key can check what the worker signed, without asking it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};

use super::keyring::Keyring;
use super::master::MasterKey;

fn signing_key(master: &MasterKey) -> SigningKey {
    SigningKey::from_bytes(&master.derive(&[b"sign"]))
}

impl Keyring {
    /// A detached compact JWS (RFC 7515, appendix F) over the bytes: `header..signature`, EdDSA.
    pub fn sign_detached(&self, body: &[u8]) -> String {
        let key = signing_key(self.current());
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.key_id());
        let header = BASE64.encode(header);
        let signature = key.sign(format!("{header}.{}", BASE64.encode(body)).as_bytes());
        format!("{header}..{}", BASE64.encode(signature.to_bytes()))
    }

    /// The public keys, current one first, as a JWK set.
    pub fn public_keys(&self) -> serde_json::Value {
        let jwk = |master: &MasterKey| {
            let public = signing_key(master).verifying_key();
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": master.id().to_string(), "x": BASE64.encode(public.as_bytes()),
            })
        };
        serde_json::json!({ "keys": self.masters().map(jwk).collect::<Vec<_>>() })
    }
}

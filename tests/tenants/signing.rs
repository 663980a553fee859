//! A publisher's signature in Rust. The documentation shows it in other languages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The secret of the tests' HMAC keys.
pub const SECRET: &str = "a-secret-that-both-sides-have-0123456789";

pub fn ed25519(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn public(key: &SigningKey) -> String {
    BASE64.encode(key.verifying_key().as_bytes())
}

/// A publisher's signature header.
pub fn head(alg: &str, kid: &str, iat: i64) -> Value {
    json!({ "alg": alg, "kid": kid, "iat": iat })
}

fn compact(head: &Value, body: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let head = BASE64.encode(head.to_string());
    let signature = sign(format!("{head}.{}", BASE64.encode(body)).as_bytes());
    format!("{head}..{}", BASE64.encode(signature))
}

pub fn with_ed25519(head: &Value, body: &[u8], key: &SigningKey) -> String {
    compact(head, body, |message| key.sign(message).to_bytes().to_vec())
}

pub fn with_hmac(head: &Value, body: &[u8], secret: &[u8]) -> String {
    compact(head, body, |message| {
        let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.chain_update(message).finalize().into_bytes().to_vec()
    })
}

//! Customer tokens of the media store: three base64url parts; only the payload is read.
//!
//! The rule it keeps: the signature is not checked, because every client of the sandbox may make a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A token for the customer, valid until `exp` (Unix seconds) or for ever.
pub fn mint_jwt(customer_id: &str, exp: Option<i64>) -> String {
    let id = customer_id.parse::<u64>().map_or_else(|_| Value::from(customer_id), Value::from);
    let mut payload = json!({ "customerId": id });
    if let Some(exp) = exp {
        payload["exp"] = Value::from(exp);
    }
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(&payload), URL_SAFE_NO_PAD.encode("sandbox"))
}

/// The customer in a token, unless the token is malformed or expired.
pub(super) fn customer_of(token: &str, now_ms: u64) -> Option<String> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let now = i64::try_from(now_ms / 1000).ok()?;
    if payload["exp"].as_i64().is_some_and(|exp| exp <= now) {
        return None;
    }
    super::text_of(&payload, "customerId")
}

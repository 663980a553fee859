//! The id of an event.
//!
//! The rule it keeps: the same event, byte for byte, has the same id, and every other event has another id. Run and
//! number are not enough: a store counts them, and a store may be lost, restored, or duplicated.

use uuid::Uuid;

/// The namespace of event ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5d3e_8a4b_4c19_9d27_3b1e_52aa_7c40);

/// The id of an event before its own is made. It occurs once, before all content that others chose.
pub(super) const NONE: Uuid = Uuid::nil();

/// The id of an event, from its subject and its whole body.
fn of(about: &str, body: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &[about.as_bytes(), b"/", body].concat())
}

/// Makes the id of an event that has none, and writes it into the body.
pub(super) fn give(about: &str, body: &mut [u8]) -> Uuid {
    let id = of(about, body);
    put(body, NONE, id);
    id
}

/// Makes a new id for an event that got a receipt.
pub(super) fn renew(old: Uuid, body: &mut [u8], receipt: &str) -> Uuid {
    let id = of(&old.to_string(), receipt.as_bytes());
    put(body, old, id);
    id
}

fn put(body: &mut [u8], old: Uuid, new: Uuid) {
    let old = format!(r#""id":"{old}""#);
    if let Some(place) = body.windows(old.len()).position(|part| part == old.as_bytes()) {
        body[place..place + old.len()].copy_from_slice(format!(r#""id":"{new}""#).as_bytes());
    }
}

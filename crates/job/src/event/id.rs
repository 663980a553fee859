//! The id of an event.
//!
//! The rule it keeps: the same event, to the byte, has the same id; another one has another id, whatever
//! its run and number, for these are counted by a store, and stores can be lost, put back, or be two.

use uuid::Uuid;

/// The namespace of event ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5d3e_8a4b_4c19_9d27_3b1e_52aa_7c40);

/// An event whose id is not made yet has this one, once, before all that anybody else chose.
pub(super) const NONE: Uuid = Uuid::nil();

/// The id of an event: of what it is about, and of all that it says.
fn of(about: &str, body: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &[about.as_bytes(), b"/", body].concat())
}

/// Makes the id of an event that has none yet, and puts it in.
pub(super) fn give(about: &str, body: &mut [u8]) -> Uuid {
    let id = of(about, body);
    put(body, NONE, id);
    id
}

/// Makes the id of an event anew that has been given a receipt.
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

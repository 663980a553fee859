//! A content header: checked, and rewritten if the client library could not read it.
//!
//! The rule it keeps: the library can read the result, and it fits into a frame.

use super::table::{mend, mend_text, pick};
use crate::broker::Fault;

/// The fewest bytes of a payload with the body's length.
pub(super) const LEAST: usize = FIXED;
/// Class, weight and body size, before the flags.
const FIXED: usize = 12;
/// The flags of the present properties.
const FLAGS: std::ops::Range<usize> = FIXED..FIXED + 2;
/// Room for the headers that a broker adds to a redelivered message.
const BROKERS_OWN: usize = 1024;
/// Most bytes of the other properties: ten short strings and some numbers.
const WITHOUT_TABLE: usize = 3 * 1024;
/// The flags with a property.
const KNOWN: u16 = 0b1111_1111_1111_1100;
const HAS_TABLE: u16 = 1 << 13;

/// The type of a property.
enum Kind {
    Text,
    Table,
    Fixed(usize),
}

/// The properties in their order, the first for the highest flag.
const PROPERTIES: [Kind; 14] = [
    Kind::Text,     // content-type
    Kind::Text,     // content-encoding
    Kind::Table,    // headers
    Kind::Fixed(1), // delivery-mode
    Kind::Fixed(1), // priority
    Kind::Text,     // correlation-id
    Kind::Text,     // reply-to
    Kind::Text,     // expiration
    Kind::Text,     // message-id
    Kind::Fixed(8), // timestamp
    Kind::Text,     // type
    Kind::Text,     // user-id
    Kind::Text,     // app-id
    Kind::Text,     // cluster-id
];

/// The result for a header's payload.
pub(super) enum Seen {
    /// It stays; names and texts may have been repaired in place.
    Stays(Option<Fault>),
    /// This payload replaces it.
    Anew(Vec<u8>, Fault),
}

/// The body's size in the header.
pub(super) fn body_size(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(payload.get(4..FIXED)?.try_into().ok()?))
}

/// Writes another body size.
pub(super) fn set_body_size(payload: &mut [u8], size: u64) {
    if let Some(place) = payload.get_mut(4..FIXED) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

/// Checks a content header's payload, for frames of at most `frame_max` bytes.
pub(super) fn look(payload: &mut [u8], frame_max: usize) -> Seen {
    let flags = match payload.get(FLAGS) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => return Seen::Anew(bare(payload), Fault::Malformed),
    };
    let room = frame_max.saturating_sub(WITHOUT_TABLE + BROKERS_OWN);
    // A header that passes once must pass again after the broker's additions.
    let mut drop_table = (payload.len() + BROKERS_OWN > frame_max).then_some(Fault::TooLarge);
    let mut fault = (flags & !KNOWN != 0).then_some(Fault::Malformed);
    let mut table = 0..0;
    let mut at = FLAGS.end;
    for (place, property) in PROPERTIES.iter().enumerate() {
        if flags & (1 << (15 - place)) == 0 {
            continue;
        }
        let (begin, length) = match property {
            Kind::Fixed(length) => (at, Some(*length)),
            Kind::Text => (at + 1, payload.get(at).map(|length| usize::from(*length))),
            Kind::Table => {
                let length = payload.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
                (at, length.and_then(|length| (length as usize).checked_add(4)))
            }
        };
        let end = length.and_then(|length| begin.checked_add(length)).filter(|end| *end <= payload.len());
        let Some(end) = end else { return Seen::Anew(bare(payload), Fault::Malformed) };
        match property {
            Kind::Fixed(_) => {}
            Kind::Text => {
                if mend_text(&mut payload[begin..end]) {
                    fault = fault.or(Some(Fault::NotUtf8));
                }
            }
            Kind::Table => {
                table = begin..end;
                match mend(&mut payload[begin..end]) {
                    Ok(mended) => fault = fault.or(mended),
                    Err(broken) => drop_table = drop_table.or(Some(broken)),
                }
            }
        }
        at = end;
    }
    // The library does not accept bytes after the last property, or unknown flags.
    if at != payload.len() {
        fault = Some(Fault::Malformed);
    }
    if let Some(why) = drop_table {
        let kept = if flags & HAS_TABLE == 0 { Vec::new() } else { pick(&payload[table.clone()], room) };
        // Without a table there is nothing large to remove: an empty table's place is after the flags.
        let table = if table.is_empty() { FLAGS.end..FLAGS.end } else { table };
        let mut anew = [&payload[..table.start], &kept, &payload[table.end..at]].concat();
        known_flags(&mut anew, flags);
        return Seen::Anew(anew, why);
    }
    match fault {
        Some(Fault::Malformed) => {
            let mut anew = payload[..at].to_vec();
            known_flags(&mut anew, flags);
            Seen::Anew(anew, Fault::Malformed)
        }
        fault => Seen::Stays(fault),
    }
}

fn known_flags(payload: &mut [u8], flags: u16) {
    payload[FLAGS].copy_from_slice(&(flags & KNOWN).to_be_bytes());
}

/// The same message without any property.
pub(super) fn bare(payload: &[u8]) -> Vec<u8> {
    let mut anew = vec![0; FLAGS.end];
    let known = payload.len().min(FIXED);
    anew[..known].copy_from_slice(&payload[..known]);
    anew
}

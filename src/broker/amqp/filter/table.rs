//! AMQP field tables as bytes: the check whether the client library can read one, and the entries that are kept of an
//! unreadable one.
//!
//! The rule it keeps: no recursion, so that every depth can be checked.

use crate::broker::{Fault, MAX_NESTING};

/// The longest entry that is kept of an unreadable table: the broker's own are shorter.
const KEPT_ENTRY: usize = 1024;

/// Replaces each byte that is no part of a UTF-8 character by a question mark: the length stays. True if there was
/// one.
pub(super) fn mend_text(text: &mut [u8]) -> bool {
    let mut from = 0;
    let mut mended = false;
    while let Err(error) = std::str::from_utf8(&text[from..]) {
        let begin = from + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |length| begin + length);
        text[begin..end].fill(b'?');
        (from, mended) = (end, true);
    }
    mended
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?) as usize)
}

/// A value's kind: the number of bytes after its letter, and whether they contain values.
enum Value {
    Plain(usize),
    Table,
    Array,
}

/// The value whose letter is at `at`; its bytes begin after the letter and, if it has one, the length.
fn value(bytes: &[u8], at: usize) -> Option<(Value, usize)> {
    let begin = at.checked_add(1)?;
    let plain = |length| Some((Value::Plain(length), begin));
    match bytes.get(at)? {
        b't' | b'b' | b'B' => plain(1),
        b's' | b'U' | b'u' => plain(2),
        b'I' | b'i' | b'f' => plain(4),
        b'L' | b'l' | b'd' | b'T' => plain(8),
        b'D' => plain(5),
        b'V' => plain(0),
        b'S' | b'x' => Some((Value::Plain(u32_at(bytes, begin)?), begin.checked_add(4)?)),
        b'F' => Some((Value::Table, begin)),
        b'A' => Some((Value::Array, begin)),
        _ => None,
    }
}

/// Checks a whole table, with its length first; names that are not UTF-8 are repaired in place. `bytes` is exactly
/// the table.
pub(super) fn mend(bytes: &mut [u8]) -> Result<Option<Fault>, Fault> {
    // The ends of the tables (true) and arrays around the place.
    let mut inside: Vec<(usize, bool)> = Vec::new();
    let mut fault = None;
    let mut at = 0;
    let whole = bytes.len();
    let open = |bytes: &[u8], at: usize, end: usize| -> Result<usize, Fault> {
        let length = u32_at(bytes, at).ok_or(Fault::Malformed)?;
        let to = (at + 4).checked_add(length).ok_or(Fault::Malformed)?;
        if to > end { Err(Fault::Malformed) } else { Ok(to) }
    };
    let to = open(bytes, at, whole)?;
    if to != whole {
        return Err(Fault::Malformed);
    }
    inside.push((to, true));
    at += 4;
    while let Some(&(end, is_table)) = inside.last() {
        if at == end {
            inside.pop();
            continue;
        }
        if is_table {
            let length = usize::from(*bytes.get(at).ok_or(Fault::Malformed)?);
            let name = at + 1..at + 1 + length;
            if name.end > end {
                return Err(Fault::Malformed);
            }
            at = name.end;
            if mend_text(&mut bytes[name]) {
                fault = Some(Fault::NotUtf8);
            }
        }
        let (value, begin) = value(bytes, at).ok_or(Fault::Malformed)?;
        match value {
            Value::Plain(length) => {
                at = begin.checked_add(length).filter(|next| *next <= end).ok_or(Fault::Malformed)?;
            }
            Value::Table | Value::Array => {
                if inside.len() > MAX_NESTING {
                    return Err(Fault::TooDeep);
                }
                let to = open(bytes, begin, end)?;
                inside.push((to, matches!(value, Value::Table)));
                at = begin + 4;
            }
        }
    }
    Ok(fault)
}

/// Takes the short plain entries of an unreadable table, as far as they can be read, in `room` bytes. The broker's
/// own entries are among them.
pub(super) fn pick(bytes: &[u8], room: usize) -> Vec<u8> {
    let mut kept = vec![0; 4];
    let mut at = 4;
    let next = |at: usize| -> Option<(usize, bool)> {
        let name_end = at + 1 + usize::from(*bytes.get(at)?);
        let name = bytes.get(at + 1..name_end)?;
        let (value, begin) = value(bytes, name_end)?;
        let (end, is_plain) = match value {
            Value::Plain(length) => (begin.checked_add(length)?, true),
            Value::Table | Value::Array => (begin.checked_add(4)?.checked_add(u32_at(bytes, begin)?)?, false),
        };
        let is_kept = is_plain && end - at <= KEPT_ENTRY && std::str::from_utf8(name).is_ok();
        (end <= bytes.len()).then_some((end, is_kept))
    };
    while let Some((end, is_kept)) = next(at) {
        if is_kept && kept.len() + (end - at) <= room {
            kept.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    let length = u32::try_from(kept.len() - 4).unwrap_or_default();
    kept[..4].copy_from_slice(&length.to_be_bytes());
    kept
}

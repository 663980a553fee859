//! The row of a receipt, with the final event that carries it.
//!
//! The rule it keeps: receipt and event are restored byte for byte as they were signed and published.
//!
//! The event contains the receipt, and the receipt repeats the event's content. Written one after the other, without
//! encoding, they compress to a few hundred bytes. The row of the job names the receipt's number instead of the
//! event.
//!
//! ```text
//! i64                   when it was given, in milliseconds since 1970, big-endian
//! 1                     the form; then, each with a u32 of its length before it:
//!   header, payload, signature    the receipt's parts, decoded
//!   job                           the job's key
//!   id, what                      the event's id and kind
//!   before, after                 the event's body around the receipt
//! ```
//! A row of store version 1 has the receipt's text after the time, and no event.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::job::record::Event;
use crate::job::{At, JobKey};
use crate::store::{Store, StoreError, Table};

const WITH_EVENT: u8 = 1;

/// A receipt read from the store.
pub(crate) struct Row {
    pub(crate) at: At,
    pub(crate) receipt: String,
    /// The event that carries it, if it is in this row.
    pub(crate) carrier: Option<Carrier>,
}

/// The final event of a receipt.
pub(crate) struct Carrier {
    pub(crate) key: JobKey,
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) body: Vec<u8>,
}

/// Reads the final event of a receipt.
pub(crate) fn carrier(store: &dyn Store, number: u64) -> Result<Option<Carrier>, StoreError> {
    let stored = store.get(Table::Receipt, &number.to_be_bytes())?;
    let unreadable = || StoreError::Unreadable("a receipt".into());
    stored.map(|stored| read(&stored).and_then(|row| row.carrier).ok_or_else(unreadable)).transpose()
}

/// The row of a receipt in this event; `None` if the event does not contain the receipt.
pub(crate) fn with_event(at: At, receipt: &str, key: &JobKey, event: &Event) -> Option<Vec<u8>> {
    let parts: Vec<Vec<u8>> = receipt.split('.').map(|part| BASE64.decode(part).ok()).collect::<Option<_>>()?;
    let [header, payload, signature] = <[Vec<u8>; 3]>::try_from(parts).ok()?;
    // The last occurrence: a publisher's content comes before it, and has no such signature.
    let place = event.body.windows(receipt.len()).rposition(|part| part == receipt.as_bytes())?;
    let (before, rest) = event.body.split_at(place);
    let after = &rest[receipt.len()..];
    let mut row = at.0.to_be_bytes().to_vec();
    row.push(WITH_EVENT);
    let job = key.to_bytes();
    for part in [&header, &payload, &signature, &job, event.id.as_bytes(), event.what.as_bytes(), before, after] {
        row.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        row.extend_from_slice(part);
    }
    Some(row)
}

/// The row of a receipt whose event is stored elsewhere.
pub(crate) fn alone(at: At, receipt: &str) -> Vec<u8> {
    [&at.0.to_be_bytes(), receipt.as_bytes()].concat()
}

/// Decodes a row; `None` if it is invalid.
pub(crate) fn read(row: &[u8]) -> Option<Row> {
    let (at, rest) = row.split_first_chunk::<8>()?;
    let at = At(i64::from_be_bytes(*at));
    let Some((&WITH_EVENT, mut rest)) = rest.split_first() else {
        return Some(Row { at, receipt: String::from_utf8(rest.to_vec()).ok()?, carrier: None });
    };
    let mut part = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = after;
        Some(part)
    };
    let [header, payload, signature, job, id, what, before, after] =
        [part()?, part()?, part()?, part()?, part()?, part()?, part()?, part()?];
    let receipt = [header, payload, signature].map(|part| BASE64.encode(part)).join(".");
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    let carrier = Carrier {
        key: JobKey::from_bytes(job)?,
        id: text(id)?,
        what: text(what)?,
        body: [before, receipt.as_bytes(), after].concat(),
    };
    Some(Row { at, receipt, carrier: Some(carrier) })
}

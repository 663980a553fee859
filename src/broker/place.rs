//! A place in the control stream, and the check that the stream is still the same.
//!
//! The rule it keeps: an offset alone does not identify a stream. So the digests of the last messages are stored with
//! it. These messages are read again before any later message counts as new.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use super::{Control, HeaderValue};

/// A message's digest: over its body and its publisher's properties.
pub type Print = [u8; 32];

/// The number of digests. The same sixteen messages, in the same order at the same offsets in another stream, would
/// be the same cancellations.
const KEPT: usize = 16;

const VERSION: u8 = 1;

/// The last message that was taken, with the digests of the messages before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    offset: u64,
    /// The digests of the messages up to `offset`, without a gap. Empty if an earlier release noted the offset alone.
    prints: VecDeque<Print>,
}

impl Place {
    /// A place whose offset alone is known.
    pub const fn at(offset: u64) -> Place {
        Place { offset, prints: VecDeque::new() }
    }

    /// The offset of the last message that was taken.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The first offset to read, so that the known messages are read again.
    pub fn first(&self) -> u64 {
        self.offset.saturating_sub(self.prints.len().saturating_sub(1) as u64)
    }

    /// The place after another message.
    #[must_use]
    pub fn after(place: Option<&Place>, control: &Control) -> Place {
        let mut prints = match place {
            Some(place) if place.offset.checked_add(1) == Some(control.offset) => place.prints.clone(),
            _ => VecDeque::new(),
        };
        prints.push_back(print(control));
        while prints.len() > KEPT {
            prints.pop_front();
        }
        Place { offset: control.offset, prints }
    }

    /// The bytes for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        self.prints.iter().for_each(|print| bytes.extend_from_slice(print));
        bytes
    }

    /// Decodes the bytes of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (offset, rest) = rest.split_first_chunk()?;
        let (prints, left) = rest.as_chunks();
        let is_whole = left.is_empty() && prints.len() <= KEPT;
        is_whole.then(|| Place { offset: u64::from_be_bytes(*offset), prints: prints.iter().copied().collect() })
    }
}

/// A message's digest, without its offset.
pub fn print(control: &Control) -> Print {
    let properties = &control.properties;
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&control.body);
    for text in [&properties.message_id, &properties.correlation_id, &properties.app_id, &properties.user_id] {
        part(text.as_deref().unwrap_or_default().as_bytes());
    }
    part(&properties.timestamp.unwrap_or_default().to_be_bytes());
    for (name, value) in &properties.headers {
        part(name.as_bytes());
        match value {
            HeaderValue::Text(text) => part(text.as_bytes()),
            HeaderValue::Int(number) => part(&number.to_be_bytes()),
            HeaderValue::Bool(flag) => part(&[u8::from(*flag)]),
        }
    }
    hash.finalize().into()
}

/// The kind of a message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Taken before.
    Again,
    /// The next one.
    New,
    /// Impossible in this stream: it is another stream.
    Foreign,
}

/// Compares a stream's messages with the known ones.
#[derive(Debug)]
pub struct Comparison {
    place: Place,
    last: Option<u64>,
    is_over: bool,
}

impl Comparison {
    /// Begins at a place; without one every message is new.
    pub fn new(place: Option<Place>) -> Comparison {
        Comparison { is_over: place.is_none(), place: place.unwrap_or_default(), last: None }
    }

    /// True after all known messages were compared. A stream that was read up to this place has at least one message
    /// there or after it, and delivers it at once.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The kind of the next message, in the stream's order.
    pub fn judge(&mut self, control: &Control) -> Read {
        let offset = control.offset;
        let goes_back = self.last.is_some_and(|last| offset <= last);
        let is_first = self.last.is_none();
        self.last = Some(offset);
        if self.is_over {
            return if goes_back { Read::Foreign } else { Read::New };
        }
        if goes_back || offset < self.place.first() {
            return Read::Foreign;
        }
        if offset > self.place.offset {
            // If it is the first, the earlier ones were old enough to be removed.
            self.is_over = true;
            return if is_first { Read::New } else { Read::Foreign };
        }
        self.is_over = offset == self.place.offset;
        let index = usize::try_from(offset - self.place.first()).unwrap_or(usize::MAX);
        let is_same = self.place.prints.get(index).is_none_or(|known| *known == print(control));
        if is_same { Read::Again } else { Read::Foreign }
    }
}

#[cfg(test)]
#[path = "place/tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

//! A place in the control stream, and how to tell that the stream is still the one that was read.
//!
//! The rule it keeps: an offset alone says nothing of the stream that it points into. So the last
//! messages that were taken are remembered with it, by digest, and are read once more before anything
//! behind them is taken for new.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use super::{Control, HeaderValue};

/// What tells a message from others: a digest of its body and of what its publisher set.
pub type Print = [u8; 32];

/// How many of the last messages are remembered. As many that are the same, in the same order and at the
/// same offsets, in another stream would be the same cancellations.
const KEPT: usize = 16;

const VERSION: u8 = 1;

/// The last message that was taken, and what those before it were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    offset: u64,
    /// Of the messages up to `offset`, which follow each other without a gap. Empty where an earlier
    /// release noted the offset alone.
    prints: VecDeque<Print>,
}

impl Place {
    /// A place of which the offset alone is known.
    pub const fn at(offset: u64) -> Place {
        Place { offset, prints: VecDeque::new() }
    }

    /// The offset of the last message that was taken.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Where reading begins, so that what is remembered is read once more.
    pub fn first(&self) -> u64 {
        self.offset.saturating_sub(self.prints.len().saturating_sub(1) as u64)
    }

    /// The place once another message is taken.
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

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        self.prints.iter().for_each(|print| bytes.extend_from_slice(print));
        bytes
    }

    /// Reads [`Self::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (offset, rest) = rest.split_first_chunk()?;
        let (prints, left) = rest.as_chunks();
        let is_whole = left.is_empty() && prints.len() <= KEPT;
        is_whole.then(|| Place { offset: u64::from_be_bytes(*offset), prints: prints.iter().copied().collect() })
    }
}

/// What tells a message of the control stream from others, whatever its offset.
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

/// What a message is that was read behind a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Taken before.
    Again,
    /// The next one.
    New,
    /// No message that this stream could have here: it is another stream.
    Foreign,
}

/// Compares what a stream has with what was read of it.
#[derive(Debug)]
pub struct Comparison {
    place: Place,
    last: Option<u64>,
    is_over: bool,
}

impl Comparison {
    /// Begins at a place; without one everything is new.
    pub fn new(place: Option<Place>) -> Comparison {
        Comparison { is_over: place.is_none(), place: place.unwrap_or_default(), last: None }
    }

    /// True once nothing remembered is left to be compared. A stream that was read up to this place has at
    /// least one message there or behind it, and gives it at once.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the next message is, in the order in which the stream gives them.
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
            // Where it is the first, those before it were old enough to be removed.
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

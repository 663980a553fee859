//! The broker's method frames: the few that matter here, and their short strings made readable.
//!
//! The rule it keeps: a string is repaired in place, so that no frame changes its length.

use super::table::mend_text;

/// The kind of a method.
pub(super) enum Method {
    /// `basic.deliver` or `basic.get-ok`, with its delivery tag.
    Delivery(u64),
    /// `channel.open-ok`.
    ChannelOpened,
    /// `connection.tune`, with the broker's `frame_max`.
    Tune(u32),
    /// Any other.
    Other,
}

/// A checked method.
pub(super) struct Looked {
    /// Its kind.
    pub method: Method,
    /// True if a string was not UTF-8.
    pub mended: bool,
}

/// A part of a method's arguments.
enum Part {
    /// This many bytes of numbers and bits.
    Bytes(usize),
    /// A short string.
    Text,
}
use Part::{Bytes, Text};

/// The arguments with a publisher's or operator's strings, for the methods that a broker sends.
fn parts(class: u16, method: u16) -> &'static [Part] {
    match (class, method) {
        // connection.close, channel.close
        (10, 50) | (20, 40) => &[Bytes(2), Text, Bytes(4)],
        // connection.blocked
        (10, 60) => &[Text],
        // queue.declare-ok
        (50, 11) => &[Text, Bytes(8)],
        // basic.consume-ok, basic.cancel, basic.cancel-ok
        (60, 21 | 30 | 31) => &[Text],
        // basic.return
        (60, 50) => &[Bytes(2), Text, Text, Text],
        // basic.deliver
        (60, 60) => &[Text, Bytes(9), Text, Text],
        // basic.get-ok
        (60, 71) => &[Bytes(9), Text, Text, Bytes(4)],
        _ => &[],
    }
}

/// Checks a method's payload; its strings are repaired in place.
pub(super) fn look(payload: &mut [u8]) -> Looked {
    let other = Looked { method: Method::Other, mended: false };
    let Some(&[a, b, c, d]) = payload.get(..4) else { return other };
    let (class, method) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let mut mended = false;
    let mut at = 4;
    for part in parts(class, method) {
        match part {
            Bytes(count) => at += count,
            Text => {
                let Some(length) = payload.get(at).map(|length| usize::from(*length)) else { break };
                let Some(text) = payload.get_mut(at + 1..at + 1 + length) else { break };
                mended |= mend_text(text);
                at += 1 + length;
            }
        }
    }
    let number = |at: usize| payload.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_be_bytes);
    let method = match (class, method) {
        (60, 60) => payload.get(4).and_then(|tag| number(5 + usize::from(*tag))).map(Method::Delivery),
        (60, 71) => number(4).map(Method::Delivery),
        (20, 11) => Some(Method::ChannelOpened),
        (10, 30) => {
            let four = payload.get(6..10).and_then(|four| four.try_into().ok());
            four.map(u32::from_be_bytes).map(Method::Tune)
        }
        _ => None,
    };
    Looked { method: method.unwrap_or(Method::Other), mended }
}

/// The largest frame if we request `ours` and the broker `theirs`; 0 means any.
pub(super) fn agreed(ours: usize, theirs: u32) -> usize {
    // Every peer accepts this many bytes.
    const LEAST: usize = 4096;
    let theirs = if theirs == 0 { ours } else { theirs as usize };
    ours.min(theirs).max(LEAST)
}

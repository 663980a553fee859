//! The filter of the broker's frames: readable frames pass unchanged, others are repaired on their way to the client
//! library.
//!
//! The rule it keeps: ordinary bytes are neither delayed nor moved; a content header waits until it is complete.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use sha2::{Digest as _, Sha256};

use super::header::{self, Seen};
use super::marks::Marks;
use super::methods::{self, Method};
use crate::broker::{Cut, Fault};

/// Type, channel and size before a frame's payload.
const HEAD: usize = 7;
/// The byte after it.
const END: u8 = 206;

const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// A content header longer than this is not parsed: it passes without its properties.
const HELD_MAX: usize = 4 * 1024 * 1024;

/// A longer body passes only as its beginning. No job and no dead letter of a job is so long.
pub(super) const WHOLE_MAX: u64 = 2 * 1024 * 1024;
/// The length of that beginning: it fits into the smallest frame.
const BEGINNING: usize = 2 * 1024;

/// The memory that is kept between two long frames.
const IDLE_MAX: usize = 256 * 1024;

/// Bytes from the broker to the library.
pub(super) struct Frames {
    marks: Arc<Marks>,
    /// The frame size on which both sides have agreed.
    frame_max: usize,
    /// Read bytes, partly checked.
    bytes: Vec<u8>,
    /// The bytes before this were taken.
    taken: usize,
    /// The bytes before this may be taken.
    clear: usize,
    state: State,
    /// The latest delivery tag of each channel.
    tags: HashMap<u16, u64>,
    /// Bodies that pass only as their beginning.
    cuts: HashMap<u16, Cutting>,
}

enum State {
    /// At the first byte of a frame.
    Begin,
    /// This many bytes pass unchanged.
    Pass(usize),
    /// This many bytes of an oversized content header are removed.
    Skip(usize),
    /// No more frames: everything passes.
    Raw,
}

struct Cutting {
    bytes: u64,
    left: u64,
    beginning: Vec<u8>,
    hash: Sha256,
}

impl Frames {
    pub(super) fn new(marks: Arc<Marks>, frame_max: usize) -> Self {
        let (bytes, tags, cuts) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { marks, frame_max, bytes, taken: 0, clear: 0, state: State::Begin, tags, cuts }
    }

    /// Copies the bytes that may be taken.
    pub(super) fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.clear - self.taken);
        to[..count].copy_from_slice(&self.bytes[self.taken..self.taken + count]);
        self.taken += count;
        count
    }

    /// Reads up to `room` more bytes; returns their number.
    pub(super) fn fill(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // All checked bytes are gone, so at most a part of a frame is moved.
        self.bytes.drain(..self.taken);
        self.clear -= self.taken;
        self.taken = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(IDLE_MAX);
        }
        let there = self.bytes.len();
        self.bytes.resize(there + room, 0);
        let done = read(&mut self.bytes[there..]);
        let count = if let Poll::Ready(Ok(count)) = done { count.min(room) } else { 0 };
        self.bytes.truncate(there + count);
        done
    }

    /// Checks the bytes that were read.
    pub(super) fn judge(&mut self) {
        while self.step() {}
    }

    /// True if there was progress.
    fn step(&mut self) -> bool {
        let there = self.bytes.len() - self.clear;
        if there == 0 {
            return false;
        }
        match self.state {
            State::Raw => {
                self.clear = self.bytes.len();
                false
            }
            State::Pass(left) => {
                let count = left.min(there);
                self.clear += count;
                self.state = if count == left { State::Begin } else { State::Pass(left - count) };
                true
            }
            State::Skip(left) => {
                let count = left.min(there);
                self.bytes.drain(self.clear..self.clear + count);
                self.state = if count == left { State::Begin } else { State::Skip(left - count) };
                true
            }
            State::Begin => self.begin(),
        }
    }

    fn begin(&mut self) -> bool {
        let frame = &self.bytes[self.clear..];
        if !matches!(frame[0], METHOD | CONTENT_HEADER | BODY | HEARTBEAT) {
            // The broker answers with its own version, or uses another protocol: the library reports it.
            self.state = State::Raw;
            return true;
        }
        let Some(&[kind, high, low, a, b, c, d]) = frame.get(..HEAD) else { return false };
        let channel = u16::from_be_bytes([high, low]);
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        let whole = HEAD + size + 1;
        let is_cut = kind == BODY && self.cuts.contains_key(&channel);
        match kind {
            CONTENT_HEADER if size > HELD_MAX => {
                if frame.len() < HEAD + header::LEAST {
                    return false;
                }
                self.skip_properties(channel, whole);
                true
            }
            METHOD if size > HELD_MAX => self.pass(whole),
            METHOD | CONTENT_HEADER => {
                if frame.len() < whole {
                    return false;
                }
                if kind == METHOD {
                    self.method(channel, whole)
                } else {
                    self.header(channel, whole)
                }
                true
            }
            BODY if is_cut => {
                if frame.len() < whole {
                    return false;
                }
                self.shorten(channel, whole);
                true
            }
            _ => self.pass(whole),
        }
    }

    fn pass(&mut self, count: usize) -> bool {
        self.state = State::Pass(count);
        true
    }

    fn payload(&mut self, whole: usize) -> &mut [u8] {
        &mut self.bytes[self.clear + HEAD..self.clear + whole - 1]
    }

    fn method(&mut self, channel: u16, whole: usize) {
        let seen = methods::look(self.payload(whole));
        self.cuts.remove(&channel);
        match seen.method {
            Method::Delivery(tag) => {
                self.tags.insert(channel, tag);
                if seen.mended {
                    self.marks.set(channel, tag, |mended| mended.fault = Some(Fault::NotUtf8));
                }
            }
            Method::ChannelOpened => {
                self.tags.remove(&channel);
                self.marks.forget(channel);
            }
            Method::Tune(theirs) => self.frame_max = methods::agreed(self.frame_max, theirs),
            Method::Other => {
                self.tags.remove(&channel);
            }
        }
        self.clear += whole;
    }

    /// A complete content header.
    fn header(&mut self, channel: u16, whole: usize) {
        let frame_max = self.frame_max;
        let seen = header::look(self.payload(whole), frame_max);
        let fault = match &seen {
            Seen::Stays(fault) => *fault,
            Seen::Anew(_, fault) => Some(*fault),
        };
        let length = match seen {
            Seen::Stays(_) => whole,
            Seen::Anew(payload, _) => self.replace(whole, CONTENT_HEADER, channel, &payload),
        };
        self.noted(channel, fault);
        self.announce(channel, length);
        self.clear += length;
    }

    fn noted(&self, channel: u16, fault: Option<Fault>) {
        if let (Some(fault), Some(tag)) = (fault, self.tags.get(&channel)) {
            self.marks.set(channel, *tag, |mended| mended.fault = mended.fault.or(Some(fault)));
        }
    }

    /// Reads the body's size from the header of `length` bytes.
    fn announce(&mut self, channel: u16, length: usize) {
        let is_delivery = self.tags.contains_key(&channel);
        let payload = self.payload(length);
        let Some(bytes) = header::body_size(payload).filter(|bytes| *bytes > WHOLE_MAX && is_delivery) else { return };
        header::set_body_size(payload, BEGINNING as u64);
        let beginning = Vec::with_capacity(BEGINNING);
        self.cuts.insert(channel, Cutting { bytes, left: bytes, beginning, hash: Sha256::new() });
    }

    /// An oversized content header: only the body's size is kept.
    fn skip_properties(&mut self, channel: u16, whole: usize) {
        let begin = self.clear + HEAD;
        let payload = header::bare(&self.bytes[begin..begin + header::LEAST]);
        let short = frame(CONTENT_HEADER, channel, &payload);
        let there = (self.bytes.len() - self.clear).min(whole);
        self.bytes.splice(self.clear..self.clear + there, short.iter().copied());
        self.noted(channel, Some(Fault::TooLarge));
        self.announce(channel, short.len());
        self.clear += short.len();
        self.state = if there == whole { State::Begin } else { State::Skip(whole - there) };
    }

    /// A frame of a body that does not pass whole.
    fn shorten(&mut self, channel: u16, whole: usize) {
        let Some(mut cut) = self.cuts.remove(&channel) else { return };
        let payload = self.payload(whole);
        cut.hash.update(&*payload);
        let room = BEGINNING - cut.beginning.len();
        cut.beginning.extend_from_slice(&payload[..payload.len().min(room)]);
        cut.left = cut.left.saturating_sub(payload.len() as u64);
        if cut.left > 0 {
            self.bytes.drain(self.clear..self.clear + whole);
            self.cuts.insert(channel, cut);
            return;
        }
        if let Some(tag) = self.tags.get(&channel) {
            let whole = Cut { bytes: cut.bytes, sha256: hex::encode(cut.hash.finalize()) };
            self.marks.set(channel, *tag, |mended| mended.cut = Some(whole));
        }
        let length = self.replace(whole, BODY, channel, &cut.beginning);
        self.clear += length;
    }

    /// Replaces a frame of `whole` bytes; returns the new length.
    fn replace(&mut self, whole: usize, kind: u8, channel: u16, payload: &[u8]) -> usize {
        let anew = frame(kind, channel, payload);
        let length = anew.len();
        self.bytes.splice(self.clear..self.clear + whole, anew);
        length
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[END]].concat()
}

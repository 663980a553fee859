//! A publisher that writes its own AMQP 0-9-1 frames, so that it can send messages that no library sends.
//!
//! The rule it keeps: a message was either confirmed or refused by the broker.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const CHANNEL: u16 = 1;
const SILENCE: Duration = Duration::from_secs(60);

/// A connection with one channel in confirm mode.
pub struct RawPublisher {
    stream: TcpStream,
    frame_max: usize,
    sent: u64,
    confirmed: u64,
    below: u64,
    alone: BTreeSet<u64>,
}

/// A message with the exact flags and properties of its content header.
#[derive(Debug, Clone, Default)]
pub struct RawMessage {
    pub key: Vec<u8>,
    pub flags: u16,
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// A short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

/// A value with its length before it: `S`, `x`, `A` or `F`.
pub fn long(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl RawPublisher {
    /// Connects as `guest`.
    pub fn connect(port: u16) -> RawPublisher {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut raw =
            RawPublisher { stream, frame_max: 131_072, sent: 0, confirmed: 0, below: 0, alone: BTreeSet::new() };
        raw.stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
        raw.expect(10, 10);
        let login = [&[0; 4][..], &short(b"PLAIN"), &long(b'S', b"\0guest\0guest")[1..], &short(b"en_US")].concat();
        raw.method(0, 10, 11, &login);
        let tune = raw.expect(10, 30);
        let theirs = u32::from_be_bytes(tune[2..6].try_into().unwrap()) as usize;
        raw.frame_max = if theirs == 0 { raw.frame_max } else { theirs.min(raw.frame_max) };
        let frame_max = u32::try_from(raw.frame_max).unwrap();
        raw.method(0, 10, 31, &[&tune[..2], &frame_max.to_be_bytes(), &[0, 0]].concat());
        raw.method(0, 10, 40, &[&short(b"/")[..], &short(b""), &[0]].concat());
        raw.expect(10, 41);
        raw.method(CHANNEL, 20, 10, &short(b""));
        raw.expect(20, 11);
        raw.method(CHANNEL, 85, 10, &[0]);
        raw.expect(85, 11);
        raw
    }

    /// The longest payload of a frame.
    pub fn room(&self) -> usize {
        self.frame_max - 8
    }

    /// Publishes these and waits for all confirms. The error is the broker's text of a refusal; the connection or channel
    /// is then closed.
    pub fn publish(&mut self, exchange: &str, messages: &[RawMessage]) -> Result<(), String> {
        for message in messages {
            let sent = self.send(exchange, message);
            self.sent += 1;
            if sent.is_err() {
                break;
            }
        }
        while self.confirmed < self.sent {
            let (kind, payload) = self.read().map_err(|error| error.to_string())?;
            match (kind, payload.get(..4)) {
                // The delivery tag; with "multiple" all tags up to it. Single confirms may arrive in any order.
                (1, Some([0, 60, 0, 80])) => {
                    let tag = u64::from_be_bytes(payload[4..12].try_into().unwrap());
                    if payload[12] & 1 == 1 {
                        self.alone.retain(|other| *other > tag);
                        self.below = tag;
                    } else {
                        self.alone.insert(tag);
                    }
                    self.confirmed = self.below + self.alone.len() as u64;
                }
                (1, Some([0, 60, 0, 120] | [0, 20, 0, 40] | [0, 10, 0, 50])) => {
                    return Err(String::from_utf8_lossy(&payload[4..]).into_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, exchange: &str, message: &RawMessage) -> io::Result<()> {
        let RawMessage { key, flags, properties, body } = message;
        let publish = [&[0, 60, 0, 40, 0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        let size = (body.len() as u64).to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &flags.to_be_bytes(), properties].concat();
        self.frame(1, CHANNEL, &publish)?;
        self.frame(2, CHANNEL, &header)?;
        for piece in body.chunks(self.room()) {
            self.frame(3, CHANNEL, piece)?;
        }
        Ok(())
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload).unwrap();
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let size = u32::try_from(payload.len()).unwrap();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[206]].concat();
        self.stream.write_all(&frame)
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes(head[3..7].try_into().unwrap()) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload)?;
        payload.pop();
        Ok((head[0], payload))
    }

    /// The arguments of the next method, which must be this one.
    fn expect(&mut self, class: u16, method: u16) -> Vec<u8> {
        loop {
            let (kind, payload) = self.read().unwrap();
            if kind == 1 {
                let is = [&class.to_be_bytes()[..], &method.to_be_bytes()].concat();
                assert_eq!(payload[..4], is, "{}", String::from_utf8_lossy(&payload));
                return payload[4..].to_vec();
            }
        }
    }
}

//! A client of AMQP 1.0 that writes its own frames: only the part that RabbitMQ 4 needs to accept a message from a
//! publisher, or to requeue one.
//!
//! The rule it keeps: a sent message was accepted and a received one is settled, or the test fails.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const SILENCE: Duration = Duration::from_secs(60);
/// The number of frames that the broker may send before it needs a new window.
const WINDOW: u32 = 100;

/// A value in AMQP 1.0's own encoding.
pub type Value = Vec<u8>;

pub fn null() -> Value {
    vec![0x40]
}

pub fn uint(number: u32) -> Value {
    [&[0x70][..], &number.to_be_bytes()].concat()
}

pub fn uuid(bytes: [u8; 16]) -> Value {
    [&[0x98][..], &bytes].concat()
}

pub fn character(it: char) -> Value {
    [&[0x73][..], &u32::from(it).to_be_bytes()].concat()
}

pub fn string(text: &str) -> Value {
    sized(0xb1, text.as_bytes())
}

pub fn symbol(text: &str) -> Value {
    sized(0xb3, text.as_bytes())
}

pub fn binary(bytes: &[u8]) -> Value {
    sized(0xb0, bytes)
}

fn sized(kind: u8, bytes: &[u8]) -> Value {
    [&[kind][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn compound(kind: u8, values: &[Value]) -> Value {
    let body = [&u32::try_from(values.len()).unwrap().to_be_bytes()[..], &values.concat()].concat();
    sized(kind, &body)
}

pub fn list(values: &[Value]) -> Value {
    compound(0xd0, values)
}

pub fn map(entries: &[(Value, Value)]) -> Value {
    compound(0xd1, &entries.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect::<Vec<_>>())
}

/// A described value, with the descriptor's number in the specification.
fn described(number: u8, value: &[u8]) -> Value {
    [&[0x00, 0x53, number][..], value].concat()
}

/// The section of a body.
pub enum Body<'a> {
    /// A data section, as the worker expects.
    Data(&'a [u8]),
    /// Text in a value section, the default of some libraries.
    Text(&'a str),
}

/// A durable message.
pub fn message(id: &Value, application: &[(Value, Value)], body: &Body<'_>) -> Vec<u8> {
    let body = match body {
        Body::Data(bytes) => described(0x75, &binary(bytes)),
        Body::Text(text) => described(0x77, &string(text)),
    };
    let sections = [
        described(0x70, &list(&[vec![0x41]])),
        described(0x73, &list(std::slice::from_ref(id))),
        described(0x74, &map(application)),
        body,
    ];
    sections.concat()
}

/// A connection with one session.
pub struct Client {
    stream: TcpStream,
    links: u32,
    sent: u32,
    /// The number of the broker's first transfer.
    first: u32,
}

impl Client {
    /// Connects as `guest`.
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut client = Client { stream, links: 0, sent: 0, first: 0 };
        client.greet(b"AMQP\x03\x01\0\0");
        client.expect(0x40);
        client.frame(1, &described(0x41, &list(&[symbol("PLAIN"), binary(b"\0guest\0guest")])));
        client.expect(0x44);
        client.greet(b"AMQP\0\x01\0\0");
        client.frame(0, &described(0x10, &list(&[string("a test"), string("vhost:/")])));
        client.expect(0x10);
        client.frame(0, &described(0x11, &list(&[null(), uint(0), uint(WINDOW), uint(WINDOW)])));
        let begun = client.expect(0x11);
        // After the list's head: the broker's channel, then the number of its first delivery.
        let fields = if begun[0] == 0xc0 { &begun[3..] } else { &begun[9..] };
        assert_eq!(fields[0], 0x60, "{begun:x?}");
        // A number has the shortest encoding.
        client.first = match fields[3] {
            0x43 => 0,
            0x52 => u32::from(fields[4]),
            _ => u32::from_be_bytes(fields[4..8].try_into().unwrap()),
        };
        client
    }

    /// Sends a message to an exchange and waits until the broker has accepted it.
    pub fn send(&mut self, exchange: &str, key: &str, message: &[u8]) {
        let handle = self.attach(false, &null(), &string(&format!("/exchanges/{exchange}/{key}")));
        self.expect(0x13);
        let delivery = uint(self.sent);
        self.sent += 1;
        let transfer = list(&[uint(handle), delivery, binary(&[1]), uint(0), vec![0x42], vec![0x42]]);
        self.frame(0, &[described(0x14, &transfer), message.to_vec()].concat());
        let state = self.expect(0x15);
        let accepted = described(0x24, &[]);
        assert!(state.windows(3).any(|piece| piece == accepted), "not accepted: {}", String::from_utf8_lossy(&state));
    }

    /// Takes the first message of a queue.
    pub fn take(&mut self, queue: &str) -> Vec<u8> {
        let handle = self.attach(true, &string(&format!("/queues/{queue}")), &null());
        let credit = [uint(self.first), uint(WINDOW), uint(0), uint(WINDOW), uint(handle), uint(0), uint(1)];
        self.frame(0, &described(0x13, &list(&credit)));
        let message = self.expect(0x14);
        // The first delivery of this session.
        let settled = [vec![0x41], uint(0), uint(0), vec![0x41], described(0x24, &list(&[]))];
        self.frame(0, &described(0x15, &list(&settled)));
        // The broker answers in order: after this answer it has read the settlement.
        self.frame(0, &described(0x17, &list(&[])));
        self.expect(0x17);
        message
    }

    fn attach(&mut self, receives: bool, source: &Value, target: &Value) -> u32 {
        let handle = self.links;
        self.links += 1;
        let role = vec![if receives { 0x41 } else { 0x42 }];
        let mut fields = vec![string(&format!("link {handle}")), uint(handle), role];
        fields.extend([vec![0x50, 0], vec![0x50, 0]]);
        fields.extend([described(0x28, &list(std::slice::from_ref(source)))]);
        fields.extend([described(0x29, &list(std::slice::from_ref(target)))]);
        if !receives {
            fields.extend([null(), null(), uint(0)]);
        }
        self.frame(0, &described(0x12, &list(&fields)));
        self.expect(0x12);
        handle
    }

    fn greet(&mut self, header: &[u8; 8]) {
        self.stream.write_all(header).unwrap();
        let mut theirs = [0; 8];
        self.stream.read_exact(&mut theirs).unwrap();
        assert_eq!(theirs, *header);
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let size = u32::try_from(payload.len() + 8).unwrap().to_be_bytes();
        self.stream.write_all(&[&size[..], &[2, kind, 0, 0], payload].concat()).unwrap();
    }

    /// The next frame with this number; only frames that grant credit may precede it.
    fn expect(&mut self, number: u8) -> Vec<u8> {
        loop {
            let mut size = [0; 4];
            self.stream.read_exact(&mut size).unwrap();
            let mut rest = vec![0; u32::from_be_bytes(size) as usize - 4];
            self.stream.read_exact(&mut rest).unwrap();
            // An empty frame is a heartbeat.
            let Some([_, _, found]) = rest.get(4..7) else { continue };
            if *found == number {
                return rest.split_off(7);
            }
            assert_eq!(*found, 0x13, "{number:#x} was expected: {}", String::from_utf8_lossy(&rest));
        }
    }
}

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::task::Poll;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use proptest::collection::vec;
use proptest::prelude::*;

use super::frames::{Frames, WHOLE_MAX};
use super::marks::Marks;
use crate::broker::{Fault, MAX_NESTING, Mended};

const FRAME_MAX: usize = 16 * 1024;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[206]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

fn long(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn deliver(tag: u64, key: &[u8]) -> Vec<u8> {
    let payload =
        [&[0, 60, 0, 60][..], &short(b"consumer"), &tag.to_be_bytes(), &[0], &short(b"exchange"), &short(key)].concat();
    frame(1, 1, &payload)
}

fn content(body: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    let payload = [&[0, 60, 0, 0][..], &body.to_be_bytes(), &flags.to_be_bytes(), properties].concat();
    frame(2, 1, &payload)
}

/// A message with one header table.
fn with_table(entries: &[u8]) -> Vec<u8> {
    let table = &long(b'F', entries)[1..];
    [deliver(1, b"job"), content(2, 1 << 13, table), frame(3, 1, b"{}")].concat()
}

/// The library's bytes for this input, read in pieces of these sizes, and the mark of the first delivery.
fn through(bytes: &[u8], pieces: &[usize]) -> (Vec<u8>, Option<Mended>) {
    let marks = Arc::new(Marks::default());
    let mut frames = Frames::new(Arc::clone(&marks), FRAME_MAX);
    let (mut given, mut at) = (Vec::new(), 0);
    let mut sizes = pieces.iter().copied().cycle();
    while at < bytes.len() {
        let room = sizes.next().unwrap_or(bytes.len()).clamp(1, bytes.len() - at);
        let read = frames.fill(room, |space| {
            space.copy_from_slice(&bytes[at..at + room]);
            Poll::Ready(Ok(room))
        });
        assert!(read.is_ready());
        at += room;
        frames.judge();
        let mut buffer = [0; 512];
        loop {
            let count = frames.take(&mut buffer);
            if count == 0 {
                break;
            }
            given.extend_from_slice(&buffer[..count]);
        }
    }
    (given, marks.take(1, 1))
}

/// Every frame, as the library reads it.
fn read(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
        assert!(bytes.len() - rest.len() <= FRAME_MAX, "a frame of {} bytes", bytes.len() - rest.len());
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    let (given, mended) = through(bytes, &[]);
    read(&given);
    mended.and_then(|mended| mended.fault)
}

/// A value of any type that RabbitMQ sends, up to the accepted depth.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let plain = |kind: u8, length: usize| vec(any::<u8>(), length).prop_map(move |bytes| [vec![kind], bytes].concat());
    let leaf = prop_oneof![
        plain(b't', 1),
        plain(b'b', 1),
        plain(b'B', 1),
        plain(b's', 2),
        plain(b'U', 2),
        plain(b'u', 2),
        plain(b'I', 4),
        plain(b'i', 4),
        plain(b'f', 4),
        plain(b'l', 8),
        plain(b'L', 8),
        plain(b'd', 8),
        plain(b'T', 8),
        plain(b'D', 5),
        plain(b'V', 0),
        vec(any::<u8>(), 0..40).prop_map(|bytes| long(b'S', &bytes)),
        vec(any::<u8>(), 0..40).prop_map(|bytes| long(b'x', &bytes)),
    ];
    leaf.prop_recursive(6, 30, 4, |inner| {
        let array = vec(inner.clone(), 0..4).prop_map(|values| long(b'A', &values.concat()));
        let table = vec(("[a-zé]{0,9}", inner), 0..4).prop_map(|entries| {
            let entries: Vec<u8> =
                entries.iter().flat_map(|(name, value)| [short(name.as_bytes()), value.clone()].concat()).collect();
            long(b'F', &entries)
        });
        prop_oneof![array, table]
    })
}

fn entries() -> impl Strategy<Value = Vec<u8>> {
    vec(("[a-zé-]{0,9}", value()), 0..5).prop_map(|entries| {
        entries.iter().flat_map(|(name, value)| [short(name.as_bytes()), value.clone()].concat()).collect()
    })
}

/// All properties, each present or not, with valid text or any bytes.
fn properties(text: fn() -> BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = (u16, Vec<u8>)> {
    let texts = vec(proptest::option::of(text()), 10);
    let numbers =
        (proptest::option::of(any::<u8>()), proptest::option::of(any::<u8>()), proptest::option::of(any::<u64>()));
    (texts, proptest::option::of(entries()), numbers).prop_map(|(texts, table, (mode, priority, time))| {
        let (mut flags, mut bytes) = (0, Vec::new());
        let mut put = |place: u16, part: Option<Vec<u8>>| {
            if let Some(part) = part {
                flags |= 1 << (15 - place);
                bytes.extend_from_slice(&part);
            }
        };
        let text = |index: usize| texts[index].as_deref().map(short);
        put(0, text(0));
        put(1, text(1));
        put(2, table.map(|entries| long(b'F', &entries)[1..].to_vec()));
        put(3, mode.map(|mode| vec![mode]));
        put(4, priority.map(|priority| vec![priority]));
        for (place, index) in [(5, 2), (6, 3), (7, 4), (8, 5)] {
            put(place, text(index));
        }
        put(9, time.map(|time| time.to_be_bytes().to_vec()));
        for (place, index) in [(10, 6), (11, 7), (12, 8), (13, 9)] {
            put(place, text(index));
        }
        (flags, bytes)
    })
}

fn good_text() -> BoxedStrategy<Vec<u8>> {
    "[a-zåäö/+-]{0,30}".prop_map(String::into_bytes).boxed()
}

fn any_text() -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..255).boxed()
}

fn message(flags: u16, properties: &[u8], body: &[u8]) -> Vec<u8> {
    [deliver(1, b"job"), content(body.len() as u64, flags, properties), frame(3, 1, body), frame(8, 0, b"")].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_the_library_can_read_passes_to_the_byte_however_it_is_read(
        (flags, properties) in properties(good_text),
        body in vec(any::<u8>(), 0..2000),
        pieces in vec(1..3000_usize, 1..5),
    ) {
        let bytes = [message(flags, &properties, &body), message(flags, &properties, &body)].concat();
        let (given, mended) = through(&bytes, &pieces);
        prop_assert_eq!(mended, None);
        prop_assert!(given == bytes);
        prop_assert_eq!(read(&given).len(), 8);
    }

    #[test]
    fn whatever_stands_in_the_properties_the_library_can_read_what_comes_out_and_its_neighbours(
        (flags, properties) in properties(any_text),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        extra in vec(any::<u8>(), 0..6),
        flags_too in any::<u16>(),
        change_flags in any::<bool>(),
        key in vec(any::<u8>(), 0..255),
        body in vec(any::<u8>(), 0..500),
        pieces in vec(1..900_usize, 1..5),
    ) {
        let mut properties = [properties, extra].concat();
        for (place, byte) in changes {
            if !properties.is_empty() {
                let place = place.index(properties.len());
                properties[place] = byte;
            }
        }
        let flags = if change_flags { flags_too } else { flags };
        let hostile =
            [deliver(1, &key), content(body.len() as u64, flags, &properties), frame(3, 1, &body)].concat();
        let good = message(1 << 15, &short(b"application/json"), b"{}");
        let (given, mended) = through(&[&good[..], &hostile, &good].concat(), &pieces);
        let frames = read(&given);
        prop_assert_eq!(frames.len(), 11);
        prop_assert_eq!(&frames[6], &AMQPFrame::Body(1, body));
        prop_assert!(given.starts_with(&good) && given.ends_with(&good));
        // If the library could have read everything, nothing was changed.
        if parse_frame(&hostile[..]).and_then(|(rest, _)| parse_frame(rest)).is_err() {
            prop_assert!(mended.is_some());
        }
    }
}

#[test]
fn tables_and_arrays_in_each_other_are_taken_to_a_depth_and_never_read_by_recursion() {
    for kind in [b'A', b'F'] {
        for (depth, expected) in [
            (1, None),
            (MAX_NESTING, None),
            (MAX_NESTING + 1, Some(Fault::TooDeep)),
            (3_750, Some(Fault::TooLarge)),
            (26_000, Some(Fault::TooLarge)),
            (500_000, Some(Fault::TooLarge)),
        ] {
            let mut bytes = Vec::new();
            for _ in 0..depth {
                let inner = if kind == b'F' && !bytes.is_empty() { [short(b""), bytes].concat() } else { bytes };
                if inner.len() > 5_000_000 {
                    bytes = inner;
                    break;
                }
                // Lengths are written from the inside out.
                bytes = long(kind, &inner);
                if depth > 30_000 {
                    bytes = long(kind, &vec![kind; depth * 5]);
                    break;
                }
            }
            assert_eq!(fault(&with_table(&[short(b"deep"), bytes].concat())), expected, "{depth} of {}", kind as char);
        }
    }
}

#[test]
fn headers_that_would_not_fit_a_second_time_do_not_pass_the_first_time() {
    for size in FRAME_MAX - 3000..FRAME_MAX + 3000 {
        let bytes = with_table(&[short(b"large"), long(b'S', &vec![b'v'; size])].concat());
        let expected = (size + 50 + 1024 > FRAME_MAX).then_some(Fault::TooLarge);
        let is_near = size + 1024 < FRAME_MAX && size + 1150 > FRAME_MAX;
        let found = fault(&bytes);
        assert!(found == expected || is_near, "{size}: {found:?}");
    }
}

#[test]
fn of_headers_that_do_not_fit_the_short_ones_stay() {
    let many: Vec<u8> = [
        [short(b"large"), long(b'S', &vec![b'v'; 300_000])].concat(),
        [short(b"x-stream-offset"), [vec![b'l'], 77_u64.to_be_bytes().to_vec()].concat()].concat(),
        [short(b"deep"), long(b'A', &long(b'A', b""))].concat(),
        [short(b"x-signature"), long(b'S', b"abc")].concat(),
    ]
    .concat();
    let (given, mended) = through(&with_table(&many), &[700]);
    assert_eq!(mended.unwrap().fault, Some(Fault::TooLarge));
    let frames = read(&given);
    let AMQPFrame::Header(_, header) = &frames[1] else { panic!("{frames:?}") };
    let names: Vec<_> =
        header.properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-signature", "x-stream-offset"]);
}

#[test]
fn a_content_header_beyond_all_measure_passes_without_its_properties_and_is_not_held() {
    let size = 20 * 1024 * 1024;
    let bytes = with_table(&[short(b"large"), long(b'S', &vec![b'v'; size])].concat());
    for pieces in [vec![], vec![30_000], vec![1, 18, 40, 32_000]] {
        let (given, mended) = through(&bytes, &pieces);
        assert_eq!(mended.unwrap().fault, Some(Fault::TooLarge));
        assert!(given.len() < 200);
        assert_eq!(read(&given).len(), 3);
    }
}

#[test]
fn of_a_body_beyond_all_measure_the_beginning_is_given_with_length_and_hash_of_the_whole() {
    use sha2::{Digest as _, Sha256};
    let body: Vec<u8> = (0..WHOLE_MAX as usize + 1).map(|n| (n % 251) as u8).collect();
    let pieces: Vec<u8> = body.chunks(FRAME_MAX - 8).flat_map(|piece| frame(3, 1, piece)).collect();
    let good = message(0, b"", b"{}");
    let bytes = [&deliver(1, b"job")[..], &content(body.len() as u64, 0, b""), &pieces, &good].concat();
    let (given, mended) = through(&bytes, &[5000, 1, 90_000]);
    let frames = read(&given);
    assert_eq!(frames.len(), 7);
    assert_eq!(frames[2], AMQPFrame::Body(1, body[..2048].to_vec()));
    let cut = mended.unwrap().cut.unwrap();
    assert_eq!((cut.bytes, cut.sha256), (body.len() as u64, hex::encode(Sha256::digest(&body))));
}

#[test]
fn a_channel_that_begins_anew_has_no_marks_of_the_one_before() {
    let marks = Arc::new(Marks::default());
    marks.set(1, 1, |mended| mended.fault = Some(Fault::NotUtf8));
    let mut frames = Frames::new(Arc::clone(&marks), FRAME_MAX);
    let opened = frame(1, 1, &[0, 20, 0, 11, 0, 0, 0, 0]);
    let read = frames.fill(opened.len(), |space| {
        space.copy_from_slice(&opened);
        Poll::Ready(Ok(opened.len()))
    });
    assert!(read.is_ready());
    frames.judge();
    assert_eq!(marks.take(1, 1), None);
}

#[test]
fn what_is_no_frame_passes_as_it_is() {
    let (given, _) = through(b"AMQP\0\0\x09\x01", &[3]);
    assert_eq!(given, b"AMQP\0\0\x09\x01");
}

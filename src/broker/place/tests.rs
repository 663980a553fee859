use bytes::Bytes;

use super::*;
use crate::broker::Properties;

fn message(offset: u64, body: u64) -> Control {
    Control { offset, properties: Properties::default(), body: Bytes::from(body.to_string()) }
}

/// Reads a stream from a place on, as a broker does: from the first message if the place is before it, and nothing if
/// the place is after the end. `None`: another stream.
fn read(stream: &[(u64, u64)], place: &Place) -> Option<Vec<u64>> {
    let mut comparison = Comparison::new(Some(place.clone()));
    let mut new = Vec::new();
    // A place after the end counts as the end.
    let from = place.first().min(stream.last().map_or(0, |(offset, _)| offset + 1));
    for (offset, body) in stream.iter().filter(|(offset, _)| *offset >= from) {
        match comparison.judge(&message(*offset, *body)) {
            Read::Again => {}
            Read::New => new.push(*body),
            Read::Foreign => return None,
        }
    }
    comparison.is_over().then_some(new)
}

fn taken(stream: &[(u64, u64)]) -> Place {
    stream
        .iter()
        .fold(None, |place, (offset, body)| Some(Place::after(place.as_ref(), &message(*offset, *body))))
        .unwrap()
}

/// A stream of this many messages, all different.
fn stream(first: u64, count: u64, salt: u64) -> Vec<(u64, u64)> {
    (first..first + count).map(|offset| (offset, salt * 1_000_000 + offset)).collect()
}

#[test]
fn every_stream_that_is_not_the_one_that_was_read_is_found_out_and_the_same_one_goes_on() {
    let mut counts = (0, 0);
    for read_so_far in 1..40_u64 {
        let old = stream(0, read_so_far, 1);
        let place = taken(&old);
        for more in 0..4 {
            // The same stream, longer, with any number of old messages removed.
            let grown = stream(0, read_so_far + more, 1);
            let new: Vec<_> = grown[old.len()..].iter().map(|(_, body)| *body).collect();
            for removed in 0..grown.len() {
                let expected: Vec<_> =
                    new.iter().copied().filter(|body| grown[removed..].iter().any(|(_, b)| b == body)).collect();
                assert_eq!(read(&grown[removed..], &place), Some(expected), "{read_so_far} {more} {removed}");
                counts.0 += 1;
            }
        }
        for length in 0..60 {
            // Another stream with its name, of any length.
            assert_eq!(read(&stream(0, length, 2), &place), None, "{read_so_far} {length}");
            // A stream restored from a copy of any age that continued in another way.
            if length < read_so_far {
                for since in 0..45 {
                    let mut restored = stream(0, length, 1);
                    restored.extend(stream(length, since, 3));
                    assert_eq!(read(&restored, &place), None, "{read_so_far} {length} {since}");
                    counts.1 += 1;
                }
            }
            counts.1 += 1;
        }
    }
    println!("{} states of the same stream, {} other streams", counts.0, counts.1);
}

#[test]
fn a_place_survives_the_store_and_one_of_an_earlier_release_knows_its_offset() {
    for count in 1..40 {
        let place = taken(&stream(5, count, 1));
        assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place.clone()));
        assert_eq!(place.first(), place.offset() + 1 - count.min(16));
        assert_eq!(Place::from_bytes(&place.to_bytes()[..20]), None);
    }
    assert_eq!(Place::from_bytes(b""), None);
    let old = Place::at(7);
    assert_eq!(read(&stream(0, 10, 1), &old), Some(vec![1_000_008, 1_000_009]));
    assert_eq!(read(&stream(0, 5, 1), &old), None);
}

#[test]
fn what_a_publisher_set_tells_two_messages_of_one_body_apart() {
    let mut other = message(0, 1);
    other.properties.message_id = Some("m".to_owned());
    assert_ne!(print(&other), print(&message(0, 1)));
    other.properties = Properties::default();
    other.properties.headers.insert("h".to_owned(), HeaderValue::Bool(true));
    assert_ne!(print(&other), print(&message(0, 1)));
    assert_eq!(print(&message(9, 1)), print(&message(0, 1)), "the offset is no part of it");
}

//! AMQP properties to ours, and back.
//!
//! The rule it keeps: headers that the broker interprets or counts are never sent, whatever a publisher wrote.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::{HeaderValue, Mended, Properties};

/// Headers that the broker writes or obeys. RabbitMQ 3.x takes a republished `x-death` for a dead-letter cycle; `CC`
/// and `BCC` would send copies elsewhere.
fn is_the_brokers(name: &str) -> bool {
    name.eq_ignore_ascii_case("cc")
        || name.eq_ignore_ascii_case("bcc")
        || name == "x-death"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
        || name == "x-delivery-count"
        || name == "x-acquired-count"
        || name == "x-stream-offset"
}

/// Other headers beyond this many bytes are not republished: they would not fit into one frame together with ours,
/// and the broker closes the connection for that.
const FOREIGN_HEADERS_MAX: usize = 32 * 1024;

/// Most bytes of a frame for our headers and the other properties.
const OURS_MAX: usize = 8 * 1024;

/// A short string has at most 255 bytes; a longer text is cut at a character.
pub(super) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(&text[..end]).unwrap_or_default()
}

/// Properties to send in a frame of this size: persistent, and without the broker's headers.
pub(super) fn to_amqp(properties: &Properties, frame_max: u32) -> BasicProperties {
    let mut out = BasicProperties::default().with_delivery_mode(2);
    if let Some(text) = &properties.content_type {
        out = out.with_content_type(short(text));
    }
    if let Some(text) = &properties.message_id {
        out = out.with_message_id(short(text));
    }
    if let Some(text) = &properties.correlation_id {
        out = out.with_correlation_id(short(text));
    }
    if let Some(text) = &properties.kind {
        out = out.with_type(short(text));
    }
    if let Some(text) = &properties.app_id {
        out = out.with_app_id(short(text));
    }
    if let Some(text) = &properties.reply_to {
        out = out.with_reply_to(short(text));
    }
    if let Some(seconds) = properties.timestamp {
        out = out.with_timestamp(seconds);
    }
    if let Some(priority) = properties.priority {
        out = out.with_priority(priority);
    }
    let mut room = FOREIGN_HEADERS_MAX.min((frame_max as usize).saturating_sub(OURS_MAX));
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers.iter().filter(|(name, _)| !is_the_brokers(name)) {
        if !name.starts_with("x-erasure-") {
            let size = name.len() + value.as_text().map_or(8, str::len);
            let Some(left) = room.checked_sub(size) else { continue };
            room = left;
        }
        let value = match value {
            HeaderValue::Text(text) => AMQPValue::LongString(text.as_str().into()),
            HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
            HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
        };
        headers.insert(short(name), value);
    }
    out.with_headers(headers)
}

/// Received properties; of the broker's own headers only `x-delivery-count` is kept.
pub(super) fn from_amqp(properties: &BasicProperties, mended: Option<Mended>) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let headers = properties.headers().iter().flat_map(|table| table.inner());
    Properties {
        content_type: text(properties.content_type()),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        kind: text(properties.kind()),
        app_id: text(properties.app_id()),
        user_id: text(properties.user_id()),
        timestamp: *properties.timestamp(),
        priority: *properties.priority(),
        reply_to: text(properties.reply_to()),
        headers: headers
            .filter(|(name, _)| name.as_str() == "x-delivery-count" || !is_the_brokers(name.as_str()))
            .filter_map(|(name, value)| Some((name.to_string(), header(value)?)))
            .collect(),
        mended,
        line: None,
    }
}

/// A header's value, if it is of a kind that we keep.
pub(super) fn header(value: &AMQPValue) -> Option<HeaderValue> {
    Some(match value {
        AMQPValue::Boolean(flag) => HeaderValue::Bool(*flag),
        AMQPValue::ShortShortInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::ShortShortUInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::ShortInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::ShortUInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::LongInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::LongUInt(number) => HeaderValue::Int((*number).into()),
        AMQPValue::LongLongInt(number) => HeaderValue::Int(*number),
        AMQPValue::ShortString(text) => HeaderValue::Text(text.to_string()),
        AMQPValue::LongString(text) => HeaderValue::Text(std::str::from_utf8(text.as_bytes()).ok()?.to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_interprets_is_never_sent() {
        let mut properties = Properties { user_id: Some("someone".into()), ..Properties::default() };
        for name in ["x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count", "x-acquired-count"] {
            properties.headers.insert(name.into(), HeaderValue::Int(3));
        }
        for name in ["CC", "BCC", "cc", "kept"] {
            properties.headers.insert(name.into(), HeaderValue::Text("a".into()));
        }
        let sent = to_amqp(&properties, 131_072);
        assert_eq!(sent.user_id(), &None);
        assert_eq!(sent.expiration(), &None);
        assert_eq!(sent.delivery_mode(), &Some(2));
        let names: Vec<&str> =
            sent.headers().iter().flat_map(|table| table.inner().keys()).map(|n| n.as_str()).collect();
        assert_eq!(names, ["kept"]);
    }

    #[test]
    fn headers_too_large_for_a_frame_give_way_to_ours() {
        let mut properties = Properties::default();
        properties.headers.insert("a-large-one".into(), HeaderValue::Text("x".repeat(120_000)));
        properties.headers.insert("x-erasure-code".into(), HeaderValue::Text("ERS-0001".into()));
        let sent = from_amqp(&to_amqp(&properties, 131_072), None);
        assert_eq!(sent.headers.keys().collect::<Vec<_>>(), ["x-erasure-code"]);
        properties.headers.insert("a-small-one".into(), HeaderValue::Text("x".repeat(200)));
        for (frame_max, expected) in [(4096, 1), (8192, 1), (16_384, 2)] {
            assert_eq!(from_amqp(&to_amqp(&properties, frame_max), None).headers.len(), expected, "{frame_max}");
        }
    }

    #[test]
    fn a_property_survives_the_way_there_and_back() {
        let mut properties = Properties {
            content_type: Some("application/json".into()),
            message_id: Some("é".repeat(200)),
            timestamp: Some(7),
            ..Properties::default()
        };
        properties.headers.insert("n".into(), HeaderValue::Int(-1));
        properties.headers.insert("b".into(), HeaderValue::Bool(true));
        let back = from_amqp(&to_amqp(&properties, 131_072), None);
        assert_eq!(back.message_id.as_deref().map(str::len), Some(254));
        properties.message_id.clone_from(&back.message_id);
        assert!(back == properties);
    }
}

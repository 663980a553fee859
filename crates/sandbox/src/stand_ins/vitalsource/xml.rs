//! The little XML that the stand-in of VitalSource reads and writes.
//!
//! The rule it keeps: every value is escaped on the way out and unescaped on the way in.

use quick_xml::escape::{escape, unescape};
use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// `<name>value</name>`.
pub(super) fn element(name: &str, value: &str) -> String {
    format!("<{name}>{}</{name}>", escape(value))
}

/// ` name="value"`, with the space before it.
pub(super) fn attribute(name: &str, value: &str) -> String {
    format!(" {name}=\"{}\"", escape(value))
}

/// The vendor's error body.
pub(super) fn error_response(code: u16, text: &str) -> String {
    format!("<error-response><error-code>{code}</error-code>{}</error-response>", element("error-text", text))
}

/// The child elements of the root `<root>` and their text; `None` when the body is something else.
pub(super) fn children(body: &[u8], root: &str) -> Option<Vec<(String, String)>> {
    let mut reader = Reader::from_str(std::str::from_utf8(body).ok()?);
    let mut found = Vec::new();
    let mut inside = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if inside => {
                let raw = reader.read_text(start.name()).ok()?;
                found.push((start.name().as_ref().to_owned(), unescape(&raw).ok()?.into_owned()));
            }
            Event::Empty(empty) if inside => found.push((empty.name().as_ref().to_owned(), String::new())),
            Event::Start(start) if start.name().as_ref() == root => inside = true,
            Event::End(_) if inside => return Some(found),
            Event::Start(_) | Event::Eof => return None,
            _ => {}
        }
    }
}

/// The attribute `name` of the first `<tag>`.
pub(super) fn attribute_of(body: &[u8], tag: &str, name: &str) -> Option<String> {
    let mut reader = Reader::from_str(std::str::from_utf8(body).ok()?);
    loop {
        match reader.read_event().ok()? {
            Event::Start(found) | Event::Empty(found) if found.name().as_ref() == tag => {
                let attribute = found.try_get_attribute(name).ok()??;
                return Some(unescape(&attribute.value).ok()?.into_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

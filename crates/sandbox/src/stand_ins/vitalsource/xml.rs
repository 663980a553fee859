//! The little XML that the stand-in of VitalSource reads and writes.
//!
//! The rule it keeps: every value is escaped on the way out and unescaped on the way in.

use roxmltree::{Document, Node};

fn escape(value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    value.replace('"', "&quot;").replace('\'', "&apos;")
}

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
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let children = document.root_element().children().filter(Node::is_element);
    let read = |child: Node<'_, '_>| (child.tag_name().name().to_owned(), child.text().unwrap_or_default().to_owned());
    document.root_element().has_tag_name(root).then(|| children.map(read).collect())
}

/// The attribute `name` of the first `<tag>`.
pub(super) fn attribute_of(body: &[u8], tag: &str, name: &str) -> Option<String> {
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let found = document.descendants().find(|node| node.has_tag_name(tag))?;
    found.attribute(name).map(str::to_owned)
}

//! Reads VitalSource's XML into a small tree, and writes the documents that are sent.
//!
//! The rule it keeps: depth and number of elements are limited. An entity that the document defines is refused.
//! Nothing is fetched or expanded.

use roxmltree::{Document, Node, ParsingOptions};

/// The interface's replies are nested only a few levels deep.
const MAX_DEPTH: usize = 16;
/// Elements and texts: enough for about ten thousand licences.
const MAX_NODES: u32 = 100_000;

/// An element. Names of elements and attributes are without prefix, in lower case, with `-` for `_`.
#[derive(Default)]
pub(super) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads one document; `None` if it is not exactly one well-formed element.
    pub(super) fn parse(bytes: &[u8]) -> Option<Element> {
        let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, entity_resolver: None };
        let document = Document::parse_with_options(std::str::from_utf8(bytes).ok()?, options).ok()?;
        Element::read(document.root_element(), MAX_DEPTH)
    }

    /// `None` if it is deeper than `depth`.
    fn read(node: Node<'_, '_>, depth: usize) -> Option<Element> {
        let depth = depth.checked_sub(1)?;
        Some(Element {
            name: plain(node.tag_name().name()),
            attributes: node.attributes().map(|one| (plain(one.name()), one.value().to_owned())).collect(),
            text: node.children().filter(Node::is_text).filter_map(|text| text.text()).collect(),
            children: node
                .children()
                .filter(Node::is_element)
                .map(|child| Element::read(child, depth))
                .collect::<Option<_>>()?,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The element's own text, trimmed.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// All children with a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// True if the element has no text, no attribute, and no children but these, each at most once and with text only.
    pub(super) fn holds_only(&self, names: &[&str]) -> bool {
        let is_known = |child: &Element| {
            names.contains(&child.name.as_str()) && child.is_leaf() && self.all(&child.name).count() == 1
        };
        self.text().is_empty() && self.attributes.is_empty() && self.children.iter().all(is_known)
    }

    /// True if the element has no children.
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn children(&self) -> &[Element] {
        &self.children
    }

    /// The attributes: names and values.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.trim()))
    }

    /// Every text of the element and of all elements within it, without empty texts.
    pub(super) fn texts_within(&self) -> Vec<&str> {
        let own = Some(self.text()).filter(|text| !text.is_empty());
        own.into_iter().chain(self.children.iter().flat_map(Element::texts_within)).collect()
    }

    /// A value: a child's text, or an attribute.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let attribute = || self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
        self.child(name).map(Element::text).or_else(attribute)
    }

    /// Like [`Element::value`], also from inner elements; outer elements come first.
    pub(super) fn value_within(&self, name: &str) -> Option<&str> {
        self.value(name).or_else(|| self.children.iter().find_map(|child| child.value_within(name)))
    }
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn escape(value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    value.replace('"', "&quot;").replace('\'', "&apos;")
}

/// `<user>` with an element for each field.
pub(super) fn user_document(fields: &[(&str, String)]) -> Vec<u8> {
    let mut document = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><user>");
    for (name, value) in fields {
        document.push_str(&format!("<{name}>{}</{name}>", escape(value)));
    }
    document.push_str("</user>");
    document.into_bytes()
}

/// `<credentials>` that asks for one user's access token by reference.
pub(super) fn credentials_document(reference: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><credentials><credential reference=\"{}\"/></credentials>",
        escape(reference)
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_spelling_are_read_as_the_same() {
        let root = Element::parse(b"\xef\xbb\xbf<?xml version=\"1.0\"?><!-- c --><v:User xmlns:v='urn:v'><First_Name> A &amp; &#66; <![CDATA[<C>]]></First_Name><x guid='G&lt;'/></v:User>").expect("document");
        assert_eq!((root.name(), root.value("first-name")), ("user", Some("A & B <C>")));
        assert_eq!(root.value_within("guid"), Some("G<"));
    }

    #[test]
    fn a_document_that_defines_or_uses_its_own_entities_is_refused() {
        assert!(Element::parse(b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>").is_none());
        assert!(Element::parse(b"<a>&b;</a>").is_none());
        assert!(Element::parse(b"<a c='&b;'/>").is_none());
    }

    #[test]
    fn everything_but_one_whole_element_is_refused() {
        for document in [
            "",
            " ",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "</a>",
            "<a b></a>",
            "<a b=c/>",
            "<a b='1' b='2'/>",
        ] {
            assert!(Element::parse(document.as_bytes()).is_none(), "{document}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(Element::parse(deep(MAX_DEPTH).as_bytes()).is_some());
        assert!(Element::parse(deep(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(Element::parse(deep(200_000).as_bytes()).is_none());
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(Element::parse(wide(MAX_NODES as usize - 2).as_bytes()).is_some());
        assert!(Element::parse(wide(MAX_NODES as usize - 1).as_bytes()).is_none());
    }

    #[test]
    fn a_value_cannot_break_out_of_its_element() {
        let document = user_document(&[("first-name", "<a>&\"'".to_owned())]);
        assert_eq!(Element::parse(&document).expect("document").value("first-name"), Some("<a>&\"'"));
        let document = credentials_document("\"/><x y=\"");
        assert_eq!(Element::parse(&document).expect("document").value_within("reference"), Some("\"/><x y=\""));
    }
}

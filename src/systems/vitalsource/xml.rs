//! Reads VitalSource's XML into a small tree, and writes the documents that are sent.
//!
//! The rule it keeps: depth and number of elements are limited. A document type, or an entity that the document
//! defines, is refused. Nothing is fetched or expanded.
//!
//! The tree is ours because the kept readers do not have these limits: roxmltree 0.21 compares attributes in pairs and
//! copies namespaces to each child, so a reply of 100 KB takes a minute. It also refuses a control character in a
//! stored name, which a reader of people's data meets.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};

/// The interface's replies are nested only a few levels deep.
const MAX_DEPTH: usize = 16;
/// Enough for about ten thousand licences.
const MAX_ELEMENTS: usize = 50_000;
/// A licence has about a dozen.
const MAX_ATTRIBUTES: usize = 64;

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
        let text = std::str::from_utf8(bytes).ok()?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        let mut count = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    count += 1;
                    if root.is_some() || open.len() >= MAX_DEPTH || count > MAX_ELEMENTS {
                        return None;
                    }
                    open.push(begin(&start)?);
                }
                Event::Empty(start) => {
                    count += 1;
                    if root.is_some() || open.len() >= MAX_DEPTH || count > MAX_ELEMENTS {
                        return None;
                    }
                    close(begin(&start)?, &mut open, &mut root);
                }
                Event::End(_) => close(open.pop()?, &mut open, &mut root),
                Event::Text(text) => put(&text.xml10_content(), &mut open)?,
                Event::CData(text) => put(&text.xml10_content(), &mut open)?,
                Event::GeneralRef(reference) => {
                    let element = open.last_mut()?;
                    match reference.resolve_char_ref().ok()? {
                        Some(character) => element.text.push(character),
                        None => element.text.push_str(resolve_predefined_entity(&reference.xml10_content())?),
                    }
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::DocType(_) => return None,
                Event::Eof => return if open.is_empty() { root } else { None },
            }
        }
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

fn begin(start: &BytesStart<'_>) -> Option<Element> {
    let mut element = Element { name: plain(start.local_name().as_ref())?, ..Element::default() };
    for (count, attribute) in start.attributes().enumerate() {
        // Each is compared with all before it.
        if count >= MAX_ATTRIBUTES {
            return None;
        }
        let attribute = attribute.ok()?;
        // A namespace declaration has no content.
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
        element.attributes.push((plain(attribute.key.local_name().as_ref())?, value.into_owned()));
    }
    Some(element)
}

fn plain(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_ascii_lowercase().replace('_', "-"))
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

/// Text outside the root must be white space.
fn put(text: &str, open: &mut [Element]) -> Option<()> {
    match open.last_mut() {
        Some(element) => {
            element.text.push_str(text);
            Some(())
        }
        None => text.trim().is_empty().then_some(()),
    }
}

/// `<user>` with an element a field.
pub(super) fn user_document(fields: &[(&str, String)]) -> Vec<u8> {
    let mut document = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><user>");
    for (name, value) in fields {
        document.push_str(&format!("<{name}>{}</{name}>", escape(value.as_str())));
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
        let root = Element::parse(b"\xef\xbb\xbf<?xml version=\"1.0\"?><!-- c --><v:User><First_Name> A &amp; &#66; <![CDATA[<C>]]></First_Name><x guid='G&lt;'/></v:User>").expect("document");
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
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(Element::parse(wide(MAX_ELEMENTS - 1).as_bytes()).is_some());
        assert!(Element::parse(wide(MAX_ELEMENTS).as_bytes()).is_none());
    }

    #[test]
    fn attributes_and_namespaces_are_bounded() {
        for name in ["a", "xmlns:a"] {
            let wide = |count: usize| {
                let attributes: String = (0..count).map(|number| format!(" {name}{number}='v'")).collect();
                format!("<a{attributes}/>")
            };
            assert!(Element::parse(wide(MAX_ATTRIBUTES).as_bytes()).is_some(), "{name}");
            assert!(Element::parse(wide(MAX_ATTRIBUTES + 1).as_bytes()).is_none(), "{name}");
            assert!(Element::parse(wide(200_000).as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn a_stored_value_never_makes_a_reply_unreadable() {
        for (document, name) in [
            ("<user><first-name>A\u{b}B</first-name></user>", "A\u{b}B"),
            ("<user><first-name>A&#11;B</first-name></user>", "A\u{b}B"),
            ("<v:user><first-name xsi:nil='true'>A]]>B</first-name></v:user>", "A]]>B"),
            (" <?xml version='1.0'?><!-- a -- b --><user><first-name>A</first-name></user>", "A"),
        ] {
            let root = Element::parse(document.as_bytes());
            assert_eq!(root.as_ref().and_then(|root| root.value("first-name")), Some(name), "{document}");
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_element() {
        let document = user_document(&[("first-name", "<a>&\"'".to_owned())]);
        assert_eq!(Element::parse(&document).expect("document").value("first-name"), Some("<a>&\"'"));
        let document = credentials_document("\"/><x y=\"");
        assert_eq!(Element::parse(&document).expect("document").value_within("reference"), Some("\"/><x y=\""));
    }
}

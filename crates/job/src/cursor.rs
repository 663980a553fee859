//! Reads JSON field by field, and knows the path of every fault.
//!
//! The rule it keeps: nothing is ignored (unknown and duplicate fields are errors) and no error
//! shows a value, because values name people.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// Every field of a job and of a cancellation.
const FIELDS: [&str; 45] = [
    "schema",
    "job_id",
    "tenant",
    "environment",
    "mode",
    "requested_at",
    "regulation",
    "due_at",
    "confirmation",
    "approval",
    "requested_by",
    "confirmed_at",
    "by",
    "receipt_salt",
    "retry",
    "extensions",
    "targets",
    "system",
    "flow",
    "method",
    "customer_id",
    "customer_email",
    "customer_token",
    "customer_password",
    "member",
    "member_id",
    "integration_id",
    "card_id",
    "database_id",
    "access_token",
    "current_password",
    "password",
    "otp_code",
    "email",
    "guid",
    "reference",
    "codes",
    "code",
    "redeemed_at",
    "percent_read",
    "overwrite",
    "first_name",
    "last_name",
    "subject",
    "proofs",
];

/// A fault in a message: its path, and the expected value. Holds no value of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {expected}")]
pub struct Invalid {
    /// The field's path, such as `targets[2].member.card_id`; `body` for the whole.
    pub path: String,
    /// The expected value.
    pub expected: String,
}

impl Invalid {
    /// An error at a path.
    pub fn at(path: impl Into<String>, expected: impl Into<String>) -> Invalid {
        Invalid { path: path.into(), expected: expected.into() }
    }
}

/// A JSON value in which no object has a field twice.
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string, wiped when dropped.
    Text(Zeroizing<String>),
    /// An array.
    List(Vec<Node>),
    /// An object's fields in order.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Parses a whole body and refuses duplicate fields: two readers could use different ones. The parser limits the
    /// depth to 128.
    pub fn parse(body: &[u8]) -> Result<Node, Invalid> {
        let node = Node::parse_any(body)?;
        node.refuse_duplicates()?;
        Ok(node)
    }

    /// As [`Node::parse`], but duplicate fields are allowed. The content of the object `extensions` belongs to the
    /// publisher and is ignored.
    pub fn parse_any(body: &[u8]) -> Result<Node, Invalid> {
        // A byte order mark means nothing in UTF-8, but some tools write one.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.is_empty() {
            return Err(Invalid::at("body", "is empty; expected a JSON object"));
        }
        if let Some(is) = other_encoding(body) {
            return Err(Invalid::at("body", is));
        }
        let text = std::str::from_utf8(body)
            .map_err(|error| Invalid::at("body", format!("is not UTF-8 (byte {})", error.valid_up_to())))?;
        let (trail, mut json) = (RefCell::default(), serde_json::Deserializer::from_str(text));
        let read = NodeSeed { trail: &trail, reads: Reads::Body }.deserialize(&mut json);
        read.and_then(|node| json.end().map(|()| node)).map_err(|error| not_json(text, &error, trail.into_inner()))
    }

    /// Refuses duplicate fields, wherever they are.
    pub fn refuse_duplicates(&self) -> Result<(), Invalid> {
        match self.duplicate() {
            None => Ok(()),
            Some(path) => Err(Invalid::at(path, "appears twice; expected each field once")),
        }
    }

    /// The path of the first field that its object has twice.
    fn duplicate(&self) -> Option<String> {
        match self {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => None,
            Node::List(items) => {
                let within =
                    |(index, item): (usize, &Node)| item.duplicate().map(|path| join(&format!("[{index}]"), &path));
                items.iter().enumerate().find_map(within)
            }
            Node::Object(fields) => {
                // An error's name for a field is made only if there is an error.
                let within = |(name, node): &(String, Node)| node.duplicate().map(|path| join(&shown(name), &path));
                twice(fields).map(shown).or_else(|| fields.iter().find_map(within))
            }
        }
    }

    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::Text(_) => "a string",
            Node::List(_) => "an array",
            Node::Object(_) => "an object",
        }
    }
}

/// The description of a body that is not UTF-8, if its first bytes show its form.
fn other_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("is compressed with gzip; expected the JSON itself, without a content-encoding"),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => {
            Some("is compressed with deflate; expected the JSON itself, without a content-encoding")
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("is compressed with zstd; expected the JSON itself, without a content-encoding")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', ..] => Some("is UTF-16; expected UTF-8"),
        _ => None,
    }
}

/// The text of a syntax error names a position and a rule, never the text at that position.
fn not_json(text: &str, error: &serde_json::Error, trail: Vec<String>) -> Invalid {
    let mut problem = error.to_string();
    if !text.contains('\n') {
        problem = problem.replace(" at line 1 column ", " at column ");
    }
    // The body has the form of JSON, but one of its values cannot be read.
    let is_value = problem.contains("hex escape") || problem.starts_with("number out of range");
    let path = trail.iter().rev().fold(String::new(), |path, name| join(&path, name));
    let at = if is_value && !path.is_empty() { path } else { "body".to_owned() };
    Invalid::at(at, format!("is not JSON: {problem}"))
}

/// The part of a value that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// All of it; of the field `extensions` only the kind.
    Body,
    /// All of it.
    Whole,
    /// The kind. Its content need not be readable text, and may have any depth.
    Kind,
}

/// Reads a value. After an error the path to the fault is in `trail`, from the inside to the outside.
#[derive(Clone, Copy)]
struct NodeSeed<'t> {
    trail: &'t RefCell<Vec<String>>,
    reads: Reads,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value.to_owned())))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        if self.reads == Reads::Kind {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Node::List(list));
        }
        let within = NodeSeed { reads: Reads::Whole, ..self };
        let failed = |_: &A::Error, index: usize| self.trail.borrow_mut().push(format!("[{index}]"));
        while let Some(item) = items.next_element_seed(within).inspect_err(|error| failed(error, list.len()))? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        if self.reads == Reads::Kind {
            while fields.next_key::<AnyName>()?.is_some() {
                fields.next_value::<IgnoredAny>()?;
            }
            return Ok(Node::Object(object));
        }
        while let Some(name) = fields.next_key::<String>()? {
            let is_passed_over = self.reads == Reads::Body && name == "extensions";
            let reads = if is_passed_over { Reads::Kind } else { Reads::Whole };
            let value = fields.next_value_seed(NodeSeed { reads, ..self });
            let node = value.inspect_err(|_| self.trail.borrow_mut().push(shown(&name)))?;
            object.push((name, node));
        }
        Ok(Node::Object(object))
    }
}

/// A field's name in any form: read as bytes, since it need not be text.
struct AnyName;

impl<'de> Deserialize<'de> for AnyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyName, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = AnyName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }
            fn visit_bytes<E>(self, _: &[u8]) -> Result<AnyName, E> {
                Ok(AnyName)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// An object's fields, taken one by one; a field that is left at the end is unknown.
pub struct Object<'a> {
    path: String,
    fields: &'a [(String, Node)],
    taken: Vec<&'static str>,
    forms: Forms,
}

/// The forms that the leaves of a message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// The forms of this release.
    Todays,
    /// The forms of any release: the message was accepted before.
    AnyReleases,
}

impl<'a> Object<'a> {
    /// Opens an object whose leaves have this release's forms.
    pub fn open(node: &'a Node, path: impl Into<String>) -> Result<Object<'a>, Invalid> {
        Object::open_with(node, path, Forms::Todays)
    }

    /// Opens an object.
    pub fn open_with(node: &'a Node, path: impl Into<String>, forms: Forms) -> Result<Object<'a>, Invalid> {
        let path = path.into();
        let Node::Object(fields) = node else {
            let at = if path.is_empty() { "body".to_owned() } else { path };
            return Err(Invalid::at(at, format!("expected an object, found {}", node.noun())));
        };
        Ok(Object { path, fields, taken: Vec::new(), forms })
    }

    /// Opens an object within it.
    pub fn within(&self, node: &'a Node, path: impl Into<String>) -> Result<Object<'a>, Invalid> {
        Object::open_with(node, path, self.forms)
    }

    /// The forms of its leaves.
    pub const fn forms(&self) -> Forms {
        self.forms
    }

    /// The path of one of its fields.
    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Takes a field as it is.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        self.taken.push(name);
        self.fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    /// Takes a string.
    pub fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(Invalid::at(self.path_of(name), format!("expected a string, found {}", other.noun()))),
        }
    }

    /// Takes a string that must be there.
    pub fn need_text(&mut self, name: &'static str) -> Result<&'a str, Invalid> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// Takes a boolean.
    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Node::Bool(value)) => Ok(Some(*value)),
            Some(other) => {
                Err(Invalid::at(self.path_of(name), format!("expected true or false, found {}", other.noun())))
            }
        }
    }

    /// Takes a number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Node::Number(value)) => Ok(value.as_f64()),
            Some(other) => Err(Invalid::at(self.path_of(name), format!("expected a number, found {}", other.noun()))),
        }
    }

    /// Takes an array.
    pub fn list(&mut self, name: &'static str) -> Result<Option<&'a [Node]>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Node::List(items)) => Ok(Some(items)),
            Some(other) => Err(Invalid::at(self.path_of(name), format!("expected an array, found {}", other.noun()))),
        }
    }

    /// Takes all fields, of an object whose names are not known here.
    pub fn take_all(self) -> &'a [(String, Node)] {
        self.fields
    }

    /// The error for a field that must be there and is not.
    pub fn missing(&self, name: &str) -> Invalid {
        Invalid::at(self.path_of(name), "is missing and required")
    }

    /// Refuses every field that was not taken.
    pub fn finish(self) -> Result<(), Invalid> {
        match self.fields.iter().find(|(name, _)| !self.taken.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let mut expected = format!("is not a field here; expected one of {}", self.taken.join(", "));
                if self.taken.is_empty() {
                    expected = "is not a field here; expected none".to_owned();
                }
                Err(Invalid::at(join(&self.path, &shown(name)), expected))
            }
        }
    }
}

/// The first name that appeared before.
fn twice(fields: &[(String, Node)]) -> Option<&str> {
    // For few names, comparing is cheaper than hashing.
    const FEW: usize = 16;
    let names = || fields.iter().map(|(name, _)| name.as_str());
    if fields.len() <= FEW {
        return names()
            .enumerate()
            .find(|(index, name)| names().take(*index).any(|before| before == *name))
            .map(|(_, name)| name);
    }
    let mut seen = HashSet::with_capacity(fields.len());
    names().find(|name| !seen.insert(*name))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else if name.starts_with('[') {
        format!("{path}{name}")
    } else {
        format!("{path}.{name}")
    }
}

/// A field's name is shown only if it is one of ours or similar: by mistake a publisher may have put an identifier in
/// its place.
pub(crate) fn shown(name: &str) -> String {
    let resembles = |field: &str| strsim::damerau_levenshtein(field, name) <= field.len() / 4;
    let ours = name.len() <= 40 && name.is_ascii() && FIELDS.iter().any(|field| resembles(field));
    if ours { name.to_owned() } else { format!("<a field name of {} bytes>", name.len()) }
}

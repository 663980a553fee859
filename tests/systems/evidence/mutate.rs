//! Mutations of a reply: each changes its status, its form or its type.
//!
//! The rule it keeps: each mutation has a name, so that a breach is readable and neutral mutations can be listed.

use erasure_worker::sandbox::Page;
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// A mutated reply.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The sort: `status`, `page`, `removed`, `nulled`, …
    pub what: &'static str,
    /// The place: a path within the body, a status, a page's name.
    pub place: String,
    pub reply: Reply,
}

const STATUSES: [u16; 9] = [200, 204, 401, 403, 404, 410, 422, 500, 502];

/// Every mutation of a reply.
pub fn all(reply: &Reply) -> Vec<Mutation> {
    let mut found = pages();
    let mut put = |what, place: String, changed: Reply| {
        if changed != *reply {
            found.push(Mutation { what, place, reply: changed });
        }
    };
    for status in STATUSES {
        // A 204 has no body.
        let body = if status == 204 { Vec::new() } else { reply.body.clone() };
        put("status", status.to_string(), Reply { status, body, ..reply.clone() });
    }
    for part in [1, 2, 3, 4] {
        let length = if part == 4 { reply.body.len().saturating_sub(1) } else { reply.body.len() * part / 4 };
        put("truncated", format!("{part}/4"), Reply { body: reply.body[..length].to_vec(), ..reply.clone() });
    }
    for content_type in ["text/html", "application/octet-stream", ""] {
        put("content_type", content_type.to_owned(), Reply { content_type: content_type.into(), ..reply.clone() });
    }
    let bodies = match serde_json::from_slice::<Value>(&reply.body) {
        Ok(value) => json_bodies(&value),
        Err(_) => Node::parse(&reply.body).map(|root| xml_bodies(&root)).unwrap_or_default(),
    };
    for (what, place, body) in bodies {
        put(what, place, Reply { body, ..reply.clone() });
    }
    found
}

/// Every page of a gateway, with every usual status.
pub fn pages() -> Vec<Mutation> {
    let mut found = Vec::new();
    for page in Page::ALL {
        for status in [200, 401, 404, 502] {
            let (content_type, body) = page.content(status);
            let reply = Reply { status, content_type: content_type.to_owned(), body: body.into_bytes() };
            found.push(Mutation { what: "page", place: format!("{page:?} {status}"), reply });
        }
    }
    found
}

/// Names and values.
type Attributes = Vec<(String, String)>;
type Bodies = Vec<(&'static str, String, Vec<u8>)>;

fn json_bodies(root: &Value) -> Bodies {
    let mut found: Bodies = vec![
        ("wrapped", "envelope".into(), json!({ "envelope": root }).to_string().into_bytes()),
        ("wrapped", "array".into(), json!([root]).to_string().into_bytes()),
        ("retyped", "/".into(), json!(root.to_string()).to_string().into_bytes()),
        ("nulled", "/".into(), b"null".to_vec()),
        ("emptied", "/".into(), b"{}".to_vec()),
    ];
    let mut places = Vec::new();
    json_places(root, "", &mut places);
    for place in places {
        let Some(value) = root.pointer(&place) else { continue };
        let mut with = |what, changed: Value| {
            let mut copy = root.clone();
            if let Some(target) = copy.pointer_mut(&place) {
                *target = changed;
            }
            found.push((what, place.clone(), copy.to_string().into_bytes()));
        };
        with("nulled", Value::Null);
        for retyped in [json!("x"), json!(7), json!(true), json!([value]), json!({ "value": value })] {
            if std::mem::discriminant(&retyped) != std::mem::discriminant(value) || retyped.is_array() {
                with("retyped", retyped);
            }
        }
        match value {
            Value::String(_) => with("emptied", json!("")),
            Value::Array(_) => with("emptied", json!([])),
            Value::Object(_) => with("emptied", json!({})),
            _ => {}
        }
        // An unknown field.
        if value.is_object() {
            for (name, extra) in
                [("extra", json!({ "rows": [1] })), ("error", json!("Service is busy")), ("total", json!(7))]
            {
                let mut more = value.clone();
                more[name] = extra;
                with("added", more);
            }
        }
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        let mut copy = root.clone();
        match copy.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&name.replace("~1", "/").replace("~0", "~"))),
            Some(Value::Array(items)) => drop(items.remove(name.parse().expect("an index"))),
            _ => continue,
        }
        found.push(("removed", place.clone(), copy.to_string().into_bytes()));
    }
    for (name, extra) in [("extra", json!({ "rows": [1] })), ("error", json!("Service is busy")), ("total", json!(7))] {
        if root.is_object() {
            let mut more = root.clone();
            more[name] = extra;
            found.push(("added", format!("/{name}"), more.to_string().into_bytes()));
        }
    }
    found
}

fn json_places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                json_places(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                json_places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// An element of a reply in XML.
#[derive(Debug, Clone, Default)]
struct Node {
    name: String,
    attributes: Attributes,
    text: String,
    children: Vec<Node>,
}

impl Node {
    fn parse(bytes: &[u8]) -> Option<Node> {
        let mut reader = Reader::from_str(std::str::from_utf8(bytes).ok()?);
        let mut open = vec![Node::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => open.push(Node::begin(&start)?),
                Event::Empty(start) => {
                    let node = Node::begin(&start)?;
                    open.last_mut()?.children.push(node);
                }
                Event::End(_) => {
                    let node = open.pop()?;
                    open.last_mut()?.children.push(node);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&unescape(&text).ok()?),
                Event::Eof => break,
                _ => {}
            }
        }
        open.pop()?.children.pop()
    }

    fn begin(start: &BytesStart<'_>) -> Option<Node> {
        let mut node = Node { name: start.name().as_ref().to_owned(), ..Node::default() };
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            node.attributes.push((attribute.key.as_ref().to_owned(), unescape(&attribute.value).ok()?.into_owned()));
        }
        Some(node)
    }

    fn write(&self, out: &mut String) {
        let attributes: String =
            self.attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", escape(value.as_str()))).collect();
        out.push_str(&format!("<{}{attributes}>{}", self.name, escape(self.text.as_str())));
        self.children.iter().for_each(|child| child.write(out));
        out.push_str(&format!("</{}>", self.name));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = String::new();
        self.write(&mut out);
        out.into_bytes()
    }

    fn at(&mut self, path: &[usize]) -> &mut Node {
        match path.split_first() {
            None => self,
            Some((first, rest)) => self.children[*first].at(rest),
        }
    }

    fn places(&self, at: &[usize], name: &str, found: &mut Vec<(Vec<usize>, String)>) {
        found.push((at.to_vec(), name.to_owned()));
        for (index, child) in self.children.iter().enumerate() {
            child.places(&[at, &[index]].concat(), &format!("{name}/{}", child.name), found);
        }
    }
}

fn xml_bodies(root: &Node) -> Bodies {
    let mut found: Bodies = Vec::new();
    let wrapped = Node { name: "envelope".into(), children: vec![root.clone()], ..Node::default() };
    found.push(("wrapped", "envelope".into(), wrapped.bytes()));
    let mut places = Vec::new();
    root.places(&[], &root.name, &mut places);
    for (path, place) in places {
        let mut with = |what, change: &dyn Fn(&mut Node)| {
            let mut copy = root.clone();
            change(copy.at(&path));
            found.push((what, place.clone(), copy.bytes()));
        };
        with("emptied", &|node| *node = Node { name: node.name.clone(), ..Node::default() });
        with("nulled", &|node| {
            *node =
                Node { name: node.name.clone(), attributes: vec![("nil".into(), "true".into())], ..Node::default() };
        });
        with("renamed", &|node| node.name = format!("x-{}", node.name));
        with("retyped", &|node| {
            let inner = Node { name: "value".into(), text: std::mem::take(&mut node.text), ..Node::default() };
            node.children.push(inner);
        });
        with("text", &|node| node.text = "Service is busy, try again later".into());
        with("text", &|node| node.text = format!("Not {}", node.text));
        with("added", &|node| node.children.push(Node { name: "page".into(), text: "2".into(), ..Node::default() }));
        with("added", &|node| node.attributes.push(("total".into(), "7".into())));
        with("paged", &|node| {
            let children = std::mem::take(&mut node.children);
            node.children.push(Node { name: "page".into(), children, ..Node::default() });
        });
        let attributes = root.clone().at(&path).attributes.clone();
        for (index, (name, _)) in attributes.iter().enumerate() {
            let mut with = |what, change: &dyn Fn(&mut Attributes)| {
                let mut copy = root.clone();
                change(&mut copy.at(&path).attributes);
                found.push((what, format!("{place}@{name}"), copy.bytes()));
            };
            with("removed", &|attributes| drop(attributes.remove(index)));
            with("emptied", &|attributes| attributes[index].1.clear());
            with("retyped", &|attributes| attributes[index].1 = "x".into());
            with("renamed", &|attributes| attributes[index].0 = format!("x-{name}"));
        }
        if let Some((last, parent)) = path.split_last() {
            let mut copy = root.clone();
            copy.at(parent).children.remove(*last);
            found.push(("removed", place.clone(), copy.bytes()));
        }
    }
    found
}

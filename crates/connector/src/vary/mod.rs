//! Documents made from a connector file: replies that satisfy its conditions, changed replies, and changed files.
//!
//! The rule it keeps: nothing here judges. The same file gives the same documents in the same order.

pub mod files;
pub mod replies;
mod satisfy;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::document::Document;
use crate::matching::Reply;
use crate::model::Example;

pub use satisfy::documents;

/// A reply that a stand-in gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The status.
    pub status: u16,
    /// The headers, without the content type.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Content,
}

/// A reply's body.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// None.
    Empty,
    /// JSON.
    Json(Value),
    /// Any other text, as it stands.
    Text(String),
}

impl Given {
    /// A reply without headers.
    pub fn new(status: u16, body: Content) -> Self {
        Given { status, headers: BTreeMap::new(), body }
    }

    /// A recorded reply, as it stands.
    pub fn recorded(example: &Example) -> Self {
        let body = match serde_json::from_str(&example.body) {
            _ if example.body.trim().is_empty() => Content::Empty,
            Ok(value) => Content::Json(value),
            Err(_) => Content::Text(example.body.clone()),
        };
        Given { status: example.status, headers: example.headers.clone(), body }
    }

    /// The body's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Content::Empty => Vec::new(),
            Content::Json(value) => value.to_string().into_bytes(),
            Content::Text(text) => text.clone().into_bytes(),
        }
    }

    /// The content type that a vendor sends with it.
    pub fn content_type(&self) -> &'static str {
        match self.body {
            Content::Json(_) | Content::Empty => "application/json",
            Content::Text(_) => "text/plain; charset=utf-8",
        }
    }

    /// As the client reads it.
    pub fn reply(&self) -> Reply {
        let mut headers: Vec<(String, String)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), self.content_type().to_owned()));
        }
        match &self.body {
            Content::Empty => Reply::of(self.status, headers, Document::Empty),
            Content::Json(value) => Reply::of(self.status, headers, Document::Json(value.clone())),
            Content::Text(text) => Reply::new(self.status, headers, text.as_bytes()),
        }
    }
}

/// Sets the value at a place. Objects and lists around it are made; false if another value stands in the way.
pub(crate) fn put(tree: &mut Value, names: &[String], value: Value) -> bool {
    let Some((name, rest)) = names.split_first() else {
        *tree = value;
        return true;
    };
    if tree.is_null() {
        *tree = if name == "0" { Value::Array(Vec::new()) } else { Value::Object(serde_json::Map::new()) };
    }
    match tree {
        Value::Object(members) => put(members.entry(name.clone()).or_insert(Value::Null), rest, value),
        Value::Array(members) => {
            let Ok(index) = name.parse::<usize>() else { return false };
            if index == members.len() {
                members.push(Value::Null);
            }
            members.get_mut(index).is_some_and(|member| put(member, rest, value))
        }
        _ => false,
    }
}
